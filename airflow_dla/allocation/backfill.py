"""Backfill: a later demand may start early as long as it does not delay the head of the queue.

The head is the first demand in order that found no node. It is promised the node where,
by the expected ends of what runs there, it can start first. A later demand that has not
ended by then may take of that node only what the head leaves; what other nodes have is
free to all. Where ends are not known the promise has no time: then later demands may take
nothing that the head lacks there.

References
----------
Lifka: The ANL/IBM SP Scheduling System, JSSPP 1995 (EASY).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.table import Asked, Bools, Floats, Ints, Offered


@dataclass(frozen=True, slots=True)
class Promise:
    """What the head of the queue is promised.

    Parameters
    ----------
    head : int
        Its row.
    node : int
    at : float
        When it can start there, seconds since the epoch; infinite when nobody knows.
    room : float array, shape (R,)
        What later demands that stay may take of the node.
    staying : bool array, shape (n,)
        Demands behind the head that have not ended by then.
    """

    head: int
    node: int
    at: float
    room: Floats
    staying: Bools


def promise(asked: Asked, offered: Offered, order: Ints, where: Ints, hopeless: Bools) -> Promise | None:
    """Find the head of the queue and the node where it can start first.

    Parameters
    ----------
    order : int array, shape (n,)
    where : int array, shape (n,)
        Node of each demand, had there been no promise; -1 for those that wait.
    hopeless : bool array, shape (n,)
        Demands that no node will ever have room for, or that may not be served: they head no queue.

    Returns
    -------
    `Promise`, or None when nobody waits whom a node could ever hold.
    """
    waiting = np.flatnonzero((where[order] < 0) & ~hopeless[order])
    if not len(waiting):
        return None
    place, head = int(waiting[0]), int(order[waiting[0]])
    before = order[:place][where[order[:place]] >= 0]
    taken = np.zeros_like(offered.free)
    np.add.at(taken, where[before], asked.minimum[before])
    free, need = offered.free - taken, asked.minimum[head]
    leaving = _leaving(asked, offered, before, where)
    able = np.flatnonzero(offered.allowed[asked.kind[head]] & (need <= offered.capacity + offered.slack).all(axis=1))
    if not len(able):
        return None
    starts = {node: _start(need, free[node], offered.slack[node], *_of(leaving, node)) for node in able.tolist()}
    scale = 1.0 / np.where(offered.capacity > 0, offered.capacity, 1.0)
    node = min(starts, key=lambda at: (starts[at][0], float((np.maximum(0.0, need - free[at]) * scale[at]).max()), offered.names[at]))
    at, then = starts[node]
    staying = np.zeros(len(asked), dtype=bool)
    staying[order[place + 1 :]] = True
    if np.isfinite(at):
        staying &= ~(asked.ends <= at)
    return Promise(head, node, at, np.maximum(0.0, then - need), staying)


def _leaving(asked: Asked, offered: Offered, before: Ints, where: Ints) -> tuple[Ints, Floats, Floats]:
    """Return node, end and amounts of all that will leave: live grants, and those served before the head."""
    live = offered.leaving
    assert live is not None, "a promise is made only where the policy gives ends"
    nodes, ends = np.concatenate([live.node, where[before]]), np.concatenate([live.end, asked.ends[before]])
    return nodes, ends, np.vstack([live.amounts, asked.minimum[before]])


def _of(leaving: tuple[Ints, Floats, Floats], node: int) -> tuple[Floats, Floats]:
    nodes, ends, amounts = leaving
    here = np.flatnonzero((nodes == node) & np.isfinite(ends))
    here = here[np.argsort(ends[here], kind="stable")]
    return ends[here], amounts[here]


def _start(need: Floats, free: Floats, slack: Floats, ends: Floats, amounts: Floats) -> tuple[float, Floats]:
    """Return when `need` fits, infinite when that is not known, and what is free at that time."""
    room = free + np.cumsum(amounts, axis=0)
    fits = np.flatnonzero((need <= room + slack).all(axis=1))
    if not len(fits):
        return np.inf, free
    at = float(ends[fits[0]])
    # All that ends at the same moment is free then.
    return at, room[np.flatnonzero(ends <= at)[-1]]
