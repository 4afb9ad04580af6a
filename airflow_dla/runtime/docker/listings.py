"""What containers an engine has, in one request for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

WORKSPACE: Final = "dla.workspace"
ATTEMPT: Final = "dla.attempt"

_ALIVE: Final = frozenset({"running", "paused", "restarting", "removing"})


@dataclass(frozen=True, slots=True)
class Summary:
    """A container as a list shows it.

    Parameters
    ----------
    id : str
        Its whole id.
    state : str
        ``created``, ``running``, ``paused``, ``restarting``, ``removing``, ``exited`` or ``dead``.
    status : str
        The same for people: ``Exited (137) 3 minutes ago``.
    labels : mapping of str
        Ours and others'.
    created : int
        Seconds since the epoch, by the engine's clock.
    document : mapping or None
        All that the engine says of it, where it was asked for this one alone.
    """

    id: str
    state: str
    status: str
    labels: Mapping[str, str]
    created: int
    document: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Summary:
        """Read one entry of the engine's list."""
        return cls(
            id=document["Id"], state=document["State"], status=document["Status"],
            labels=document["Labels"] or {}, created=int(document["Created"]),
        )  # fmt: skip

    @classmethod
    def from_inspect(cls, document: Mapping[str, Any]) -> Summary:
        """Read what the engine says of one container."""
        state = document["State"]["Status"]
        created = int(datetime.fromisoformat(document["Created"]).timestamp())
        labels = document["Config"]["Labels"] or {}
        return cls(id=document["Id"], state=state, status=state, labels=labels, created=created, document=document)

    @property
    def alive(self) -> bool:
        """Whether anything of it may still run."""
        return self.state in _ALIVE


def by_attempt(containers: Iterable[Summary]) -> dict[str, Summary]:
    """Return the containers of attempts by their labels; of two of one attempt the newer."""
    return {one.labels[ATTEMPT]: one for one in sorted(containers, key=lambda one: one.created) if ATTEMPT in one.labels}


def limits(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return of an inspected container what it may use of its host."""
    return {name: document[name] for name in ("Id", "Name", "HostConfig")}
