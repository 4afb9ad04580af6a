"""Parsers of raw values, as Jinja, YAML or JSON left them.

Each takes a value and the place it stands in, and returns what it means or raises
`InvalidSpec` with the value, the rule and the place. Numbers may have become strings.
"""

from __future__ import annotations

import difflib
import enum
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_dla.errors import InvalidSpec, SecretExposed

#: What a parser gets is a raw value and the place it stands in, for messages.
Parse = Callable[[Any, str], Any]

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WHOLE = re.compile(r"[+-]?\d{1,24}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
#: ``//user:password@``; the digits of ``//host:8080/a@b`` are a port.
_PASSWORD = re.compile(r"//[^:/@?#\s]*:(?!\d+[/?#])[^@]+@")
#: Integers in JSON, databases and tensors end here.
_BITS = 64
#: Characters of a value that an error message shows.
_SHOWN = 80


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
    try:
        written = repr(raw)
    except ValueError:  # Python does not write integers of more than 4,300 digits
        return f"{type(raw).__name__}, too long to show"
    return f"{type(raw).__name__} {written if len(written) <= _SHOWN else written[:_SHOWN] + '…'}"


def storable(raw: str, where: str) -> str:
    """Check that a string can be stored anywhere, and shown to anybody.

    Raises
    ------
    SecretExposed
        If it holds a URL with a password; the message does not repeat it.
    InvalidSpec
        If it holds a NUL character or half a character, which databases refuse.
    """
    if _UNSTORABLE.search(raw):
        raise InvalidSpec(f"{where} must be text without NUL characters and lone surrogates, got {_shown(raw)}")
    if _PASSWORD.search(raw):
        raise SecretExposed(f"{where} must not hold a URL with a password; put it into an Airflow connection and name that")
    return raw


def text(raw: object, where: str) -> str:
    """Parse a string that is not empty."""
    if not isinstance(raw, str) or not raw.strip():
        raise InvalidSpec(f"{where} must be a non-empty string, got {_shown(raw)}")
    return storable(raw, where)


def written(pattern: str, rule: str, *, empty: bool = False) -> Parse:
    """Make a parser of text that is written like a regular expression, with the rule in words.

    Parameters
    ----------
    empty : bool
        Whether the pattern is asked also about no text at all.
    """
    wanted = re.compile(pattern)

    def parse(raw: object, where: str) -> str:
        found = "" if empty and raw == "" else text(raw, where)
        if not wanted.fullmatch(found):
            raise InvalidSpec(f"{where} must be {rule}, got {found!r:.80}")
        return found

    return parse


def remark(raw: object, where: str) -> str:
    """Parse a sentence for a person: any text, also none; what cannot be stored is replaced."""
    if not isinstance(raw, str):
        raise InvalidSpec(f"{where} must be a string, got {_shown(raw)}")
    return raw.replace("\0", "�").encode("utf-8", "replace").decode()


def identifier(raw: object, where: str) -> str:
    """Parse a name: letters, digits, ``.``, ``_``, ``-``; at most 63 characters."""
    found = text(raw, where)
    if not _NAME.fullmatch(found):
        raise InvalidSpec(f"{where} must be 1 to 63 of A-Z a-z 0-9 . _ - and begin and end with a letter or digit, got {found!r}")
    return found


def number(raw: object, where: str) -> float:
    """Parse a finite number, also one that became a string."""
    found = _number(raw)
    if found is None:
        raise InvalidSpec(f"{where} must be a number, got {_shown(raw)}")
    if not math.isfinite(found):
        raise InvalidSpec(f"{where} must be a finite number, got {_shown(raw)}")
    return found


def _number(raw: object) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    try:
        return float(raw)
    except ValueError:
        return None
    except OverflowError:  # an integer beyond 1e308
        return math.inf


def amount(raw: object, where: str) -> float:
    """Parse a finite number that is not negative."""
    found = number(raw, where)
    if found < 0:
        raise InvalidSpec(f"{where} must be >= 0, got {found:g}")
    return found


def positive(parse: Parse) -> Parse:
    """Make a parser that refuses zero and less."""

    def parse_positive(raw: object, where: str) -> Any:
        found = parse(raw, where)
        if found <= 0:
            raise InvalidSpec(f"{where} must be > 0, got {found:g}")
        return found

    return parse_positive


def integer(raw: object, where: str) -> int:
    """Parse a whole number of at most 64 bits."""
    found = raw if isinstance(raw, int) and not isinstance(raw, bool) else _integer(raw, where)
    if found.bit_length() > _BITS:
        raise InvalidSpec(f"{where} must have at most {_BITS} bits, got one of {found.bit_length()}")
    return found


def _integer(raw: object, where: str) -> int:
    if isinstance(raw, str) and _WHOLE.fullmatch(raw.strip()):
        return int(raw)
    found = number(raw, where)
    if found != int(found):
        raise InvalidSpec(f"{where} must be a whole number, got {found}")
    return int(found)


def natural(raw: object, where: str) -> int:
    """Parse a whole number that is not negative."""
    found = integer(raw, where)
    if found < 0:
        raise InvalidSpec(f"{where} must be >= 0, got {found}")
    return found


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
        return amount(float(match[1]) * _SECONDS[match[2]], where)
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
        if isinstance(raw, (str, bytes)) or not isinstance(raw, Sequence):
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
    if isinstance(raw, Mapping):
        return {text(key, f"{where} key"): json_value(value, f"{where}.{key}") for key, value in raw.items()}
    if isinstance(raw, (list, tuple)):
        return [json_value(item, f"{where}[{index}]") for index, item in enumerate(raw)]
    if isinstance(raw, str):
        return storable(raw, where)
    if raw is None or isinstance(raw, bool):
        return raw
    if isinstance(raw, int):
        return integer(raw, where)
    if isinstance(raw, float):
        return number(raw, where)
    raise InvalidSpec(f"{where} must be a plain JSON value, got {_shown(raw)}")
