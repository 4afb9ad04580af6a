"""The base of every word: a frozen dataclass that reads and writes a plain mapping.

A field says how its raw value is parsed (``spec_field(parse=…)``); unknown keys are
refused with the known ones listed, and every error names the place it came from.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Self

from airflow_dla.errors import InvalidSpec

#: What a parser gets is a raw value and the place it stands in, for messages.
Parse = Callable[[Any, str], Any]

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """Base of the words that cross a process border as plain JSON.

    Examples
    --------
    >>> from airflow_dla.specs import JobPolicy
    >>> JobPolicy.from_mapping({"priority": "5"}).to_mapping()
    {'priority': 5}
    """

    #: What one of these is called in an error message.
    called: ClassVar[str] = "mapping"

    @classmethod
    def from_mapping(cls, raw: object, where: str | None = None) -> Self:
        """Read and check a plain mapping, as Jinja or JSON left it.

        Parameters
        ----------
        raw : mapping
            Keys are field names; numbers may have become strings.
        where : str, default what the class is called
            Named in errors.

        Raises
        ------
        InvalidSpec
            If `raw` is no mapping, a key is unknown, or a value breaks its rule.
        """
        where = where or cls.called
        values = mapping(raw, where)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        refuse_unknown(values, fields, where)
        read = {name: fields[name].metadata["parse"](value, f"{where}.{name}") for name, value in values.items()}
        missing = [name for name, field in fields.items() if name not in read and _required(field)]
        if missing:
            raise InvalidSpec(f"{where} lacks {', '.join(missing)}; it has {', '.join(values) or 'nothing'}")
        return cls(**read)

    def to_mapping(self) -> dict[str, Any]:
        """Write the fields that differ from their default as plain JSON values."""
        values = [(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
        return {field.name: plain(value) for field, value in values if _required(field) or value != _default(field)}


def spec_field(parse: Parse, *, default: Any = dataclasses.MISSING, factory: Any = dataclasses.MISSING) -> Any:
    """Declare a field of a `Spec` with the function that parses its raw value."""
    metadata = {"parse": parse}
    if factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def plain(value: Any) -> Any:
    """Turn a field's value into what ``json.dumps`` takes."""
    if hasattr(value, "to_mapping"):
        return value.to_mapping()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any] | Sequence[str], where: str) -> None:
    """Refuse keys that nobody knows, naming the nearest known one."""
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), list(known), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidSpec(f"{where}: unknown key {key!r}; known are {', '.join(known)}{hint}")


def mapping(raw: object, where: str) -> Mapping[str, Any]:
    """Check that a raw value is a mapping with string keys."""
    if not isinstance(raw, Mapping):
        raise InvalidSpec(f"{where} must be a mapping, got {_shown(raw)}{_jinja_hint(raw)}")
    for key in raw:
        if not isinstance(key, str):
            raise InvalidSpec(f"{where}: keys must be strings, got {_shown(key)}")
    return raw


def _jinja_hint(raw: object) -> str:
    if isinstance(raw, str) and raw.startswith("{"):
        return "; a whole mapping written as a Jinja template renders to text: put templates inside the mapping"
    return ""


def _shown(raw: object) -> str:
    text = repr(raw)
    return f"{type(raw).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


def text(raw: object, where: str) -> str:
    """Parse a string that is not empty."""
    if not isinstance(raw, str) or not raw.strip():
        raise InvalidSpec(f"{where} must be a non-empty string, got {_shown(raw)}")
    return raw


def identifier(raw: object, where: str) -> str:
    """Parse a name: letters, digits, ``.``, ``_``, ``-``; at most 63 characters."""
    found = text(raw, where)
    if not _NAME.fullmatch(found):
        raise InvalidSpec(f"{where} must be 1 to 63 of A-Z a-z 0-9 . _ - and begin and end with a letter or digit, got {found!r}")
    return found


def number(raw: object, where: str) -> float:
    """Parse a finite number, also one that became a string."""
    try:
        if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
            raise ValueError(raw)
        found = float(raw)
    except ValueError:
        raise InvalidSpec(f"{where} must be a number, got {_shown(raw)}") from None
    if not math.isfinite(found):
        raise InvalidSpec(f"{where} must be finite, got {found}")
    return found


def amount(raw: object, where: str) -> float:
    """Parse a finite number that is not negative."""
    found = number(raw, where)
    if found < 0:
        raise InvalidSpec(f"{where} must be >= 0, got {found:g}")
    return found


def integer(raw: object, where: str) -> int:
    """Parse a whole number."""
    found = number(raw, where)
    if found != int(found):
        raise InvalidSpec(f"{where} must be a whole number, got {found}")
    return int(found)


def boolean(raw: object, where: str) -> bool:
    """Parse a truth value, also ``"true"`` and ``"false"`` as Jinja leaves them."""
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in {"true", "false"}:
        return raw.strip().lower() == "true"
    raise InvalidSpec(f"{where} must be true or false, got {_shown(raw)}")


def seconds(raw: object, where: str) -> float:
    """Parse a duration: seconds, ``"90s"``, ``"30m"``, ``"2h"``, ``"1d"`` or a timedelta.

    Examples
    --------
    >>> seconds("1.5h", "policy.run_timeout")
    5400.0
    """
    if isinstance(raw, timedelta):
        return amount(raw.total_seconds(), where)
    if isinstance(raw, str) and (match := _DURATION.fullmatch(raw.strip())):
        return float(match[1]) * _SECONDS[match[2]]
    if isinstance(raw, str):
        raise InvalidSpec(f"{where} must be a duration such as 90, '90s', '30m', '2h' or '1d', got {raw!r}")
    return amount(raw, where)


def optional(parse: Parse) -> Parse:
    """Make a parser that lets None through."""
    return lambda raw, where: None if raw is None else parse(raw, where)


def choice(*known: str) -> Parse:
    """Make a parser for one of a few words."""

    def parse(raw: object, where: str) -> str:
        if raw not in known:
            raise InvalidSpec(f"{where} must be one of {', '.join(known)}, got {_shown(raw)}")
        return str(raw)

    return parse


def member(kind: type[enum.Enum]) -> Parse:
    """Make a parser for a member of an enumeration, by value."""

    def parse(raw: object, where: str) -> enum.Enum:
        try:
            return kind(raw)
        except ValueError:
            known = ", ".join(str(item.value) for item in kind)
            raise InvalidSpec(f"{where} must be one of {known}, got {_shown(raw)}") from None

    return parse


def sequence_of(parse: Parse) -> Parse:
    """Make a parser for a list; it becomes a tuple."""

    def parse_all(raw: object, where: str) -> tuple[Any, ...]:
        if isinstance(raw, str) or not isinstance(raw, Sequence):
            raise InvalidSpec(f"{where} must be a list, got {_shown(raw)}")
        return tuple(parse(item, f"{where}[{index}]") for index, item in enumerate(raw))

    return parse_all


def mapping_of(parse: Parse, key: Parse = text) -> Parse:
    """Make a parser for a mapping whose values are parsed one by one."""

    def parse_all(raw: object, where: str) -> dict[str, Any]:
        items = mapping(raw, where).items()
        return {key(k, f"{where} key"): parse(value, f"{where}.{k}") for k, value in items}

    return parse_all


def json_value(raw: object, where: str) -> Any:
    """Check that a value is what JSON can say: scalars, lists, mappings."""
    if raw is None or isinstance(raw, (str, int, float, bool)):
        return raw
    if isinstance(raw, Mapping):
        return {text(key, where): json_value(value, f"{where}.{key}") for key, value in raw.items()}
    if isinstance(raw, (list, tuple)):
        return [json_value(item, f"{where}[{index}]") for index, item in enumerate(raw)]
    raise InvalidSpec(f"{where} must be a plain JSON value, got {_shown(raw)}")
