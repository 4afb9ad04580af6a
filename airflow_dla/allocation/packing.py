"""Packing whole bundles into nodes: greedily by prices, then by emptying a few nodes and packing them anew.

References
----------
Schrimpf et al.: Record Breaking Optimization Results Using the Ruin and Recreate Principle,
J. Computational Physics 159, 2000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.table import Bools, Floats, Ints

_STEPS = 800
_WORK = 60_000
_LONG = 1_000_000
_WAITING = 60
_NOISE = 0.6
_SLOPE = 0.006
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Room:
    """What is packed, and into what: n bundles, G nodes, R resources.

    Parameters
    ----------
    size : float array, shape (n, R)
    free : float array, shape (G, R)
    allowed : bool array, shape (n, G)
    nodes : int array, shape (G,)
        What each node is called elsewhere.
    matches : int array, shape (n, G), or None
        Of the nodes that have room, those with the most go first.
    """

    size: Floats
    free: Floats
    allowed: Bools
    nodes: Ints
    matches: Ints | None = None


class Packed:
    """Bundles on nodes.

    Parameters
    ----------
    room : `Room`
    worth : float array, shape (R,)
        What a unit that is left over is worth: the less of it, the better the node.
    where : int array, shape (n,)
        Where they are at first.

    Attributes
    ----------
    where : int array, shape (n,)
        Node of each bundle, -1 for none.
    free : float array, shape (G, R)
    """

    def __init__(self, room: Room, worth: Floats, where: Ints) -> None:
        self.room = room
        self.worth = worth + max(float(worth.mean()), 1e-9) * 1e-3
        self.where, self.free = where.copy(), room.free.copy()
        np.subtract.at(self.free, where[where >= 0], room.size[where >= 0])

    def insert(self, order: Ints) -> None:
        """Pack bundles in order, each on the node whose leftovers are then worth least."""
        left = self.free @ self.worth
        for row in order.tolist():
            size = self.room.size[row]
            fits = np.flatnonzero((self.free >= size).all(axis=1) & self.room.allowed[row])
            if len(fits):
                fits = self._preferred(row, fits)
                node = int(fits[np.argmin(left[fits])])
                self.where[row] = node
                self.free[node] -= size
                left[node] = self.free[node] @ self.worth

    def _preferred(self, row: int, nodes: Ints) -> Ints:
        if self.room.matches is None:
            return nodes
        matches = self.room.matches[row, nodes]
        best: Ints = nodes[matches == matches.max()]
        return best

    def empty(self, nodes: Ints) -> Ints:
        """Take everything off some nodes; return what was there."""
        rows = np.flatnonzero(np.isin(self.where, nodes))
        self.where[rows] = -1
        self.free[nodes] = self.room.free[nodes]
        return rows


def pack(room: Room, value: Floats, order: Ints, price: Floats, *, start: Ints | None = None, enough: float = np.inf) -> Ints:
    """Pack bundles so that they are worth as much as possible.

    Parameters
    ----------
    value : float array, shape (n,)
    order : int array, shape (k,)
        Bundles that some node could hold, by value for money.
    price : float array, shape (R,)
    start : int array, shape (n,), optional
        A packing to begin with; nothing is packed by default.
    enough : float
        When the bundles packed are worth this, the search ends; 0 for no search.

    Returns
    -------
    int array, shape (n,)
        Node of each, as `room` counts them; -1 for none.
    """
    packed = Packed(room, price, np.full(len(value), -1, dtype=np.intp) if start is None else start)
    packed.insert(order[packed.where[order] < 0])
    cost = room.size @ price
    worth = value / np.maximum(cost, cost.max(initial=0.0) * 1e-6 + 1e-12)
    best, kept = float(value[packed.where >= 0].sum()), packed.where.copy()
    work, steps = 0, min(_STEPS, _LONG // max(1, len(order)))
    for step in range(steps):
        if best >= enough or work > _WORK or not (kept[order] < 0).any():
            break
        before = packed.where.copy(), packed.free.copy()
        work += _renew(packed, order, worth, step)
        reached = float(value[packed.where >= 0].sum())
        # A little less is taken at first, the less the later: the way to the best leads through worse.
        if reached < best * (1 - _SLOPE * (1 - step / steps)):
            packed.where, packed.free = before
        elif reached > best:
            best, kept = reached, packed.where.copy()
    return kept


def _renew(packed: Packed, order: Ints, worth: Floats, step: int) -> int:
    """Empty two or three nodes and pack them in another order, from a fixed sequence; return how many were tried."""
    count = len(packed.free)
    size = min(count, 2 + step % 2)
    nodes = np.unique(((step * _GOLDEN + np.arange(size) * (step * _GOLDEN**2 + 0.37)) % 1.0 * count).astype(np.intp))
    ejected = packed.empty(nodes)
    waiting = order[packed.where[order] < 0]
    most = packed.free.max(axis=0)
    waiting = waiting[(packed.room.size[waiting] <= most).all(axis=1)]
    keep = np.isin(waiting, ejected)
    keep[np.flatnonzero(~keep)[:_WAITING]] = True
    waiting = waiting[keep]
    varied = worth[waiting] * np.exp(_NOISE * ((np.arange(len(waiting)) * (step + 1) * _GOLDEN) % 1.0 - 0.5))
    packed.insert(waiting[np.argsort(-varied, kind="stable")])
    return len(waiting)
