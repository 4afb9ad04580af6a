r"""Packing by patterns: what a node may hold together, chosen by a linear programme, then made whole.

Where a node holds few bundles, packing them one by one wastes much of it. Here a column is a
whole pattern, the set of bundles on one node of a kind, :math:`\max \sum_p v_p \lambda_p` with
each bundle in at most one pattern and as many patterns of a kind as there are such nodes.
Patterns are made when the prices of bundles ask for them (`fill`), and then, a few at a time,
those that the programme uses most are fixed and the rest is solved again.

References
----------
Gilmore, Gomory: A linear programming approach to the cutting-stock problem, Operations Research 9, 1961.
Sadykov, Vanderbeck, Pessoa, Tahiri, Uchoa: Primal heuristics for branch-and-price: the assets of
diving methods, INFORMS J. Computing 31, 2019.
"""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.market import clear
from airflow_dla.allocation.packing import Room
from airflow_dla.allocation.programme import Optimum, Programme
from airflow_dla.allocation.solver import solver
from airflow_dla.allocation.table import Floats, Ints

_WIDTH = 200
_BEST = 20
_KINDS = 8
_ROUNDS = 30
_PARTS = 10
_LEAST = 1e-6
_WHOLE = 1 - 1e-6
_EQUAL = 1e-9
_DIGITS = 12


def fill(gain: Floats, size: Floats, free: Floats, above: float = 0.0) -> list[Ints]:
    """Find the most valuable patterns for one node: one bundle more at a time, the most promising kept.

    Parameters
    ----------
    gain : float array, shape (n,)
    size : float array, shape (n, R)
    free : float array, shape (R,)
    above : float
        Patterns that are worth no more are of no interest.

    Returns
    -------
    list of int arrays
        The bundles of each pattern, the most valuable first.

    Examples
    --------
    >>> found = fill(np.array([3.0, 2.0, 2.0]), np.array([[6.0], [5.0], [4.0]]), np.array([10.0]))
    >>> [rows.tolist() for rows in found[:2]]
    [[0, 2], [1, 2]]
    """
    able = np.flatnonzero((gain > _LEAST) & (size <= free).all(axis=1))
    if len(able) == 0:
        return []
    price = clear(gain[able], size[able], free).price
    able = able[np.argsort(-gain[able] / (size[able] @ price + _LEAST), kind="stable")]
    worth, need = gain[able], size[able]
    # With these prices nothing that follows bundle k can add more than the tail there and what is left is worth.
    tail = np.append(np.cumsum(np.maximum(0.0, worth - need @ price)[::-1])[::-1], 0.0)
    last, before = np.arange(len(able)), np.full(len(able), -1)
    got, left, levels = worth.copy(), free - need, []
    while len(last):
        hope = got + left @ price + tail[last + 1]
        kept = np.flatnonzero(hope > above)
        if len(kept) > _WIDTH:
            kept = np.sort(kept[np.argpartition(-hope[kept], _WIDTH)[:_WIDTH]])
        last, before, got, left = last[kept], before[kept], got[kept], left[kept]
        levels.append((last, before, got))
        fits = (left[:, None, :] >= need).all(axis=2) & (np.arange(len(able)) > last[:, None])
        before, last = np.nonzero(fits)
        got, left = got[before] + worth[last], left[before] - need[last]
    return [np.sort(able[rows]) for rows in _best(levels, above)]


def _best(levels: list[tuple[Ints, Ints, Floats]], above: float) -> list[Ints]:
    """Read the best patterns back, from their last bundle to their first."""
    depth = np.concatenate([np.full(len(got), level) for level, (_, _, got) in enumerate(levels)])
    index = np.concatenate([np.arange(len(got)) for _, _, got in levels])
    worth = np.concatenate([got for _, _, got in levels])
    found = []
    for chosen in np.argsort(-worth, kind="stable")[:_BEST].tolist():
        if worth[chosen] <= above:
            break
        rows, at = [], int(index[chosen])
        for last, before, _ in reversed(levels[: int(depth[chosen]) + 1]):
            rows.append(int(last[at]))
            at = int(before[at])
        found.append(np.array(rows, dtype=np.intp))
    return found


def cover(room: Room, value: Floats, start: Ints) -> Ints:
    """Choose a pattern for each node so that what is packed is worth as much as possible.

    Parameters
    ----------
    value : float array, shape (n,)
    start : int array, shape (n,)
        A packing to begin with, of at least one: node of each bundle, -1 for none.

    Returns
    -------
    int array, shape (n,)
        Node of each bundle, as `room` counts them; -1 for none.
    """
    # Rounded, so that of packings that are worth the same the unit of value does not choose.
    search = _Search(room, (value / value.max()).round(_DIGITS), start)
    search.improve(_ROUNDS)
    while search.fix():
        search.improve(1)
    return search.where


class _Search:
    """Patterns made so far, nodes and bundles that are left, and what is decided.

    Nodes with equal room that equal bundles may use are of one kind.
    """

    def __init__(self, room: Room, value: Floats, start: Ints) -> None:
        self._room, self._value, self._solver = room, value, solver()
        _, first, kind = np.unique(np.hstack([room.free, room.allowed.T]), axis=0, return_index=True, return_inverse=True)
        self._node, self._nodes = first, [np.flatnonzero(kind.ravel() == k).tolist() for k in range(len(first))]
        self._open = np.ones(len(value), dtype=bool)
        self._kinds: list[int] = []
        self._patterns: list[Ints] = []
        self._known: set[tuple[int, ...]] = set()
        self.where = np.full(len(value), -1, dtype=np.intp)
        for node in range(len(room.free)):
            rows = np.flatnonzero(start == node)
            if len(rows):
                self._add(int(kind.ravel()[node]), rows)

    def improve(self, rounds: int) -> None:
        """Make patterns that the prices ask for, kind by kind in turns."""
        turn = 0
        for _ in range(rounds):
            found = self._solve()
            kinds = [kind for kind, nodes in enumerate(self._nodes) if nodes]
            asked = [kinds[(turn + step) % len(kinds)] for step in range(min(_KINDS, len(kinds)))]
            turn += len(asked)
            made = [self._add(kind, rows) for kind in asked for rows in self._make(kind, found)]
            if not any(made) and len(asked) == len(kinds):
                break
        self._found = self._solve()

    def fix(self) -> bool:
        """Decide for the patterns that are used most; return whether anything is left to decide."""
        if not any(self._nodes):
            return False
        share, limit = self._found.x, max(1, sum(map(len, self._nodes)) // _PARTS)
        taken = 0
        for column in np.argsort(-share, kind="stable").tolist():
            if share[column] < _LEAST or (share[column] < _WHOLE and taken >= limit):
                break
            kind, rows = self._kinds[column], self._patterns[column]
            if self._nodes[kind] and self._open[rows].all():
                self.where[rows] = self._nodes[kind].pop(0)
                self._open[rows] = False
                taken += 1
        return taken > 0

    def _make(self, kind: int, found: Optimum) -> list[Ints]:
        """Make patterns for a kind of node that are worth more than they cost at these prices."""
        many, node = len(self._value), self._node[kind]
        gain = np.where(self._open & self._room.allowed[:, node], self._value - found.price[:many], 0.0)
        above = float(found.price[many + kind]) + _EQUAL * max(1.0, -found.objective)
        return fill(gain, self._room.size, self._room.free[node], above)

    def _add(self, kind: int, rows: Ints) -> bool:
        key = (kind, *rows.tolist())
        if key in self._known:
            return False
        self._known.add(key)
        self._kinds.append(kind)
        self._patterns.append(rows)
        return True

    def _solve(self) -> Optimum:
        """Share the nodes that are left among patterns; without a pattern that is possible, everything is free."""
        many, columns = len(self._value), len(self._patterns)
        rows, kinds = np.concatenate(self._patterns), np.array(self._kinds)
        begin = np.concatenate([[0], np.cumsum([len(pattern) for pattern in self._patterns])])
        left = np.array([len(nodes) for nodes in self._nodes], dtype=float)
        usable = np.logical_and.reduceat(self._open[rows], begin[:-1]) & (left[kinds] > 0)
        if not usable.any():
            return Optimum(np.zeros(columns), 0.0, np.zeros(many + len(left)))
        # The kind's row comes behind the rows of the bundles.
        index = np.insert(rows, begin[1:], many + kinds)
        programme = Programme(
            cost=-np.add.reduceat(self._value[rows], begin[:-1]),
            start=begin + np.arange(columns + 1),
            index=index,
            value=np.ones(len(index)),
            limit=np.concatenate([self._open.astype(float), left]),
            lower=np.zeros(columns),
            upper=np.where(usable, np.inf, 0.0),
        )
        return self._solver.optimum(programme)
