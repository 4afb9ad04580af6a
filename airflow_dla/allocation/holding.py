"""What expected jobs need kept of which node, once it is known what would be placed without them.

Each is promised the node where, by the expected ends of what runs there, it can start
first after it has come; of equals, the one with most to spare, so that as little as
possible is refused to others. Demands of lower priority that would stay beyond that take
of the node what is left then. See `airflow_dla.allocation.forecast.holds`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from airflow_dla.allocation.backfill import Kept
from airflow_dla.allocation.table import Asked, Awaited, Bools, Floats, Ints, Offered

#: The soonest expected jobs that anything is kept for: each is as many columns again in placement.
MOST: Final = 8
#: A demand of which nobody knows how long it runs is taken to run for so long, s.
UNKNOWN_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Holding:
    """What is kept for expected jobs in this round.

    Parameters
    ----------
    kept : tuple of `Kept`
        Empty when nobody would be refused anything.
    hold : tuple of int
        Which of the policy's holds each is for.
    node : tuple of int
        Where.
    """

    kept: tuple[Kept, ...] = ()
    hold: tuple[int, ...] = ()
    node: tuple[int, ...] = ()

    def refused(self, asked: Asked, offered: Offered, where: Ints, free: Floats) -> dict[int, int]:
        """Return demands that would fit now but for what is kept, each with the hold that keeps it out.

        Parameters
        ----------
        where : int array, shape (n,)
            Node of each demand, -1 for those that wait.
        free : float array, shape (G, R)
            What is left of each node now.
        """
        if not self.kept:
            return {}
        staying = np.array([kept.staying for kept in self.kept])
        waiting = np.flatnonzero((where < 0) & staying.any(axis=0))
        fits = (asked.minimum[waiting, None, :] <= (free + offered.slack)[None, :, :]).all(axis=2) & offered.allowed[asked.kind[waiting]]
        found: dict[int, int] = {}
        for row, nodes in zip(waiting.tolist(), fits, strict=True):
            keeping = [hold for hold, node, stays in zip(self.hold, self.node, staying[:, row], strict=True) if stays and nodes[node]]
            if keeping:
                found[row] = keeping[0]
        return found


@dataclass(slots=True)
class _Promised:
    """What was promised to expected jobs before: node, end and amounts of each."""

    node: list[int] = field(default_factory=list)
    end: list[float] = field(default_factory=list)
    need: list[Floats] = field(default_factory=list)


def holding(asked: Asked, offered: Offered, order: Ints, where: Ints) -> Holding:
    """Decide what to keep for expected jobs.

    Parameters
    ----------
    order : int array, shape (n,)
        Demands that are served.
    where : int array, shape (n,)
        Node of each, had nothing been kept; -1 for those that wait.
    """
    awaited = offered.awaited
    if awaited is None or not len(offered.names):
        return Holding()
    served = np.zeros(len(asked), dtype=bool)
    served[order] = True
    promised, binding = _Promised(), False
    kept: list[Kept] = []
    holds: list[tuple[int, int]] = []
    for hold in range(len(awaited.at)):
        if len(kept) == MOST or not awaited.allowed[hold].any():
            continue
        lower = served & (asked.priority + asked.aged < awaited.priority[hold])
        # Whoever comes later than all of them would stay is in nobody's way, and neither is anybody after it.
        if not (lower & _stays(asked, awaited, hold, float(awaited.at[hold]))).any():
            continue
        node, start, room = _start(asked, offered, awaited, hold, promised=promised, above=(where >= 0) & ~lower, where=where)
        promised.node.append(node)
        promised.end.append(start + float(awaited.end[hold] - awaited.at[hold]))
        promised.need.append(awaited.need[hold])
        staying = lower & _stays(asked, awaited, hold, start)
        if not staying.any():
            continue
        load = asked.wanted[staying & (where == node)].sum(axis=0)
        binding |= bool((load > room + offered.slack[node]).any())
        kept.append(_kept(offered, node, room, staying))
        holds.append((hold, node))
    if not binding:
        return Holding()
    return Holding(tuple(kept), tuple(hold for hold, _ in holds), tuple(node for _, node in holds))


def _kept(offered: Offered, node: int, room: Floats, staying: Bools) -> Kept:
    everywhere = np.full(offered.free.shape, np.inf)
    everywhere[node] = room
    return Kept(everywhere, staying, staying)


def _stays(asked: Asked, awaited: Awaited, hold: int, start: float) -> Bools:
    """Return which demands would be in the way for longer than it is worth to keep the room idle."""
    now = float(awaited.at[hold] - awaited.lead[hold])
    ends = np.where(np.isfinite(asked.ends), asked.ends, now + UNKNOWN_S)
    return np.asarray(ends > start + awaited.spare[hold])


def _start(
    asked: Asked, offered: Offered, awaited: Awaited, hold: int, *, promised: _Promised, above: Bools, where: Ints
) -> tuple[int, float, Floats]:
    """Return where and when an expected job can start, and what it leaves there then."""
    need, at = awaited.need[hold], float(awaited.at[hold])
    room = _room(asked, offered, at, promised=promised, above=above, where=where)
    scale = 1.0 / np.where(offered.capacity > 0, offered.capacity, 1.0)
    spare = np.where(need > 0, (room - need) * scale, np.inf).min(axis=1, initial=np.inf)
    able = np.flatnonzero(awaited.allowed[hold])
    ready = able[(need <= room[able] + offered.slack[able]).all(axis=1)]
    now = at - float(awaited.lead[hold])
    if len(ready):
        node = min(ready.tolist(), key=lambda g: (_idle(offered, g, need, now, at), -spare[g], g))
    else:
        node = int(able[np.argmax(spare[able])])
    if not (need <= room[node] + offered.slack[node]).all():
        node, at, later = _later(offered, able, need, at, room)
        return node, at, np.maximum(0.0, later - need)
    return node, at, np.maximum(0.0, room[node] - need)


def _idle(offered: Offered, node: int, need: Floats, now: float, at: float) -> float:
    """Return for how long what is needed would lie idle on a node, s: all of it, or so much longer a part of it."""
    wanted = need > 0
    ends, amounts = np.empty(0), np.empty((0, len(need)))
    if offered.leaving is not None:
        here = np.flatnonzero((offered.leaving.node == node) & (offered.leaving.end <= at))
        here = here[np.argsort(offered.leaving.end[here], kind="stable")]
        ends, amounts = offered.leaving.end[here], offered.leaving.amounts[here]
    room = offered.free[node] + np.vstack([np.zeros(len(need)), np.cumsum(amounts, axis=0)])
    share = np.clip(room[:, wanted] / need[wanted], 0.0, 1.0).min(axis=1, initial=1.0)
    times = np.concatenate([[now], np.maximum(ends, now), [at]])
    return float(share @ np.diff(times))


def _room(asked: Asked, offered: Offered, at: float, *, promised: _Promised, above: Bools, where: Ints) -> Floats:
    """Return what nodes will have at a time, without the demands that something is kept from."""
    room = offered.free.copy()
    if offered.leaving is not None:
        gone = offered.leaving.end <= at
        np.add.at(room, offered.leaving.node[gone], offered.leaving.amounts[gone])
    there = np.flatnonzero(above & (asked.ends > at))
    np.subtract.at(room, where[there], asked.minimum[there])
    for node, end, need in zip(promised.node, promised.end, promised.need, strict=True):
        if end > at:
            room[node] -= need
    return room


def _later(offered: Offered, able: Ints, need: Floats, at: float, room: Floats) -> tuple[int, float, Floats]:
    """Find the node where what is needed is free first, after others have left; where nobody knows, the one that lacks least."""
    starts: list[tuple[float, float, int]] = []
    rooms: dict[int, Floats] = {}
    scale = 1.0 / np.where(offered.capacity > 0, offered.capacity, 1.0)
    for node in able.tolist():
        ends, amounts = _leaving(offered, node, at)
        then = room[node] + np.cumsum(amounts, axis=0)
        fits = np.flatnonzero((need <= then + offered.slack[node]).all(axis=1))
        lacks = float((np.maximum(0.0, need - room[node]) * scale[node]).max(initial=0.0))
        rooms[node] = then[fits[0]] if len(fits) else room[node]
        starts.append((float(ends[fits[0]]) if len(fits) else np.inf, lacks, node))
    start, _, node = min(starts)
    return node, start if np.isfinite(start) else at, rooms[node]


def _leaving(offered: Offered, node: int, at: float) -> tuple[Floats, Floats]:
    if offered.leaving is None:
        return np.empty(0), np.empty((0, offered.free.shape[1]))
    later = (offered.leaving.node == node) & (offered.leaving.end > at) & np.isfinite(offered.leaving.end)
    here = np.flatnonzero(later)
    here = here[np.argsort(offered.leaving.end[here], kind="stable")]
    return offered.leaving.end[here], offered.leaving.amounts[here]
