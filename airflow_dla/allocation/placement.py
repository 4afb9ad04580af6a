"""Which node each demand goes to: in order of admission, to the fullest node that still fits.

Nodes are filled one after another, which is what placing demand after demand on the
first node that fits comes to, but in whole columns: a node takes the longest run of
demands that fits, those that no longer fit are dropped, and so on until none is left.
Where GPUs are handed out, demands are placed one by one instead (`seating`), so that what
is left of the GPUs is of use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from airflow_dla.allocation.backfill import Kept
from airflow_dla.allocation.devices import Devices
from airflow_dla.allocation.limits import TeamTree
from airflow_dla.allocation.seating import Seating, is_seated
from airflow_dla.allocation.table import Asked, Bools, Floats, Ints, Offered

_WINDOW = 128
_TRIES = 3
_LARGE = 100_000


class Packing:
    """Nodes while they fill up.

    Parameters
    ----------
    asked : `Asked`
    offered : `Offered`
    size : float array, shape (n, R)
        How much room each demand is given: its minimum, or what it wants.
    nodes : int array, shape (G,)
        Which is filled first.
    tree : `TeamTree` or None
        Guarantees, borrowing and lending limits of teams.
    kept : sequence of `Kept`
        What is kept for the head of the queue, and for jobs that are expected.

    Attributes
    ----------
    where : int array, shape (n,)
        Node of each demand, -1 while it has none.
    free : float array, shape (G, R)
    quota : float array, shape (T, R)
        What teams may still be granted; minima count.
    devices : dict of int to `Devices`
    """

    def __init__(
        self, asked: Asked, offered: Offered, size: Floats, nodes: Ints, *, tree: TeamTree | None = None, kept: Sequence[Kept] = ()
    ) -> None:
        self.asked, self.offered, self.nodes, self.tree, self.kept = asked, offered, nodes, tree, kept
        self.size = self._sized(size)
        self.where = np.full(len(asked), -1, dtype=np.intp)
        self.free = np.hstack([offered.free, *(each.room for each in kept)])
        self.slack = np.hstack([offered.slack] * (1 + len(kept)))
        self.quota = offered.quota.copy()
        self.own = np.empty((0, 0)) if tree is None else tree.used.copy()
        self.devices = {node: Devices(free) for node, free in offered.devices.items()}

    def _sized(self, size: Floats) -> Floats:
        """Add what demands would still hold when something is kept: as many columns again for each time."""
        return np.hstack([size, *(self._staying(size, kept) for kept in self.kept)])

    def _staying(self, size: Floats, kept: Kept) -> Floats:
        staying = size * kept.staying[:, None]
        if self.asked.gpu is not None:
            # A share of a GPU keeps others from all of it.
            staying[:, self.asked.gpu] = np.ceil(staying[:, self.asked.gpu])
        return staying

    def held_back(self) -> Floats:
        """Return what nobody may grow into, since it is kept, shape (G, R)."""
        resources = self.asked.minimum.shape[1]
        now, back = self.free[:, :resources], np.zeros((len(self.free), resources))
        elastic = np.logical_or.reduce(self.asked.wanted > self.asked.minimum, axis=1) & (self.where >= 0)
        for place, kept in enumerate(self.kept, start=1):
            nodes = np.unique(self.where[elastic & kept.growing])
            then = self.free[nodes, place * resources : (place + 1) * resources]
            back[nodes] = np.maximum(back[nodes], now[nodes] - np.maximum(0.0, then))
        return back

    def seat(self, order: Ints, where: Ints) -> None:
        """Place demands, in order, on the nodes chosen for them; those that do not fit there are left."""
        for run, whole in self._runs(order[where[order] >= 0]):
            before = self._books(whole=whole)
            passing = self._within_limits(run)
            for row, node in zip(passing.tolist(), where[passing].tolist(), strict=True):
                self._seat(row, node)
            self._whole_or_not(run, before)

    def _runs(self, order: Ints) -> Iterable[tuple[Ints, bool]]:
        """Split demands into those that are placed together: gangs, and all between two gangs."""
        return [(order, False)] if self.asked.gangs is None else self.asked.gangs.runs(order)

    def _books(self, *, whole: bool) -> tuple[Floats, Floats, Floats] | None:
        return (self.free.copy(), self.quota.copy(), self.own.copy()) if whole else None

    def _whole_or_not(self, gang: Ints, before: tuple[Floats, Floats, Floats] | None) -> bool:
        """Take back what a gang got unless all of it found a node; return whether anything had to be."""
        if before is None or (self.where[gang] >= 0).all():
            return False
        placed = gang[self.where[gang] >= 0]
        for row, node in zip(placed.tolist(), self.where[placed].tolist(), strict=True):
            if node in self.devices:
                self.devices[node].drop(row)
        self.where[placed] = -1
        self.free, self.quota, self.own = before
        return True

    def _seat(self, row: int, node: int) -> None:
        if (self.size[row] <= self.free[node] + self.slack[node]).all() and self._hold(row, node):
            self._charge(np.array([row]))

    def _hold(self, row: int, node: int) -> bool:
        """Place a demand on a node that has room for it, unless its GPUs are scattered; return whether it is placed."""
        size, gpu = self.size[row], self.asked.gpu
        shared = gpu is not None and node in self.devices and size[gpu] > 0
        if shared and gpu is not None and not self.devices[node].take(row, float(size[gpu])):
            return False
        self.free[node] -= size
        self.where[row] = node
        return True

    def _charge(self, placed: Ints) -> None:
        np.subtract.at(self.quota, self.asked.team[placed], self.asked.minimum[placed])
        if self.tree is not None:
            np.add.at(self.own, self.tree.of[self.asked.team[placed]], self.asked.minimum[placed])

    def _within_limits(self, order: Ints) -> Ints:
        if self.tree is not None or np.isfinite(self.quota).any():
            order = order[self._able(order)]
        passing = self._within_quota(order)
        if self.tree is None:
            return passing
        return passing[self.tree.passing(self.own, self.asked.team[passing], self.asked.minimum[passing])]

    def _able(self, order: Ints) -> Bools:
        """Return which demands fit some node: the others must not use up quotas on their way to waiting."""
        able = np.zeros(len(order), dtype=bool)
        for node, room in enumerate(self.free + self.slack):
            able |= self.offered.allowed[self.asked.kind[order], node] & (self.size[order] <= room).all(axis=1)
        return able

    def fill(self, order: Ints) -> None:
        """Place demands, in order, within the quotas of their teams; a gang whole or not at all."""
        if self.asked.gangs is None:
            self._fill(order)
            return
        # One for all that is placed, whether it is of a gang or not: what is typical is what waits.
        one_by_one, seating = self._is_seated(order), None
        for run, whole in self.asked.gangs.runs(order):
            if whole and not self._might_hold(run):
                continue
            if one_by_one and seating is None:
                seating = self._seating(order)
            before = self._books(whole=whole)
            self._fill(run, seating, alone=False)
            if self._whole_or_not(run, before):
                # What was taken back is free again, and only a new look at the nodes sees it.
                seating = None

    def _might_hold(self, gang: Ints) -> bool:
        """Whether all nodes together have room for a gang."""
        return bool((self.size[gang].sum(axis=0) <= (self.free + self.slack).sum(axis=0)).all())

    def _fill(self, order: Ints, seating: Seating | None = None, *, alone: bool = True) -> None:
        """Place demands on their own, or as a part of all that `seating` knows; without one where nodes are filled."""
        left = order
        while len(left):
            passing = self._within_limits(left)
            if alone:
                seating = self._seating(passing) if self._is_seated(passing) else None
            if seating is None:
                self._fill_nodes(passing)
            else:
                self._seat_one_by_one(passing, seating)
            placed = passing[self.where[passing] >= 0]
            self._charge(placed)
            # What found no node gives its quota back: those that the quota kept out may try.
            left = left[~np.isin(left, passing)] if len(placed) < len(passing) else left[:0]

    def _is_seated(self, rows: Ints) -> bool:
        return not self.kept and is_seated(self.asked, self.offered, rows, self.size)

    def _seating(self, rows: Ints) -> Seating:
        return Seating(self.asked, self.offered, size=self.size, rows=rows, nodes=self.nodes, free=self.free, devices=self.devices)

    def fill_up(self, order: Ints) -> None:
        """Place by their minima those that have no node yet."""
        left = order[self.where[order] < 0]
        self.size[left] = self._sized(self.asked.minimum)[left]
        self.fill(left)

    def _within_quota(self, order: Ints) -> Ints:
        capped = np.asarray(np.isfinite(self.quota).any(axis=1))
        if not capped.any():
            return order
        passing = [order[~capped[self.asked.team[order]]]]
        for team in np.flatnonzero(capped):
            own = order[self.asked.team[order] == team]
            slack = np.where(np.isfinite(self.offered.quota[team]), self.offered.quota[team] * 1e-9, 0.0)
            passing.extend(own[run] for run in longest_runs(self.asked.minimum[own].T, self.quota[team].copy(), slack))
        return order[np.isin(order, np.concatenate(passing))]

    def _seat_one_by_one(self, order: Ints, seating: Seating) -> None:
        """Place in order, each where it leaves most of the GPUs of use."""
        gpus = self.size[order, self.asked.gpu].tolist()
        for turn, row in enumerate(order.tolist()):
            choice = seating.place(row)
            if choice is None:
                continue
            if gpus[turn] > 0:
                taken = self.devices[choice.node].take(row, gpus[turn], seat=choice.devices[0])
                assert taken, f"demand {row} was promised a GPU of node {choice.node} that is not free"
            self.free[choice.node] -= self.size[row]
            self.where[row] = choice.node

    def _fill_nodes(self, order: Ints) -> None:
        if self.offered.matches is None:
            self._fill_in_turn(order)
            return
        prefers = np.logical_or.reduce(self.offered.matches > 0, axis=1)[self.asked.kind]
        for run in np.split(order, np.flatnonzero(np.diff(prefers[order])) + 1):
            if prefers[run].any():
                self._fill_preferred(run, self.offered.matches)
            else:
                self._fill_in_turn(run)

    def _fill_preferred(self, order: Ints, matches: Ints) -> None:
        """Place in order, each on the node with most of the labels it prefers; of equals, on the fullest."""
        for row in order.tolist():
            kind = self.asked.kind[row]
            fits = self.offered.allowed[kind] & (self.size[row] <= self.free + self.slack).all(axis=1)
            able = self.nodes[fits[self.nodes]]
            for node in able[np.argsort(-matches[kind, able], kind="stable")].tolist():
                if self._hold(row, node):
                    break

    def _fill_in_turn(self, order: Ints) -> None:
        left, columns = order, np.ascontiguousarray(self.size[order].T)
        smallest = columns.min(axis=1, initial=np.inf)
        roomy = np.logical_and.reduce(smallest <= self.free + self.slack, axis=1)
        everybody = np.logical_and.reduce(self.offered.allowed, axis=0)
        for node in self.nodes[roomy[self.nodes]].tolist():
            if not len(left):
                return
            if everybody[node]:
                self._fill_node(node, left, columns)
            else:
                mine = np.flatnonzero(self.offered.allowed[self.asked.kind[left], node])
                self._fill_node(node, left[mine], columns.take(mine, axis=1))
            keep = np.flatnonzero(self.where[left] < 0)
            if len(keep) < len(left):
                # `take` copies whole columns several times as fast as an index does.
                left, columns = left[keep], columns.take(keep, axis=1)

    def _fill_node(self, node: int, candidates: Ints, columns: Floats) -> None:
        gpu = self.asked.gpu
        if gpu is not None and node in self.devices and columns[gpu].any():
            self._fill_devices(node, candidates, gpu)
            return
        for run in longest_runs(columns, self.free[node], self.slack[node]):
            self.where[candidates[run]] = node

    def _fill_devices(self, node: int, candidates: Ints, gpu: int) -> None:
        """Place one by one: a share of a GPU fits on a device, or not, whatever the sums say."""
        devices = self.devices[node]
        for start in range(0, len(candidates), _WINDOW):
            window = candidates[start : start + _WINDOW]
            window = window[(self.size[window] <= self.free[node] + self.slack[node]).all(axis=1)]
            for row in window.tolist():
                size = self.size[row]
                fits = bool((size <= self.free[node] + self.slack[node]).all())
                if fits and (size[gpu] == 0 or devices.take(row, float(size[gpu]))):
                    self.free[node] -= size
                    self.where[row] = node


def place(
    asked: Asked,
    offered: Offered,
    order: Ints,
    turn: Ints,
    *,
    where: Ints | None = None,
    tree: TeamTree | None = None,
    kept: Sequence[Kept] = (),
) -> Packing:
    """Find a node for every demand that fits.

    Who gets a node at all is decided by the minima. Where there is a choice of nodes,
    as many demands as possible, in the order of shedding, are given a node on which
    all they want fits, as long as that takes no node from anybody.

    Parameters
    ----------
    order, turn : int array, shape (n,)
        Demands in the order of admission and of shedding.
    where : int array, shape (n,), or None
        Nodes that the strategy chose, -1 for none.
    tree, kept
        As in `Packing`.
    """
    nodes = fullest_first(asked, offered)

    def packed(size: Floats) -> Packing:
        packing = Packing(asked, offered, size, nodes, tree=tree, kept=kept)
        if where is not None:
            packing.seat(order, where)
        packing.fill(order if where is None else order[packing.where[order] < 0])
        return packing

    best = packed(asked.minimum)
    ranged = np.logical_or.reduce(asked.wanted > asked.minimum, axis=1)
    elastic = turn[ranged[turn] & (best.where[turn] >= 0)]
    if not len(elastic) or len(nodes) == 1:
        return best
    low, high, middle = 0, len(elastic) + 1, _affordable(asked, offered, best.where >= 0, elastic)
    for _ in range(_TRIES if len(order) * len(nodes) < _LARGE else 2):
        if high - low < 2:  # noqa: PLR2004 the bounds have met
            break
        size = asked.minimum.copy()
        size[elastic[:middle]] = asked.wanted[elastic[:middle]]
        tried = packed(size)
        if (tried.where[best.where >= 0] >= 0).all():
            best, low = tried, middle
        else:
            high = middle
        # What fits in sum nearly always fits: look close below the guess first.
        middle = max(low + 1, high - max(1, (high - low) // 8))
    best.fill_up(order)
    return best


def _affordable(asked: Asked, offered: Offered, placed: Bools, elastic: Ints) -> int:
    """Return how many of `elastic` could have all they want if all nodes were one; at least 1."""
    left = offered.free.sum(axis=0) - asked.minimum[placed].sum(axis=0)
    span = (asked.wanted[elastic] - asked.minimum[elastic]) * placed[elastic, None]
    fits = np.logical_and.reduce(np.cumsum(span, axis=0) <= left + offered.slack.sum(axis=0), axis=1)
    return max(1, int(np.count_nonzero(fits)))


def fullest_first(asked: Asked, offered: Offered) -> Ints:
    """Order nodes: those without GPUs first, then the fullest, then by name.

    A job that needs no GPU shall not take the CPUs that a GPU needs beside it.
    """
    named = offered.capacity > 0
    share = np.divide(offered.free, offered.capacity, out=np.zeros_like(offered.free), where=named)
    emptiness = share.sum(axis=1) / np.maximum(named.sum(axis=1), 1)
    gpus = offered.capacity[:, asked.gpu] > 0 if asked.gpu is not None else np.zeros(len(offered.names), dtype=bool)
    ranks = np.argsort(np.argsort(np.array(offered.names, dtype=str), kind="stable"), kind="stable")
    return np.lexsort((ranks, emptiness, gpus))


def longest_runs(size: Floats, free: Floats, slack: Floats) -> Iterator[Ints]:
    """Serve demands in order, each if it still fits; yield those served, run by run.

    Parameters
    ----------
    size : float array, shape (R, n)
    free : float array, shape (R,)
        Room; what is served is subtracted in place.
    slack : float array, shape (R,)
        Excess that is taken for rounding.

    Examples
    --------
    >>> size = np.array([[50.0, 30.0, 10.0]])
    >>> [run.tolist() for run in longest_runs(size, np.array([60.0]), np.zeros(1))]
    [[0], [2]]
    """
    left, window = np.arange(size.shape[1]), _WINDOW
    while len(left):
        total = np.cumsum(size[:, :window], axis=1)
        fits = _within(total, free + slack)
        count = int(np.count_nonzero(fits))
        if count:
            free -= total[:, count - 1]
            yield left[:count]
        if count == len(fits):
            left, size, window = left[count:], size[:, count:], 2 * window
            continue
        size, left, window = size[:, count + 1 :], left[count + 1 :], _WINDOW
        keep = np.flatnonzero(_within(size, free + slack))
        left, size = left[keep], size.take(keep, axis=1)


def _within(size: Floats, limit: Floats) -> Bools:
    """Return which columns of `size` exceed no limit."""
    return np.asarray(np.logical_and.reduce(size <= limit[:, None], axis=0))
