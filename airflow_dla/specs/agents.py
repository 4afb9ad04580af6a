"""Agents: deep-learning models packaged as services, and the entrypoints of their verbs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.resources import Request
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import identifier, json_value, mapping_of, optional, storable, text

#: The verbs that have an operator of their own.
VERBS: Final = ("prepare", "train", "tune", "evaluate", "infer")

_FUNCTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SECRET = re.compile(r"(conn|var|file):.+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclasses.dataclass(frozen=True, slots=True)
class Entrypoint:
    """What runs: a Python function, or a command that knows nothing of us.

    Parameters
    ----------
    function : str or None
        ``"module:function"``; it takes one argument, the job.
    command : tuple of str
        A program and its leading arguments, for example ``("python", "train.py")``.
    """

    function: str | None = None
    command: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: object, where: str) -> Entrypoint:
        """Read ``"module:function"`` or ``["python", "train.py"]``."""
        if isinstance(raw, Entrypoint):
            return raw
        if isinstance(raw, str) and _FUNCTION.fullmatch(raw):
            return cls(function=raw)
        if isinstance(raw, (list, tuple)) and raw and all(isinstance(part, str) for part in raw):
            text(raw[0], f"{where}[0]")
            return cls(command=tuple(storable(part, f"{where}[{index}]") for index, part in enumerate(raw)))
        raise InvalidSpec(f"{where} must be 'module:function' or a command such as ['python', 'train.py'], got {raw!r:.80}")

    def to_mapping(self) -> Any:
        """Write it as the author did: a string or a list."""
        return self.function or list(self.command)

    def __str__(self) -> str:
        return self.function or " ".join(self.command)


def secret(raw: object, where: str) -> str:
    """Parse a secret's place, ``conn:ID``, ``var:NAME`` or ``file:PATH``; never the secret itself."""
    found = text(raw, where)
    if not _SECRET.fullmatch(found):
        raise InvalidSpec(
            f"{where} must say where the secret is: 'conn:ID', 'var:NAME' or 'file:PATH'; the secret itself never goes into a DAG"
        )
    return found


def variable(raw: object, where: str) -> str:
    """Parse the name of an environment variable."""
    found = text(raw, where)
    if not _VARIABLE.fullmatch(found):
        raise InvalidSpec(f"{where} must be a variable's name, of A-Z a-z 0-9 _ and not beginning with a digit, got {found!r}")
    return found


def setting(raw: object, where: str) -> str:
    """Parse the value of an environment variable: a string, also empty, or a number."""
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise InvalidSpec(f"{where} must be a string or a number, got {type(raw).__name__} {raw!r:.80}; quote it as the program expects it")
    return storable(str(raw), where)


def pattern(raw: object, where: str) -> str:
    """Parse a regular expression with one group, the number."""
    found = text(raw, where)
    try:
        groups = re.compile(found).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidSpec(f"{where}: {found!r} is no regular expression: {error}") from None
    if groups != 1:
        raise InvalidSpec(f"{where} must have exactly one group, the number; {found!r} has {groups}; write others as (?:…)")
    return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec(Spec):
    """A deep-learning model packaged as a service.

    Parameters
    ----------
    name : str
        Known to the ledger under this name.
    image : str or None
        Container image; local jobs need none.
    code : str or None
        Folder relative to the DAG file that is shipped with each job; ``"."``, the DAG
        file's folder, by default; None when everything is in the image.
    entrypoints : mapping of verb to `Entrypoint`
        Each verb's operator takes the entrypoint of its own name.
    request : `Request` or None
        What its jobs ask for where the operator does not say otherwise.
    metrics : mapping of metric to regular expression
        Read from the log of programs that know nothing of us; one group, the number.
    signature, env, secrets, volumes, server : mapping
        Model signature; plain environment; where secrets are; mounts; the served form.
    """

    called: ClassVar[str] = "agent"

    name: str = spec_field(identifier)
    image: str | None = spec_field(optional(text), default=None)
    code: str | None = spec_field(optional(text), default=".")
    entrypoints: Mapping[str, Entrypoint] = spec_field(mapping_of(Entrypoint.parse, key=identifier), factory=dict)
    request: Request | None = spec_field(optional(Request.from_mapping), default=None)
    metrics: Mapping[str, str] = spec_field(mapping_of(pattern, key=identifier), factory=dict)
    signature: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    env: Mapping[str, str] = spec_field(mapping_of(setting, key=variable), factory=dict)
    secrets: Mapping[str, str] = spec_field(mapping_of(secret, key=variable), factory=dict)
    volumes: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    server: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)

    def entrypoint(self, verb: str) -> Entrypoint:
        """Return the entrypoint of a verb.

        Raises
        ------
        InvalidSpec
            If the agent has none of that name; lists those it has.
        """
        if verb not in self.entrypoints:
            known = ", ".join(self.entrypoints) or "none"
            raise InvalidSpec(f"agent {self.name!r} has no entrypoint {verb!r}; it has {known}; add one or pass entrypoint=")
        return self.entrypoints[verb]


NO_AGENT: Final = MappingProxyType({"name": "job"})
"""The agent of a job that names none: nothing but what the operator says."""
