"""Which gang of GPUs runs which job: one type each, whole or not at all.

The relaxation that lets a gang be split over types is a transport problem, solved exactly by
the Hungarian method on single GPUs. Gangs that it splits are settled one by one, each
where the relaxation of the rest is worth most.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from airflow_dla.allocation.table import Floats, Ints

#: How many GPUs' worth of candidates are kept for each GPU; more cannot matter for single-GPU jobs.
_CANDIDATES = 2


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
    kept = able[_candidates(value[able] / gpus[able, None], gpus[able], capacity)]
    if len(kept) == 0:
        return found
    worth = np.where(gpus[kept, None] <= capacity, np.maximum(value[kept], 0.0), 0.0)
    chosen = _singles(worth, capacity) if gpus[kept].max() == 1 else _gangs(worth, gpus[kept], capacity)
    found[kept] = chosen
    return found


def _candidates(density: Floats, gpus: Ints, capacity: Ints) -> Ints:
    """Return the jobs that are, for some type, among the most valuable for twice all GPUs; in order."""
    enough = _CANDIDATES * int(capacity.sum())
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
    rows, columns = linear_sum_assignment(worth[:, kinds], maximize=True)
    chosen = np.full(len(worth), -1)
    chosen[rows] = np.where(worth[rows, kinds[columns]] > 0, kinds[columns], -1)
    return chosen


def _gangs(worth: Floats, gpus: Ints, capacity: Ints) -> Ints:
    chosen = np.full(len(worth), -1)
    free, open_jobs = capacity.copy(), np.arange(len(worth))
    while True:
        held, _ = _relax(worth, gpus, open_jobs, free)
        most = held.max(axis=1)
        split = np.flatnonzero((held.sum(axis=1) > 0) & (most < gpus))
        if len(split) == 0:
            break
        gang = int(split[np.argmax(worth[split].max(axis=1))])
        open_jobs = open_jobs[open_jobs != gang]
        chosen[gang] = _settle(gang, worth, gpus, open_jobs, free)
        if chosen[gang] >= 0:
            free[chosen[gang]] -= gpus[gang]
    whole = most == gpus
    chosen[whole] = np.argmax(held[whole], axis=1)
    return chosen


def _relax(worth: Floats, gpus: Ints, jobs: Ints, free: Ints) -> tuple[Ints, float]:
    """Return how many GPUs of each type each job holds when gangs may be split, and what that is worth."""
    held = np.zeros(worth.shape, dtype=np.intp)
    units, kinds = np.repeat(jobs, gpus[jobs]), np.repeat(np.arange(len(free)), free)
    each = np.where(gpus[:, None] <= free, worth, 0.0) / gpus[:, None]
    rows, columns = linear_sum_assignment(each[units[:, None], kinds], maximize=True)
    gained = each[units[rows], kinds[columns]]
    useful = gained > 0
    np.add.at(held, (units[rows[useful]], kinds[columns[useful]]), 1)
    return held, float(gained.sum())


def _settle(gang: int, worth: Floats, gpus: Ints, others: Ints, free: Ints) -> int:
    """Return the type on which a gang leaves the most to the relaxation of the others; -1 where waiting does."""
    best, kind = _relax(worth, gpus, others, free)[1], -1
    for candidate in np.flatnonzero((gpus[gang] <= free) & (worth[gang] > 0)).tolist():
        left = free.copy()
        left[candidate] -= gpus[gang]
        total = worth[gang, candidate] + _relax(worth, gpus, others, left)[1]
        if total > best:
            best, kind = total, candidate
    return kind
