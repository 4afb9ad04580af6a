"""Backfill: a later demand may start early as long as it does not delay the head of the queue.

The head is the first demand in order that found no node. It is promised the node where,
by the expected ends of what runs there, it can start first. A later demand that has not
ended by then may take of that node only what the head leaves; what other nodes have is
free to all. Where ends are not known the promise has no time: then, once the head has waited
for a while, later demands may take nothing that the head lacks there. Until then they may, since
a node that is drained for a head whose time nobody knows can stand idle for long. A gang at the
head is promised all the nodes it needs.

References
----------
Lifka: The ANL/IBM SP Scheduling System, JSSPP 1995 (EASY).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.table import Asked, Bools, Floats, Ints, Offered

_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept at one time from demands that would still be there.

    Parameters
    ----------
    room : float array, shape (G, R)
        What they may take of each node; infinite where nothing is kept.
    staying : bool array, shape (n,)
        Demands that would still be there.
    growing : bool array, shape (n,)
        Demands that may not grow into what is kept.
    """

    room: Floats
    staying: Bools
    growing: Bools


@dataclass(frozen=True, slots=True)
class Promise:
    """What the head of the queue is promised.

    Parameters
    ----------
    heads : tuple of int
        Its row, or those of a gang.
    at : float
        When all of it can start, seconds since the epoch; infinite when nobody knows.
    nodes : int array, shape (k,)
        Where it starts.
    room : float array, shape (k, R)
        What later demands that stay may take of each of these.
    staying : bool array, shape (n,)
        Demands behind the head that have not ended by then.
    """

    heads: tuple[int, ...]
    at: float
    nodes: Ints
    room: Floats
    staying: Bools

    @property
    def head(self) -> int:
        """Row of the head, of a gang its first member's."""
        return self.heads[0]

    @property
    def node(self) -> int:
        """Where it starts, of a gang one of its nodes."""
        return int(self.nodes[0])

    def kept(self, nodes: int) -> Kept:
        """Return the promise as what is kept on one of so many nodes: not even those before the head grow into it."""
        room = np.full((nodes, self.room.shape[1]), np.inf)
        room[self.nodes] = self.room
        return Kept(room, self.staying, np.ones(len(self.staying), dtype=bool))


@dataclass(frozen=True, slots=True)
class _Coming:
    """What is free now, and what comes back when.

    Parameters
    ----------
    free : float array, shape (G, R)
        Once those before the head have taken theirs.
    node, end, amounts : array, shape (L,), (L,), (L, R)
        Of live grants, and of those served before the head.
    """

    free: Floats
    node: Ints
    end: Floats
    amounts: Floats

    def on(self, node: int) -> tuple[Floats, Floats]:
        """Return ends and amounts of what leaves a node at a known time, the first to leave first."""
        here = np.flatnonzero((self.node == node) & np.isfinite(self.end))
        here = here[np.argsort(self.end[here], kind="stable")]
        return self.end[here], self.amounts[here]

    def free_at(self, time: float) -> Floats:
        """Return what is free on every node once all that ends by `time` is gone, shape (G, R)."""
        free, gone = self.free.copy(), self.end <= time
        np.add.at(free, self.node[gone], self.amounts[gone])
        return free


def promise(asked: Asked, offered: Offered, order: Ints, where: Ints, hopeless: Bools, *, drain_after_s: float = 0.0) -> Promise | None:
    """Find the head of the queue and the node, or the nodes of a gang, where it can start first.

    Parameters
    ----------
    order : int array, shape (n,)
        The members of a gang stand together.
    where : int array, shape (n,)
        Node of each demand, had there been no promise; -1 for those that wait.
    hopeless : bool array, shape (n,)
        Demands that may not be served, whatever is free: they head no queue.
    drain_after_s : float
        Seconds that the head waits before it is promised a node without a time.

    Returns
    -------
    `Promise`, or None when nobody waits whom the nodes could ever hold.
    """
    for place in np.flatnonzero((where[order] < 0) & ~hopeless[order]).tolist():
        heads = _together(asked, order, place)
        if hopeless[heads].any() or not all(len(_able(asked, offered, head)) for head in heads.tolist()):
            continue
        before = order[:place][where[order[:place]] >= 0]
        found = _start(asked, offered, heads, _coming(asked, offered, before, where))
        if found is not None:
            at, nodes, room = found
            if not np.isfinite(at) and asked.age[heads[0]] < drain_after_s:
                return None
            staying = np.zeros(len(asked), dtype=bool)
            staying[order[place + len(heads) :]] = True
            if np.isfinite(at):
                staying &= ~(asked.ends <= at)
            return Promise(tuple(heads.tolist()), at, nodes, np.maximum(0.0, room), staying)
    return None


def _together(asked: Asked, order: Ints, place: int) -> Ints:
    head = order[place]
    if asked.gangs is None or asked.gangs.of[head] < 0:
        return order[place : place + 1]
    return order[place : place + len(asked.gangs.rows(int(asked.gangs.of[head])))]


def _coming(asked: Asked, offered: Offered, before: Ints, where: Ints) -> _Coming:
    live = offered.leaving
    assert live is not None, "a promise is made only where the policy gives ends"
    free = offered.free.copy()
    np.subtract.at(free, where[before], asked.minimum[before])
    nodes, ends = np.concatenate([live.node, where[before]]), np.concatenate([live.end, asked.ends[before]])
    return _Coming(free, nodes, ends, np.vstack([live.amounts, asked.minimum[before]]))


def _start(asked: Asked, offered: Offered, heads: Ints, coming: _Coming) -> tuple[float, Ints, Floats] | None:
    """Return when all of the head can start, on which nodes, and what it leaves of each, shape (k, R); None if it never can."""
    return _one(asked, offered, int(heads[0]), coming) if len(heads) == 1 else _all(asked, offered, heads, coming)


def _able(asked: Asked, offered: Offered, head: int) -> Ints:
    """Return the nodes that could hold a demand if they were empty."""
    fits = (asked.minimum[head] <= offered.capacity + offered.slack).all(axis=1)
    return np.flatnonzero(offered.allowed[asked.kind[head]] & fits)


def _one(asked: Asked, offered: Offered, head: int, coming: _Coming) -> tuple[float, Ints, Floats]:
    need, free = asked.minimum[head], coming.free
    able = _able(asked, offered, head)
    starts = {node: _fits_from(need, free[node], offered.slack[node], *coming.on(node)) for node in able.tolist()}
    scale = 1.0 / np.where(offered.capacity > 0, offered.capacity, 1.0)
    node = min(starts, key=lambda at: (starts[at][0], float((np.maximum(0.0, need - free[at]) * scale[at]).max()), offered.names[at]))
    at, then = starts[node]
    return at, np.array([node]), (then - need)[None, :]


def _fits_from(need: Floats, free: Floats, slack: Floats, ends: Floats, amounts: Floats) -> tuple[float, Floats]:
    """Return when `need` fits, infinite when that is not known, and what is free at that time."""
    room = free + np.cumsum(amounts, axis=0)
    fits = np.flatnonzero((need <= room + slack).all(axis=1))
    if not len(fits):
        return np.inf, free
    at = float(ends[fits[0]])
    # All that ends at the same moment is free then.
    return at, room[np.flatnonzero(ends <= at)[-1]]


def _all(asked: Asked, offered: Offered, heads: Ints, coming: _Coming) -> tuple[float, Ints, Floats] | None:
    ends = np.unique(coming.end[np.isfinite(coming.end)])
    # The later, the more is free: the first moment at which all members fit is found by halving.
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        if first_fit(asked, offered, heads, coming.free_at(float(ends[middle]))) is None:
            low = middle + 1
        else:
            high = middle
    at = float(ends[low]) if low < len(ends) else np.inf
    then = offered.capacity if np.isinf(at) else coming.free_at(at)
    where = first_fit(asked, offered, heads, then)
    if where is None:
        return None
    left = coming.free.copy() if np.isinf(at) else then.copy()
    np.subtract.at(left, where, asked.minimum[heads])
    nodes = np.unique(where)
    return at, nodes, left[nodes]


def first_fit(asked: Asked, offered: Offered, rows: Ints, free: Floats) -> Ints | None:
    """Return a node for each of some demands, the one that is left fullest; None unless all find one.

    Parameters
    ----------
    rows : int array, shape (k,)
    free : float array, shape (G, R)
    """
    left, where = free + offered.slack, np.empty(len(rows), dtype=np.intp)
    names = np.argsort(np.array(offered.names, dtype=str), kind="stable")
    scale = 1.0 / np.where(offered.capacity > 0, offered.capacity, 1.0)
    for turn, row in enumerate(rows.tolist()):
        fits = names[(offered.allowed[asked.kind[row]] & (asked.minimum[row] <= left).all(axis=1))[names]]
        if not len(fits):
            return None
        node = int(fits[np.argmin((left[fits] * scale[fits]).sum(axis=1).round(_DIGITS))])
        left[node] -= asked.minimum[row]
        where[turn] = node
    return where
