r"""Shares of time on GPUs of several types, as linear programmes over classes of identical jobs.

Job i runs a fraction :math:`x_{ij}` of the time on type j, with :math:`s_i` GPUs of it at once:
:math:`\sum_j x_{ij} \le 1`, :math:`\sum_i s_i x_{ij} \le C_j`. Two shapes serve all objectives: the highest
floor, :math:`\max z` with :math:`\sum_j a_{ij} x_{ij} \ge z`, and the largest sum,
:math:`\max \sum v_{ij} x_{ij}` above given floors. Jobs with equal rows are one column block
with a multiplicity, which leaves the optimum as it is and makes the programme
independent of their number (`classes`); jobs that come and go change no more than
multiplicities, so that a `ClassProgramme` is solved again from its last basis.

The idea is Gavel's: Narayanan et al., Heterogeneity-Aware Cluster Scheduling Policies for Deep
Learning Workloads, OSDI 2020; the programmes are direct where it bisects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from airflow_dla.allocation.classes import Classes, group, highest_floor, largest_sum
from airflow_dla.allocation.programme import Solver
from airflow_dla.allocation.solver import solver
from airflow_dla.allocation.table import Floats, Ints
from airflow_dla.errors import Infeasible, InvalidSpec

_CLOSE = 1e-10
_NOTHING = 1e-300


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

    def at(self, jobs: Ints) -> Mix:
        """Return some of the jobs."""
        of_jobs = ("throughput", "gpus", "steps", "weight", "elapsed_s", "alone_s", "left_s")
        given = {name: getattr(self, name) for name in of_jobs}
        return replace(self, **{name: column[jobs] for name, column in given.items() if column is not None})


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


class ClassProgramme:
    """Shares of time of jobs that come and go: each solution starts from the last one.

    Jobs that are alike are one class; when some leave or come, only multiplicities change, and
    with highspy (extra ``fast``) the last basis is most often still the best one. Which of
    several best points is found may then depend on what was solved before: where the same
    jobs must get the same shares whatever went before, ask `fractions`.

    Parameters
    ----------
    objective : str
        One of `OBJECTIVES`.
    mix : Mix
        With at least one job of every class that may come.
    library : str, optional
        `highspy` or `scipy`; by default the first that is there.

    Attributes
    ----------
    of : int array, shape (jobs,)
        The class of each job.
    count : float array, shape (classes,)
        Jobs of each class in `mix`.

    Raises
    ------
    InvalidSpec
        If the objective or the library is unknown.
    MissingExtra
        If highspy is asked for and not installed.
    Infeasible
        If a deadline has passed (`slo`).

    Examples
    --------
    >>> two = Mix(np.array([[4.0, 1.0], [4.0, 1.0], [4.0, 2.0]]), np.ones(3, int), np.array([1, 1]), np.full(3, 100.0))
    >>> kept = ClassProgramme("makespan", two)
    >>> left = kept.count.copy()
    >>> left[kept.of[0]] -= 1
    >>> round(kept.solve().value, 6), round(kept.solve(left).value, 6)
    (50.0, 35.714286)
    """

    def __init__(self, objective: str, mix: Mix, *, library: str | None = None) -> None:
        if objective not in OBJECTIVES:
            raise InvalidSpec(f"objective {objective!r} is not known; known are {', '.join(sorted(OBJECTIVES))}")
        if objective == "slo":
            _need_time(mix)
        self._objective = OBJECTIVES[objective]
        groups = group(np.column_stack([mix.throughput, mix.gpus, *_differences(objective, mix)]))
        self.of, self.count = groups.of, groups.count
        self._mix = mix.at(groups.first)
        self._solver = solver(library)

    def solve(self, count: Floats | None = None) -> Fractions:
        """Return the best shares.

        Parameters
        ----------
        count : float array, shape (classes,), optional
            Jobs of each class, >= 0 and not all 0; those of `mix` by default.

        Returns
        -------
        `Fractions`
            A row for each class: the shares of each of its jobs.

        Raises
        ------
        InvalidSpec
            If a count breaks its rule.
        Infeasible
            If deadlines cannot be kept (`slo`).
        SolverFailed
            If HiGHS ends without an optimum.
        """
        if count is None:
            count = self.count
        elif not (count.shape == self.count.shape and np.isfinite(count).all() and (count >= 0).all() and count.any()):
            raise InvalidSpec(f"count must be >= 0 and finite for each of {len(self.count)} classes, and not all 0; got {count.tolist()}")
        return self._objective(self._mix, count, self._solver)


def fractions(objective: str, mix: Mix, *, library: str | None = None) -> Fractions:
    """Return the best shares of time under an objective.

    Parameters
    ----------
    objective : str
        One of `OBJECTIVES`.
    mix : Mix
        With at least one job.
    library : str, optional
        `highspy` or `scipy`; by default the first that is there.

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
    programme = ClassProgramme(objective, mix, library=library)
    found = programme.solve()
    return Fractions(found.x[programme.of], found.value)


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


def _max_min(mix: Mix, count: Floats, using: Solver) -> Fractions:
    return _highest_floor(mix.throughput * (mix.gpus / (_weights(mix) * _equal(mix, count)))[:, None], mix, count, using)


def _makespan(mix: Mix, count: Floats, using: Solver) -> Fractions:
    found = _highest_floor(mix.throughput / mix.steps[:, None], mix, count, using, interior=False)
    return Fractions(found.x, 1.0 / found.value)


def _finish_time(mix: Mix, count: Floats, using: Solver) -> Fractions:
    """Search for the ratio once jobs have waited; at the start one programme is exact."""
    alone = mix.steps / _equal(mix, count) if mix.alone_s is None else mix.alone_s
    if mix.elapsed_s is None or not mix.elapsed_s.any():
        found = _highest_floor(mix.throughput * (alone / mix.steps)[:, None], mix, count, using)
        return Fractions(found.x, 1.0 / found.value)
    return _least_ratio(mix, count, using, alone, mix.elapsed_s)


def _least_ratio(mix: Mix, count: Floats, using: Solver, alone: Floats, elapsed: Floats) -> Fractions:
    """Find the ratio whose floors can just be kept; the lowest floor at a ratio rises with it."""
    from scipy.optimize import brentq  # noqa: PLC0415 - half a second of each task's start, and few rounds come here

    here = count > 0

    def at(ratio: float) -> Fractions:
        floors = np.maximum(ratio * alone - elapsed, 0.0) / mix.steps
        return _highest_floor(mix.throughput * floors[:, None], mix, count, using)

    def reached(x: Floats) -> float:
        made = np.maximum((mix.throughput * x).sum(axis=1), _NOTHING)
        return float(np.max(((elapsed + mix.steps / made) / alone)[here]))

    low = float(np.max(((elapsed + mix.steps / _able(mix).max(axis=1)) / alone)[here]))
    found = at(low)
    if found.value < 1.0 - _CLOSE:
        root = brentq(lambda ratio: at(ratio).value - 1.0, low, reached(found.x) * (1 + _CLOSE), rtol=_CLOSE)
        found = at(root)
    return Fractions(found.x, reached(found.x))


def _able(mix: Mix) -> Floats:
    return np.where(mix.gpus[:, None] <= mix.capacity, mix.throughput, 0.0)


def _jct(mix: Mix, count: Floats, using: Solver) -> Fractions:
    """Smith's rule as a programme: steps per second over steps left, times weight."""
    return _largest_sum(mix.throughput * (_weights(mix) / mix.steps)[:, None], mix, count, using)


def _cost(mix: Mix, count: Floats, using: Solver) -> Fractions:
    return _largest_sum(_per_cost(mix), mix, count, using)


def _slo(mix: Mix, count: Floats, using: Solver) -> Fractions:
    need = _speeds_needed(mix)
    if not need.any():
        return _cost(mix, count, using)
    return _largest_sum(_per_cost(mix), mix, count, using, mix.throughput / np.where(need > 0, need, np.inf)[:, None])


def _speeds_needed(mix: Mix) -> Floats:
    """Return the steps per second that keep each deadline, 0 without one."""
    return np.zeros(len(mix.gpus)) if mix.left_s is None else mix.steps / mix.left_s


def _need_time(mix: Mix) -> None:
    if mix.left_s is not None and (mix.left_s <= 0).any():
        late = int(np.argmin(mix.left_s))
        raise Infeasible(f"job {late} is past its deadline by {-mix.left_s[late]:g} s; leave its deadline out")


def _per_cost(mix: Mix) -> Floats:
    return mix.throughput * _weights(mix)[:, None] / (1.0 if mix.price is None else mix.price)


def _weights(mix: Mix) -> Floats:
    return np.ones(len(mix.gpus)) if mix.weight is None else mix.weight


def _equal(mix: Mix, count: Floats) -> Floats:
    """Return what each job makes on an equal share of every type."""
    return proportional(mix.throughput, mix.gpus, mix.capacity, 1.0 / float(count.sum()))


def _highest_floor(rate: Floats, mix: Mix, count: Floats, using: Solver, *, interior: bool = True) -> Fractions:
    rate = np.where(mix.gpus[:, None] <= mix.capacity, rate, 0.0)
    x = highest_floor(rate, Classes(mix.gpus, count, mix.capacity), using, interior=interior)
    return Fractions(x, float((rate * x).sum(axis=1)[count > 0].min()))


def _largest_sum(value: Floats, mix: Mix, count: Floats, using: Solver, floor: Floats | None = None) -> Fractions:
    x = largest_sum(value, Classes(mix.gpus, count, mix.capacity), using, floor)
    return Fractions(x, float(count @ (value * x).sum(axis=1)))


#: Objective by name: of one job of each class, and how many there are.
OBJECTIVES: Final[Mapping[str, Callable[[Mix, Floats, Solver], Fractions]]] = MappingProxyType(
    {"max-min": _max_min, "makespan": _makespan, "finish-time": _finish_time, "jct": _jct, "cost": _cost, "slo": _slo}
)


def _differences(objective: str, mix: Mix) -> list[Floats]:
    """Return the columns that tell jobs apart under an objective, besides throughput and GPUs."""
    if objective == "slo":
        return [_weights(mix), _speeds_needed(mix)]
    if objective in ("max-min", "cost"):
        return [_weights(mix)]
    if objective == "jct":
        return [_weights(mix), mix.steps]
    if objective == "makespan":
        return [mix.steps]
    waited = mix.elapsed_s is not None and mix.elapsed_s.any()
    # At the start the ratio of finish times compares two speeds, whatever there is to do.
    given = (mix.steps, mix.elapsed_s, mix.alone_s) if waited or mix.alone_s is not None else ()
    return [column for column in given if column is not None]


def _need(name: str, given: Floats | Ints, kept: Any, rule: str) -> None:
    if not np.all(kept):
        where = tuple(int(index) for index in np.argwhere(~kept)[0])
        raise InvalidSpec(f"{name} must be {rule}, got {given[where]} (job or type {where[0]})")
