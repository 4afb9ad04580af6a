"""What a helper in a pod says of itself, read from the end of its log."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from airflow_dla.runtime.facts import Staged

#: Kinds of offers.
OUTPUTS, CHECKPOINT = "outputs", "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The last that a helper said.

    Parameters
    ----------
    role : {"fetch", "mate"}
    wants : {"", "plan", "bytes"}
        What must be brought: `Freight.bring`.
    links : {"", "expired", "refused", "unreachable"}
        What is wrong with signed addresses, and `why`.
    why : str
    damaged : tuple of str
        Digests of checkpoints that cannot be restored.
    progress : pair of int or None
        Bytes that have come, of how many.
    fetched : bool
        Whether everything is in place.
    alone : bool
        Whether the job beside it has ended.
    offers : mapping of kind to phase
        ``outputs`` and ``checkpoint``; ``offered`` and ``sent`` wait for `Freight.take`.
    error : pair of str or None
        Reason and message of what ended fetching.
    published : `Staged` or None
        The mate's last word.
    """

    role: str = ""
    wants: str = ""
    links: str = ""
    why: str = ""
    damaged: tuple[str, ...] = ()
    progress: tuple[int, int] | None = None
    fetched: bool = False
    alone: bool = False
    offers: Mapping[str, str] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    published: Staged | None = None

    @classmethod
    def from_mapping(cls, found: Mapping[str, Any]) -> Self:
        """Read the JSON of a state; words of a newer version are passed over."""
        done, error, published = found.get("progress"), found.get("error"), found.get("published")
        return cls(
            role=str(found.get("role", "")),
            wants=str(found.get("wants", "")),
            links=str(found.get("links", "")),
            why=str(found.get("why", "")),
            damaged=tuple(map(str, found.get("damaged", ()))),
            progress=(int(done[0]), int(done[1])) if done else None,
            fetched=bool(found.get("fetched")),
            alone=bool(found.get("alone")),
            offers={kind: str(found[kind][1]) for kind in (OUTPUTS, CHECKPOINT) if kind in found},
            error=(str(error[0]), str(error[1])) if error else None,
            published=Staged.from_mapping(published) if published is not None else None,
        )

    @property
    def waits(self) -> bool:
        """Whether it waits for its follower: `Freight.bring` or `Freight.take`."""
        return bool(self.wants) or any(phase in ("offered", "sent") for phase in self.offers.values())

    @property
    def text(self) -> str:
        """How far fetching is, for people.

        Examples
        --------
        >>> Told(progress=(3 << 20, 8 << 20)).text
        'fetching inputs: 3 of 8 MiB'
        """
        if self.progress is None or not self.progress[1]:
            return "fetching inputs"
        return f"fetching inputs: {min(self.progress) >> 20} of {self.progress[1] >> 20} MiB"


def read_told(tail: Callable[[int], bytes]) -> Told | None:
    """Read what a helper said last; None before it said anything that can be read.

    Parameters
    ----------
    tail : callable
        Returns the last so many lines of its log; a long state has several.

    Examples
    --------
    >>> read_told(lambda lines: b'{"role":"mate","fetched":true}').fetched
    True
    """
    last = _parsed(tail(1))
    if last is not None and "piece" in last:
        last = _joined(tail(int(last["of"])), int(last["of"]))
    return None if last is None else Told.from_mapping(last)


def _joined(lines: bytes, count: int) -> dict[str, Any] | None:
    """Put the pieces of a state together; None when others were said meanwhile."""
    found = [_parsed(line) or {} for line in lines.splitlines()]
    if [piece.get("piece") for piece in found] != list(range(1, count + 1)):
        return None
    return _parsed("".join(piece["text"] for piece in found).encode())


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
