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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, brentq, linprog, milp
from scipy.sparse import csc_array

from airflow_dla.allocation.table import Floats, Ints
from airflow_dla.errors import Infeasible, InvalidSpec, SolverFailed

_INFEASIBLE = 2
_SIMPLEX_CLASSES = 300
_CLOSE = 1e-10
_MIXER = 0x9E3779B97F4A7C15


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


def _classes(rows: Floats, gpus: Ints, capacity: Ints) -> _Classes:
    keys = np.column_stack([rows, gpus])
    # A mixture of the bits is much faster to sort than whole rows; two rows may share one.
    factors = np.arange(1, 2 * keys.shape[1], 2, dtype=np.uint64) * np.uint64(_MIXER)
    bits = keys.view(np.uint64)
    mixed = ((bits ^ (bits >> np.uint64(32))) * factors).sum(axis=1, dtype=np.uint64)
    _, first, of, count = np.unique(mixed, return_index=True, return_inverse=True, return_counts=True)
    if not np.array_equal(keys[first][of], keys):
        _, first, of, count = np.unique(keys, axis=0, return_index=True, return_inverse=True, return_counts=True)
    return _Classes(rows[first], gpus[first], count.astype(float), of.ravel(), capacity)


def _highest_floor(rate: Floats, mix: Mix, *, interior: bool) -> Fractions:
    """Maximise the lowest rate; the best that each job can do alone bounds it, and scales it to about 1."""
    rate = np.where(mix.gpus[:, None] <= mix.capacity, rate, 0.0)
    bound = float(rate.max(axis=1).min())
    if bound <= 0:
        return Fractions(np.zeros(rate.shape), 0.0)
    found = _classes(rate / bound, mix.gpus, mix.capacity)
    # Time is counted per class, so the floor of a class is its number of jobs times z.
    y = _optimum(found, np.zeros(rate.shape[1]), floor=found.rows, lift=True, interior=interior)
    x = _spread(y, found)
    return Fractions(x, float((rate * x).sum(axis=1).min()))


def _largest_sum(value: Floats, mix: Mix, need: Floats | None) -> Fractions:
    """Maximise a sum; with `need`, each job also makes so many steps per second."""
    scale, kinds = float(value.max(initial=0.0)) or 1.0, value.shape[1]
    floor = np.zeros((len(value), 0)) if need is None else mix.throughput / np.where(need > 0, need, np.inf)[:, None]
    found = _classes(np.hstack([value / scale, floor]), mix.gpus, mix.capacity)
    y = _optimum(found, -found.rows[:, :kinds], floor=None if need is None else found.rows[:, kinds:], lift=False, interior=False)
    x = _spread(y, found)
    return Fractions(x, float((value * x).sum()))


def _optimum(found: _Classes, cost: Floats, *, floor: Floats | None, lift: bool, interior: bool) -> Floats:
    r"""Minimise a cost of the classes' times, or with `lift` maximise their floor z.

    The rows are: the time of each class, the GPUs of each type, and the floor of each class,
    :math:`\sum_j a_{cj} y_{cj} \ge n_c z`, where z = 1 without `lift` and a class without rates has none.
    """
    classes, kinds = len(found.count), len(found.capacity)
    matrix = _matrix(found, floor, lift=lift)
    limit = np.concatenate([found.count, found.capacity])
    if floor is not None:
        limit = np.concatenate([limit, np.zeros(classes) if lift else -found.count * (floor.max(axis=1) > 0)])
    fits = found.gpus[:, None] <= found.capacity
    upper = np.concatenate([(fits * found.count[:, None]).ravel(), np.full(int(lift), np.inf)])
    costs = np.concatenate([np.broadcast_to(cost, fits.shape).ravel(), np.full(int(lift), -1.0)])
    answer = _solve(costs, matrix, limit, upper, interior=interior and classes > _SIMPLEX_CLASSES)
    return answer[: classes * kinds].reshape(classes, kinds)


def _matrix(found: _Classes, floor: Floats | None, *, lift: bool) -> csc_array:
    """Return the rows, column by column: each time has one entry in each block."""
    classes, kinds = len(found.count), len(found.capacity)
    row = np.repeat(np.arange(classes), kinds)
    rows = [row, classes + np.tile(np.arange(kinds), classes)]
    values = [np.ones(len(row)), np.repeat(found.gpus.astype(float), kinds)]
    if floor is not None:
        rows.append(classes + kinds + row)
        values.append(-floor.ravel())
    index, value = np.column_stack(rows).ravel(), np.column_stack(values).ravel()
    start = np.arange(0, len(index) + 1, len(rows))
    if lift:
        index = np.concatenate([index, classes + kinds + np.arange(classes)])
        value = np.concatenate([value, found.count])
        start = np.append(start, len(index))
    height = classes + kinds + (0 if floor is None else classes)
    return csc_array((value, index, start), shape=(height, len(start) - 1))


def _solve(cost: Floats, matrix: Any, limit: Floats, upper: Floats, *, interior: bool) -> Floats:
    """Ask HiGHS: its simplex through the entrance that costs least, or its interior point with crossover."""
    if interior:
        bounds: Any = np.column_stack([np.zeros(len(upper)), upper])
        answer: Any = linprog(cost, A_ub=matrix, b_ub=limit, bounds=bounds, method="highs-ipm")
    else:
        answer = milp(cost, constraints=LinearConstraint(matrix, -np.inf, limit), bounds=Bounds(0.0, upper))
    if answer.status == _INFEASIBLE:
        raise Infeasible(f"no shares of time keep all {len(limit)} limits and floors (HiGHS status 2: {answer.message})")
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
