"""The base of every word: a frozen dataclass that reads and writes a plain mapping.

A field says how its raw value is parsed (``spec_field(parse=…)``); unknown keys are
refused with the known ones listed, and every error names the place it came from.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.values import Parse, mapping, refuse_unknown

_TEMPLATE = re.compile(r"\{[{%]")


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
    #: What an author may write instead of a field's name.
    short: ClassVar[Mapping[str, str]] = {}

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
        if isinstance(raw, cls):
            return raw
        where = where or cls.called
        fields = {field.name: field for field in dataclasses.fields(cls)}
        values = cls._named(raw, where)
        read = {name: _read(fields[name], value, where) for name, value in values.items()}
        missing = [name for name, field in fields.items() if name not in read and _required(field)]
        if missing:
            raise InvalidSpec(f"{where} lacks {', '.join(missing)}; it has {', '.join(values) or 'nothing'}")
        return cls(**read)

    @classmethod
    def draft(cls, raw: object, where: str | None = None) -> dict[str, Any]:
        """Check a mapping that Jinja has yet to render, and write it plainly.

        Fields that hold a template are kept as they are; they are checked when the task
        runs. So are the rules between fields, unless no field holds one.
        """
        where = where or cls.called
        if not templated(mapping(raw, where)):
            return cls.from_mapping(raw, where).to_mapping()
        fields = {field.name: field for field in dataclasses.fields(cls)}
        values = cls._named(raw, where)
        kept = {name: value if templated(value) else plain(_read(fields[name], value, where)) for name, value in values.items()}
        return {name: _default(field) for name, field in fields.items() if field.metadata["always"]} | kept

    @classmethod
    def _named(cls, raw: object, where: str) -> dict[str, Any]:
        """Return raw values by field."""
        given = mapping(raw, where)
        refuse_unknown(given, [field.name for field in dataclasses.fields(cls)] + list(cls.short), where)
        for short, name in cls.short.items():
            if short in given and name in given:
                raise InvalidSpec(f"{where}: {short!r} and {name!r} are the same; give one")
        return {cls.short.get(key, key): value for key, value in given.items()}

    def to_mapping(self) -> dict[str, Any]:
        """Write the fields that must be there or differ from their default as plain JSON values."""
        values = [(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
        return {field.name: plain(value) for field, value in values if _written(field) or value != _default(field)}


def spec_field(parse: Parse, *, default: Any = dataclasses.MISSING, factory: Any = dataclasses.MISSING, always: bool = False) -> Any:
    """Declare a field of a `Spec` with the function that parses its raw value.

    Parameters
    ----------
    parse : function of a raw value and its place
        Returns the value, or raises `InvalidSpec`.
    default, factory
        As in ``dataclasses.field``.
    always : bool
        Whether it is written also where it equals its default: a version must be.
    """
    metadata = {"parse": parse, "always": always}
    if factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _written(field: dataclasses.Field[Any]) -> bool:
    return field.metadata["always"] or _required(field)


def _read(field: dataclasses.Field[Any], value: Any, where: str) -> Any:
    return field.metadata["parse"](value, f"{where}.{field.name}")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def templated(raw: object) -> bool:
    """Whether a raw value holds a Jinja template, or an upstream task's output, anywhere.

    Examples
    --------
    >>> templated({"cpu": ["{{ params.cpu }}"]})
    True
    """
    if isinstance(raw, str):
        return bool(_TEMPLATE.search(raw))
    if isinstance(raw, Mapping):
        return any(templated(item) for item in raw.values())
    if isinstance(raw, (list, tuple)):
        return any(templated(item) for item in raw)
    return hasattr(type(raw), "iter_references")  # what Airflow's XComArg has, known without importing Airflow


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
