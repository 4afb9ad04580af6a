r"""Shares of time on GPUs of several types, as linear programmes over classes of identical jobs.

Job i runs a fraction :math:`x_{ij}` of the time on type j, with :math:`s_i` GPUs of it at once:
:math:`\sum_j x_{ij} \le 1`, :math:`\sum_i s_i x_{ij} \le C_j`. Two shapes serve all objectives: the highest
floor, :math:`\max z` with :math:`\sum_j a_{ij} x_{ij} \ge z`, and the largest sum,
:math:`\max \sum v_{ij} x_{ij}` above given floors. Jobs with equal rows are one column block
with a multiplicity, which leaves the optimum as it is and makes the programme
independent of their number.

The idea is Gavel's: Narayanan et al., Heterogeneity-Aware Cluster Scheduling Policies for Deep
Learning Workloads, OSDI 2020; the programmes are direct where it bisects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from scipy.optimize import brentq, linprog
from scipy.sparse import coo_array, csc_array

from airflow_dla.allocation.table import Floats, Ints
from airflow_dla.errors import Infeasible, InvalidSpec, SolverFailed

_INFEASIBLE = 2
_SIMPLEX_CLASSES = 300
_CLOSE = 1e-10


@dataclass(frozen=True, slots=True)
class Mix:
    """Jobs that share GPUs of several types.

    Parameters
    ----------
    throughput : float array, shape (jobs, types)
        Steps per second of a job on its GPUs, all of one type; 0 where it cannot run.
    gpus : int array, shape (jobs,)
        GPUs that a job takes while it runs.
    capacity : int array, shape (types,)
        GPUs there are.
    steps : float array, shape (jobs,)
        Steps that are left; for all but `max-min`.
    weight : float array, shape (jobs,), optional
        What a job matters, > 0; 1 by default.
    elapsed_s, alone_s : float array, shape (jobs,), optional
        For `finish-time`: time since arrival, and run time alone on an equal share. Without
        them every job has just arrived, and runs alone on 1/jobs of every type.
    left_s : float array, shape (jobs,), optional
        For `slo`: time until the deadline; infinite without one.
    price : float array, shape (types,), optional
        For `cost` and `slo`: what a GPU of a type costs, > 0; 1 by default.

    Raises
    ------
    InvalidSpec
        If a number is not finite or breaks its rule.
    """

    throughput: Floats
    gpus: Ints
    capacity: Ints
    steps: Floats
    weight: Floats | None = None
    elapsed_s: Floats | None = None
    alone_s: Floats | None = None
    left_s: Floats | None = None
    price: Floats | None = None

    def __post_init__(self) -> None:
        _need("throughput", self.throughput, np.isfinite(self.throughput) & (self.throughput >= 0), ">= 0 and finite")
        _need("gpus", self.gpus, self.gpus >= 1, ">= 1")
        _need("capacity", self.capacity, self.capacity >= 0, ">= 0")
        _need("steps", self.steps, np.isfinite(self.steps) & (self.steps > 0), "> 0 and finite")
        for name in ("weight", "alone_s", "price"):
            given = getattr(self, name)
            if given is not None:
                _need(name, given, np.isfinite(given) & (given > 0), "> 0 and finite")
        runs = (self.throughput > 0) & (self.gpus[:, None] <= self.capacity)
        _need("throughput on a type with enough GPUs", self.throughput.max(axis=1, initial=0.0), runs.any(axis=1), "> 0 for every job")


@dataclass(frozen=True, slots=True)
class Fractions:
    """The answer of a linear programme.

    Parameters
    ----------
    x : float array, shape (jobs, types)
        Fraction of the time that a job runs on a type.
    value : float
        The objective: the lowest weighted share (`max-min`), seconds (`makespan`), the largest ratio of
        finish times (`finish-time`), or the sum.
    """

    x: Floats
    value: float


def fractions(objective: str, mix: Mix) -> Fractions:
    """Return the best shares of time under an objective.

    Parameters
    ----------
    objective : str
        One of `OBJECTIVES`.
    mix : Mix
        With at least one job.

    Raises
    ------
    InvalidSpec
        If the objective is unknown.
    Infeasible
        If deadlines cannot be kept (`slo`).
    SolverFailed
        If HiGHS ends without an optimum.

    Examples
    --------
    >>> two = Mix(np.array([[4.0, 1.0], [4.0, 2.0]]), np.array([1, 1]), np.array([1, 1]), np.array([100.0, 100.0]))
    >>> found = fractions("makespan", two)
    >>> round(found.value, 6), found.x.round(6).tolist()
    (35.714286, [[0.6, 0.4], [0.4, 0.6]])
    """
    if objective not in OBJECTIVES:
        raise InvalidSpec(f"objective {objective!r} is not known; known are {', '.join(sorted(OBJECTIVES))}")
    return OBJECTIVES[objective](mix)


def proportional(throughput: Floats, gpus: Ints, capacity: Ints, share: Floats | float) -> Floats:
    """Return each job's steps per second on a share of every type, as far as it can use it.

    Parameters
    ----------
    share : float array, shape (jobs,), or float
        Part of the cluster, for instance one n-th.

    Returns
    -------
    float array, shape (jobs,)
    """
    x = np.multiply.outer(np.broadcast_to(share, gpus.shape) / gpus, capacity)
    x = np.where(throughput > 0, x, 0.0)
    return np.asarray((throughput * x / np.maximum(1.0, x.sum(axis=1))[:, None]).sum(axis=1))


def _max_min(mix: Mix) -> Fractions:
    equal = proportional(mix.throughput, mix.gpus, mix.capacity, 1.0 / len(mix.gpus))
    weight = np.ones(len(mix.gpus)) if mix.weight is None else mix.weight
    return _highest_floor(mix.throughput * (mix.gpus / (weight * equal))[:, None], mix, interior=True)


def _makespan(mix: Mix) -> Fractions:
    found = _highest_floor(mix.throughput / mix.steps[:, None], mix, interior=False)
    return Fractions(found.x, 1.0 / found.value)


def _finish_time(mix: Mix) -> Fractions:
    """Search for the ratio once jobs have waited; at the start one programme is exact."""
    alone = mix.alone_s
    if alone is None:
        alone = mix.steps / proportional(mix.throughput, mix.gpus, mix.capacity, 1.0 / len(mix.gpus))
    if mix.elapsed_s is None or not mix.elapsed_s.any():
        found = _highest_floor(mix.throughput * (alone / mix.steps)[:, None], mix, interior=True)
        return Fractions(found.x, 1.0 / found.value)
    fastest = mix.steps / _able(mix).max(axis=1)
    return _least_ratio(mix, alone, mix.elapsed_s, float(np.max((mix.elapsed_s + fastest) / alone)))


def _least_ratio(mix: Mix, alone: Floats, elapsed: Floats, low: float) -> Fractions:
    """Find the ratio whose floors can just be kept; the lowest floor at a ratio rises with it."""

    def at(ratio: float) -> Fractions:
        return _highest_floor(mix.throughput * ((ratio * alone - elapsed) / mix.steps)[:, None], mix, interior=True)

    def reached(x: Floats) -> float:
        return float(np.max((elapsed + mix.steps / np.maximum((mix.throughput * x).sum(axis=1), 1e-300)) / alone))

    found = at(low)
    if found.value < 1.0:
        root = brentq(lambda ratio: at(ratio).value - 1.0, low, reached(found.x) * (1 + _CLOSE), rtol=_CLOSE)
        found = at(root)
    return Fractions(found.x, reached(found.x))


def _able(mix: Mix) -> Floats:
    return np.where(mix.gpus[:, None] <= mix.capacity, mix.throughput, 0.0)


def _jct(mix: Mix) -> Fractions:
    """Smith's rule as a programme: steps per second over steps left, times weight."""
    return _largest_sum(mix.throughput * (_weights(mix) / mix.steps)[:, None], mix, None)


def _cost(mix: Mix) -> Fractions:
    return _largest_sum(_per_cost(mix), mix, None)


def _slo(mix: Mix) -> Fractions:
    left = np.full(len(mix.gpus), np.inf) if mix.left_s is None else mix.left_s
    if (left <= 0).any():
        late = int(np.argmin(left))
        raise Infeasible(f"job {late} is past its deadline by {-left[late]:g} s; leave its deadline out")
    return _largest_sum(_per_cost(mix), mix, mix.steps / left)


def _per_cost(mix: Mix) -> Floats:
    return mix.throughput * _weights(mix)[:, None] / (1.0 if mix.price is None else mix.price)


def _weights(mix: Mix) -> Floats:
    return np.ones(len(mix.gpus)) if mix.weight is None else mix.weight


#: Objective by name.
OBJECTIVES: Final[Mapping[str, Callable[[Mix], Fractions]]] = MappingProxyType(
    {"max-min": _max_min, "makespan": _makespan, "finish-time": _finish_time, "jct": _jct, "cost": _cost, "slo": _slo}
)


@dataclass(frozen=True, slots=True)
class _Classes:
    """Jobs with equal rows, once each, and where each job went."""

    rows: Floats
    gpus: Ints
    count: Floats
    of: Ints
    capacity: Ints
    usable: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "usable", (self.gpus[:, None] <= self.capacity).astype(float))


def _classes(rows: Floats, gpus: Ints, capacity: Ints) -> _Classes:
    keys = np.column_stack([rows, gpus])
    _, first, of, count = np.unique(keys, axis=0, return_index=True, return_inverse=True, return_counts=True)
    return _Classes(rows[first], gpus[first], count.astype(float), of.ravel(), capacity)


def _highest_floor(rate: Floats, mix: Mix, *, interior: bool) -> Fractions:
    """Maximise the lowest rate; the best that each job can do alone bounds it, and scales it to about 1."""
    rate = np.where(mix.gpus[:, None] <= mix.capacity, rate, 0.0)
    bound = float(rate.max(axis=1).min())
    if bound <= 0:
        return Fractions(np.zeros(rate.shape), 0.0)
    found = _classes(rate / bound, mix.gpus, mix.capacity)
    classes, kinds = found.rows.shape
    shares, held = _limits(found)
    # Time is counted per class, so a class's floor is its number of jobs times z.
    floor = _by_class(-found.rows)
    rows = _stack([(shares, None), (held, None), (floor, found.count)])
    limit = np.concatenate([found.count, found.capacity, np.zeros(classes)])
    cost = np.zeros(classes * kinds + 1)
    cost[-1] = -1.0
    y = _optimum(cost, rows, limit, _upper(found, extra=1), interior=interior and classes > _SIMPLEX_CLASSES)[:-1]
    x = _spread(y.reshape(classes, kinds), found)
    return Fractions(x, float((rate * x).sum(axis=1).min()))


def _largest_sum(value: Floats, mix: Mix, need: Floats | None) -> Fractions:
    """Maximise a sum; with `need`, each job also makes so many steps per second."""
    scale = float(value.max(initial=0.0)) or 1.0
    columns = [value / scale] if need is None else [value / scale, mix.throughput, need[:, None]]
    found = _classes(np.hstack(columns), mix.gpus, mix.capacity)
    classes, kinds = len(found.rows), value.shape[1]
    shares, held = _limits(_Classes(found.rows[:, :kinds], found.gpus, found.count, found.of, found.capacity))
    parts, limits = [(shares, None), (held, None)], [found.count, found.capacity.astype(float)]
    if need is not None:
        fastest = found.rows[:, kinds:-1].max(axis=1, keepdims=True)
        parts.append((_by_class(-found.rows[:, kinds:-1] / fastest), None))
        limits.append(-found.rows[:, -1] * found.count / fastest[:, 0])
    y = _optimum(-found.rows[:, :kinds].ravel(), _stack(parts), np.concatenate(limits), _upper(found, extra=0), interior=False)
    x = _spread(y.reshape(classes, kinds), found)
    return Fractions(x, float((value * x).sum()))


_Triple = tuple[Ints, Ints, Floats, int]


def _by_class(rows: Floats) -> _Triple:
    """Return one row a class over its own columns: row, column, value, number of rows."""
    classes, kinds = rows.shape
    return np.repeat(np.arange(classes), kinds), np.arange(classes * kinds), rows.ravel(), classes


def _limits(found: _Classes) -> tuple[_Triple, _Triple]:
    classes, kinds = len(found.count), len(found.capacity)
    held = (np.tile(np.arange(kinds), classes), np.arange(classes * kinds), np.repeat(found.gpus.astype(float), kinds), kinds)
    return _by_class(np.ones((classes, kinds))), held


def _stack(parts: Sequence[tuple[_Triple, Floats | None]]) -> csc_array:
    """Stack blocks of rows; a block may have a last column of its own."""
    rows, columns, values, start = [], [], [], 0
    width = max(int(part[0][1].max(initial=-1)) for part in parts) + 1
    last = any(extra is not None for _, extra in parts)
    for (row, column, value, height), extra in parts:
        rows.append(row + start)
        columns.append(column)
        values.append(value)
        if extra is not None:
            rows.append(np.arange(start, start + height))
            columns.append(np.full(height, width))
            values.append(extra)
        start += height
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return csc_array(coo_array(entries, shape=(start, width + last)))


def _upper(found: _Classes, *, extra: int) -> Floats:
    upper = (found.usable * found.count[:, None]).ravel()
    return np.concatenate([upper, np.full(extra, np.inf)])


def _optimum(cost: Floats, rows: csc_array, limit: Floats, upper: Floats, *, interior: bool) -> Floats:
    bounds: Any = np.column_stack([np.zeros(len(upper)), upper])
    matrix: Any = rows  # the stubs do not know that sparse matrices and arrays of bounds are taken
    if interior:
        answer = linprog(cost, A_ub=matrix, b_ub=limit, bounds=bounds, method="highs-ipm")
    else:
        answer = linprog(cost, A_ub=matrix, b_ub=limit, bounds=bounds, method="highs-ds")
    if answer.status == _INFEASIBLE:
        raise Infeasible(f"no shares of time keep all {rows.shape[0]} limits and floors (HiGHS status 2: {answer.message})")
    if answer.status != 0 or answer.x is None:
        raise SolverFailed(f"HiGHS ended without an optimum, status {answer.status}: {answer.message}")
    return np.asarray(answer.x)


def _spread(y: Floats, found: _Classes) -> Floats:
    """Return each job's part of its class, within every limit to the last digit."""
    x = np.maximum(y, 0.0) / found.count[:, None]
    x /= np.maximum(1.0, x.sum(axis=1))[:, None]
    used = found.gpus * found.count @ x
    x *= np.where(used > found.capacity, found.capacity / np.maximum(used, 1e-300), 1.0)
    return np.asarray(x[found.of])


def _need(name: str, given: Floats | Ints, kept: Any, rule: str) -> None:
    if not np.all(kept):
        where = tuple(int(index) for index in np.argwhere(~kept)[0])
        raise InvalidSpec(f"{name} must be {rule}, got {given[where]} (job or type {where[0]})")
