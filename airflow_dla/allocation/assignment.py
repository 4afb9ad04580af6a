"""Which gang of GPUs runs which job: one type each, whole or not at all.

The relaxation that lets a gang be split over types is a transport problem, solved exactly by
the Hungarian method on single GPUs. Gangs that it splits are settled one by one, each where it
holds most of its GPUs; then gangs are exchanged while the relaxation promises more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from airflow_dla.allocation.table import Floats, Ints

#: For each type as many candidates are kept as fill all GPUs, and so many of the largest gangs more.
_SPARE = 2
#: Exchanges of gangs are tried so often, while the relaxation promises more than so much.
_TRIES = 60
_NEAR = 2e-3
_LEAST_GAIN = 1e-9


def assign(value: Floats, gpus: Ints, capacity: Ints) -> Ints:
    r"""Choose a type for each job, maximising :math:`\sum_i v_{i t(i)}` within the GPUs of each type.

    Exact when every job takes one GPU; with gangs an integer solution close to the relaxation.

    Parameters
    ----------
    value : float array, shape (jobs, types)
        What running a job on a type is worth; <= 0 where it must not run.
    gpus : int array, shape (jobs,)
        GPUs that a job takes, all of one type.
    capacity : int array, shape (types,)
        GPUs there are.

    Returns
    -------
    int array, shape (jobs,)
        The type of each job, -1 for one that waits.

    Examples
    --------
    >>> assign(np.array([[3.0, 1.0], [2.0, 1.9], [1.0, 0.0]]), np.array([1, 1, 1]), np.array([1, 1])).tolist()
    [0, 1, -1]

    References
    ----------
    Crouse: On implementing 2D rectangular assignment algorithms, IEEE TAES 52, 2016.
    """
    found = np.full(len(value), -1)
    able = np.flatnonzero(((value > 0) & (gpus[:, None] <= capacity)).any(axis=1))
    if len(able) == 0:
        return found
    kept = able[_candidates(value[able] / gpus[able, None], gpus[able], capacity)]
    worth = np.where(gpus[kept, None] <= capacity, np.maximum(value[kept], 0.0), 0.0)
    chosen = _singles(worth, capacity) if gpus[kept].max() == 1 else _gangs(worth, gpus[kept], capacity)
    found[kept] = chosen
    return found


def _candidates(density: Floats, gpus: Ints, capacity: Ints) -> Ints:
    """Return the jobs that are, for some type, among the most valuable for as many GPUs as there are; in order."""
    enough = int(capacity.sum() + _SPARE * gpus.max())
    if gpus.sum() <= enough:
        return np.arange(len(gpus))
    kept = np.zeros(len(gpus), dtype=bool)
    for column in density.T:
        order = np.argsort(-column, kind="stable")
        before = np.cumsum(gpus[order]) - gpus[order]
        kept[order[before < enough]] = True
    return np.flatnonzero(kept)


def _singles(worth: Floats, capacity: Ints) -> Ints:
    kinds = np.repeat(np.arange(len(capacity)), capacity)
    rows, columns = _assigned(worth[:, kinds])
    chosen = np.full(len(worth), -1)
    chosen[rows] = np.where(worth[rows, kinds[columns]] > 0, kinds[columns], -1)
    return chosen


def _gangs(worth: Floats, gpus: Ints, capacity: Ints) -> Ints:
    chosen = np.full(len(worth), -1)
    free, open_jobs = capacity.copy(), np.arange(len(worth))
    held, bound = _relax(worth, gpus, open_jobs, free)
    while True:
        most = held.max(axis=1)
        split = np.flatnonzero((held.sum(axis=1) > 0) & (most < gpus))
        if len(split) == 0:
            break
        gang = int(split[np.argmax(worth[split].max(axis=1))])
        open_jobs = open_jobs[open_jobs != gang]
        parts = np.where(gpus[gang] <= free, held[gang], 0)
        if parts.any():
            chosen[gang] = int(np.argmax(parts))
            free[chosen[gang]] -= gpus[gang]
        held, _ = _relax(worth, gpus, open_jobs, free)
    whole = most == gpus
    chosen[whole] = np.argmax(held[whole], axis=1)
    if len(open_jobs) == len(worth):
        return chosen
    return _Exchange(worth, gpus, capacity).improve(chosen, bound)


class _Exchange:
    """Local search over the types of gangs, with the best assignment of single GPUs for each."""

    def __init__(self, worth: Floats, gpus: Ints, capacity: Ints) -> None:
        self._worth, self._gpus, self._capacity = worth, gpus, capacity
        self._gangs, self._singles = np.flatnonzero(gpus > 1), np.flatnonzero(gpus == 1)
        self._tries = _TRIES

    def improve(self, chosen: Ints, bound: float) -> Ints:
        """Move gangs, each time to the first better place, while the bound is worth it and tries are left."""
        best, total = self._complete(chosen)
        moved = True
        while moved and total < bound * (1.0 - _NEAR):
            moved = False
            for tried in self._neighbours(best):
                if self._tries == 0:
                    return best
                self._tries -= 1
                found, value = self._complete(tried)
                if value > total * (1.0 + _LEAST_GAIN):
                    best, total, moved = found, value, True
                    break
        return best

    def _neighbours(self, chosen: Ints) -> Iterator[Ints]:
        """Yield choices in which one gang is elsewhere, and where it has no room another one took its place."""
        dense = (self._worth / self._gpus[:, None]).max(axis=1)
        for gang in self._gangs[np.argsort(-dense[self._gangs], kind="stable")].tolist():
            for kind in np.argsort(-self._worth[gang], kind="stable").tolist():
                if kind != chosen[gang] and self._worth[gang, kind] > 0:
                    moved = chosen.copy()
                    moved[gang] = kind
                    yield from [moved] if self._fits(moved) else self._displacing(moved, gang, int(chosen[gang]))
            if chosen[gang] >= 0:
                waiting = chosen.copy()
                waiting[gang] = -1
                yield waiting

    def _displacing(self, moved: Ints, gang: int, left: int) -> Iterator[Ints]:
        """Yield choices in which another gang makes room: it takes the place that was left, or waits."""
        others = self._gangs[(moved[self._gangs] == moved[gang]) & (self._gangs != gang)]
        for other in others.tolist():
            places = [left, -1] if left >= 0 and self._worth[other, left] > 0 else [-1]
            for place in places:
                found = moved.copy()
                found[other] = place
                if self._fits(found):
                    yield found

    def _fits(self, chosen: Ints) -> bool:
        return bool((self._left(chosen) >= 0).all())

    def _left(self, chosen: Ints) -> Ints:
        runs = self._gangs[chosen[self._gangs] >= 0]
        used = np.bincount(chosen[runs], weights=self._gpus[runs], minlength=len(self._capacity))
        return np.asarray(self._capacity - used.astype(np.intp))

    def _complete(self, chosen: Ints) -> tuple[Ints, float]:
        """Give the GPUs that gangs leave to single jobs; return the choice and what it is worth."""
        found = chosen.copy()
        found[self._singles] = _singles(self._worth[self._singles], self._left(chosen))
        runs = np.flatnonzero(found >= 0)
        return found, float(self._worth[runs, found[runs]].sum())


def _relax(worth: Floats, gpus: Ints, jobs: Ints, free: Ints) -> tuple[Ints, float]:
    """Return how many GPUs of each type each job holds when gangs may be split, and what that is worth."""
    held = np.zeros(worth.shape, dtype=np.intp)
    units, kinds = np.repeat(jobs, gpus[jobs]), np.repeat(np.arange(len(free)), free)
    each = np.where(gpus[:, None] <= free, worth, 0.0) / gpus[:, None]
    rows, columns = _assigned(each[units[:, None], kinds])
    gained = each[units[rows], kinds[columns]]
    useful = gained > 0
    np.add.at(held, (units[rows[useful]], kinds[columns[useful]]), 1)
    return held, float(gained.sum())


def _assigned(worth: Floats) -> tuple[Ints, Ints]:
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - half a second of each task's start, and few rounds come here

    rows, columns = linear_sum_assignment(worth, maximize=True)
    return rows, columns
