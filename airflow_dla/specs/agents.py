"""Agents: deep-learning models packaged as services, and the entrypoints of their verbs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.resources import Request
from airflow_dla.specs.spec import Spec, identifier, json_value, mapping_of, optional, spec_field, text

#: The verbs that have an operator of their own.
VERBS: Final = ("prepare", "train", "tune", "evaluate", "infer")

_FUNCTION = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SECRET = re.compile(r"(conn|var|file):.+")


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
        if isinstance(raw, Sequence) and not isinstance(raw, str) and raw and all(isinstance(part, str) for part in raw):
            return cls(command=tuple(raw))
        raise InvalidSpec(f"{where} must be 'module:function' or a command such as ['python', 'train.py'], got {raw!r}")

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
    metrics: Mapping[str, str] = spec_field(mapping_of(text, key=identifier), factory=dict)
    signature: Mapping[str, Any] = spec_field(json_value, factory=dict)
    env: Mapping[str, str] = spec_field(mapping_of(lambda raw, _: str(raw)), factory=dict)
    secrets: Mapping[str, str] = spec_field(mapping_of(secret), factory=dict)
    volumes: Mapping[str, Any] = spec_field(json_value, factory=dict)
    server: Mapping[str, Any] = spec_field(json_value, factory=dict)

    def __post_init__(self) -> None:
        for metric, pattern in self.metrics.items():
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise InvalidSpec(f"agent.metrics.{metric}: {pattern!r} is no regular expression: {error} (agent {self.name!r})") from None
            if groups != 1:
                raise InvalidSpec(
                    f"agent.metrics.{metric} must have exactly one group, the number; {pattern!r} has {groups} (agent {self.name!r})"
                )

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
