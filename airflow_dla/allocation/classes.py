r"""The two linear programmes of shares of time, over classes of identical jobs.

:math:`n_c` jobs of class c spend the time :math:`y_{cj}` on GPUs of type j, :math:`s_c` of them
each: :math:`\sum_j y_{cj} \le n_c`, :math:`\sum_c s_c y_{cj} \le C_j`. A class that has no job now
keeps its place in the programme, so that the last basis fits the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.programme import Programme, Solver
from airflow_dla.allocation.table import Floats, Ints

_SIMPLEX_CLASSES = 300
_MIXER = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Groups:
    """Which rows are equal: n rows, C different ones.

    Parameters
    ----------
    first : int array, shape (C,)
        The first row of each class.
    of : int array, shape (n,)
        Class of each row.
    count : float array, shape (C,)
        Rows of each class.
    """

    first: Ints
    of: Ints
    count: Floats


@dataclass(frozen=True, slots=True)
class Classes:
    """Classes of jobs, and what they run on; C classes, T types.

    Parameters
    ----------
    gpus : int array, shape (C,)
    count : float array, shape (C,)
        Jobs of each, >= 0.
    capacity : int array, shape (T,)
    """

    gpus: Ints
    count: Floats
    capacity: Ints


def group(keys: Floats) -> Groups:
    """Find equal rows, shape (n, k); the order of the classes is that of a mixture of the rows' bits.

    Examples
    --------
    >>> found = group(np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
    >>> sorted(found.count.tolist()), found.of[0] == found.of[2]
    ([1.0, 2.0], np.True_)
    """
    # A mixture of the bits is much faster to sort than whole rows; two rows may share one.
    factors = np.arange(1, 2 * keys.shape[1], 2, dtype=np.uint64) * np.uint64(_MIXER)
    bits = keys.view(np.uint64)
    mixed = ((bits ^ (bits >> np.uint64(32))) * factors).sum(axis=1, dtype=np.uint64)
    _, first, of, count = np.unique(mixed, return_index=True, return_inverse=True, return_counts=True)
    if not np.array_equal(keys[first][of], keys):
        _, first, of, count = np.unique(keys, axis=0, return_index=True, return_inverse=True, return_counts=True)
    return Groups(first, of.ravel(), count.astype(float))


def highest_floor(rate: Floats, classes: Classes, solver: Solver, *, interior: bool) -> Floats:
    r"""Maximise z with :math:`\sum_j a_{cj} x_{cj} \ge z` for every class that has jobs.

    Parameters
    ----------
    rate : float array, shape (C, T)
        What a job of a class makes on a type, 0 where it cannot run.
    interior : bool
        Whether the interior point method is the faster one when classes are many.

    Returns
    -------
    float array, shape (C, T)
        Fraction of the time of each job of a class.
    """
    # The best that each job can do alone bounds the floor, and scales it to about 1.
    bound = float(rate.max(axis=1)[classes.count > 0].min())
    if bound <= 0:
        return np.zeros(rate.shape)
    # Time is counted per class, so the floor of a class is its number of jobs times z.
    return _optimum(classes, np.zeros(rate.shape), solver, floor=rate / bound, lift=True, interior=interior)


def largest_sum(value: Floats, classes: Classes, solver: Solver, floor: Floats | None = None) -> Floats:
    r"""Maximise :math:`\sum_{cj} n_c v_{cj} x_{cj}`.

    Parameters
    ----------
    value : float array, shape (C, T)
    floor : float array, shape (C, T), optional
        Rates of which each job needs 1 in all; zeros for a class that needs none.

    Returns
    -------
    float array, shape (C, T)
        Fraction of the time of each job of a class.

    Raises
    ------
    Infeasible
        If the floors cannot be kept.
    """
    scale = float(value.max(initial=0.0)) or 1.0
    return _optimum(classes, value / -scale, solver, floor=floor, lift=False, interior=False)


def _optimum(classes: Classes, cost: Floats, solver: Solver, *, floor: Floats | None, lift: bool, interior: bool) -> Floats:
    """Minimise a cost of the classes' times, or with `lift` maximise their floor z."""
    programme = _programme(classes, cost, floor, lift=lift)
    y = solver.solve(programme, interior=interior and len(cost) > _SIMPLEX_CLASSES)
    return _spread(y[: cost.size].reshape(cost.shape), classes)


def _programme(classes: Classes, cost: Floats, floor: Floats | None, *, lift: bool) -> Programme:
    r"""Write the rows: the time of each class, the GPUs of each type, and the floor of each class.

    The floor is :math:`\sum_j a_{cj} y_{cj} \ge n_c z`, where z = 1 without `lift` and a class without
    rates has none. Column by column, each time has one entry in each block.
    """
    count, (many, kinds) = classes.count, cost.shape
    row = np.repeat(np.arange(many), kinds)
    rows, values = [row, np.tile(np.arange(many, many + kinds), many)], [np.ones(len(row)), np.repeat(classes.gpus.astype(float), kinds)]
    limit = [count, classes.capacity]
    if floor is not None:
        rows.append(row + (many + kinds))
        values.append(-floor.ravel())
        limit.append(np.zeros(many) if lift else -count * (floor.max(axis=1) > 0))
    index, value, costs = np.array(rows).T.ravel(), np.array(values).T.ravel(), cost.ravel()
    start = np.arange(0, len(index) + 1, len(rows))
    upper = np.where(classes.gpus[:, None] <= classes.capacity, count[:, None], 0.0).ravel()
    if lift:
        index, value = np.concatenate([index, np.arange(many + kinds, 2 * many + kinds)]), np.concatenate([value, count])
        start, upper, costs = np.append(start, len(index)), np.append(upper, np.inf), np.append(costs, -1.0)
    return Programme(costs, start, index, value, np.concatenate(limit), np.zeros(len(costs)), upper)


def _spread(y: Floats, classes: Classes) -> Floats:
    """Return each job's part of its class, within every limit to the last digit."""
    x = np.maximum(y, 0.0) / np.maximum(classes.count, 1.0)[:, None]
    x /= np.maximum(1.0, x.sum(axis=1))[:, None]
    used = classes.gpus * classes.count @ x
    x *= np.where(used > classes.capacity, classes.capacity / np.maximum(used, 1e-300), 1.0)
    return np.asarray(x)
