"""Shares of time on GPU types, against the plain programme without classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from airflow_dla.allocation import highs
from airflow_dla.allocation.heterogeneous import OBJECTIVES, ClassProgramme, Mix, fractions, proportional
from airflow_dla.allocation.table import Floats
from airflow_dla.errors import Infeasible, InvalidSpec

LIBRARIES = ["scipy", pytest.param("highspy", marks=pytest.mark.skipif(not highs.available(), reason="highspy is not installed"))]


def mix(seed: int, jobs: int = 12, **given: Any) -> Mix:
    """Draw jobs of a few kinds, some that do not run everywhere."""
    rng = np.random.default_rng(seed)
    kinds = rng.uniform(0.1, 50, (4, 3)) * (rng.random((4, 3)) < 0.8)
    kinds[:, 0] = np.maximum(kinds[:, 0], 1.0)
    of = rng.integers(4, size=jobs)
    return Mix(
        throughput=kinds[of],
        gpus=np.array([1, 1, 2, 4])[of],
        capacity=np.array([4, 3, 5]),
        steps=rng.choice([1e3, 2e4, 5e5], size=jobs),
        **given,
    )


def plain_floor(rate: Floats, found: Mix) -> float:
    """Maximise the lowest rate by HiGHS, job by job."""
    jobs, kinds = rate.shape
    rows = np.zeros((2 * jobs + kinds, jobs * kinds + 1))
    for job in range(jobs):
        own = slice(job * kinds, (job + 1) * kinds)
        rows[job, own] = 1.0
        rows[jobs + job, own], rows[jobs + job, -1] = -rate[job], 1.0
        rows[range(2 * jobs, 2 * jobs + kinds), range(own.start, own.stop)] = found.gpus[job]
    limit = np.concatenate([np.ones(jobs), np.zeros(jobs), found.capacity])
    fits = np.append((found.gpus[:, None] <= found.capacity).ravel(), 1)
    bounds = [(0, None if fit else 0) for fit in fits]
    return float(-linprog(-np.eye(jobs * kinds + 1)[-1], A_ub=rows, b_ub=limit, bounds=bounds, method="highs").fun)


def check(found: Mix, x: Floats) -> None:
    """No job more than all of its time, no type more than its GPUs."""
    assert (x >= 0).all()
    assert (x.sum(axis=1) <= 1 + 1e-9).all()
    assert (found.gpus @ x <= found.capacity * (1 + 1e-9)).all()
    assert (x[found.gpus[:, None] > found.capacity[None, :]] == 0).all()


@pytest.mark.parametrize("seed", range(12))
def test_floors_are_those_of_the_plain_programme(seed: int) -> None:
    """Classes leave the optimum of max-min, makespan and finish time as it is."""
    found = mix(seed, weight=np.random.default_rng(seed).choice([1.0, 2.0], size=12))
    equal = proportional(found.throughput, found.gpus, found.capacity, 1 / 12)
    shares = found.throughput * (found.gpus / (found.weight * equal))[:, None]
    assert fractions("max-min", found).value == pytest.approx(plain_floor(shares, found), rel=1e-9)
    # HiGHS's tolerances are absolute, so the plain programme counts in units of about one.
    hours = found.throughput / found.steps[:, None] * 1e5
    assert 1e5 / fractions("makespan", found).value == pytest.approx(plain_floor(hours, found), rel=1e-7)
    finish = found.throughput / equal[:, None]
    assert 1 / fractions("finish-time", found).value == pytest.approx(plain_floor(finish, found), rel=1e-9)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@pytest.mark.parametrize("seed", range(4))
def test_shares_keep_every_limit(objective: str, seed: int) -> None:
    """Whatever the objective, and the order of jobs does not matter to its value."""
    found = mix(seed, elapsed_s=np.linspace(0, 5000, 12))
    answer = fractions(objective, found)
    check(found, answer.x)
    back = np.random.default_rng(seed).permutation(12)
    turned = dataclasses.replace(
        found, throughput=found.throughput[back], gpus=found.gpus[back], steps=found.steps[back], elapsed_s=found.elapsed_s[back]
    )
    assert fractions(objective, turned).value == pytest.approx(answer.value, rel=1e-8)


def test_finish_time_counts_what_has_been_waited() -> None:
    """No lower ratio can be kept: a slightly lower one has a floor below one."""
    found = mix(3, elapsed_s=np.linspace(0, 50_000, 12))
    ratio = fractions("finish-time", found).value
    alone = found.steps / proportional(found.throughput, found.gpus, found.capacity, 1 / 12)
    lower = ratio * (1 - 1e-6) * alone - found.elapsed_s
    assert (lower <= 0).any() or plain_floor(found.throughput * (lower / found.steps)[:, None], found) < 1
    assert plain_floor(found.throughput * ((ratio * (1 + 1e-6) * alone - found.elapsed_s) / found.steps)[:, None], found) >= 1


def test_deadlines_are_kept_or_refused() -> None:
    """A deadline takes time from the cheaper job; one that cannot be kept is infeasible."""
    both = Mix(np.array([[1.0], [4.0]]), np.array([1, 1]), np.array([1]), np.array([50.0, 50.0]))
    free = fractions("cost", both)
    assert free.x.round(9).tolist() == [[0.0], [1.0]]
    kept = fractions("slo", dataclasses.replace(both, left_s=np.array([100.0, np.inf])))
    assert kept.x.round(9).tolist() == [[0.5], [0.5]]
    for left in (40.0, -1.0):
        with pytest.raises(Infeasible):
            fractions("slo", dataclasses.replace(both, left_s=np.array([left, np.inf])))


def test_a_thousand_jobs_of_few_kinds_are_a_small_programme() -> None:
    """The value of many equal jobs is that of few on as much smaller a cluster."""
    few = Mix(np.array([[4.0, 1.0], [4.0, 2.0]]), np.ones(2, dtype=int), np.array([1, 1]), np.full(2, 100.0))
    many = Mix(np.tile(few.throughput, (500, 1)), np.ones(1000, dtype=int), np.array([500, 500]), np.full(1000, 100.0))
    assert fractions("makespan", many).value == pytest.approx(fractions("makespan", few).value, rel=1e-9)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_a_kept_programme_follows_jobs_that_come_and_go(objective: str, library: str) -> None:
    """Starting from the last basis changes nothing: the value is that of the jobs that are there, asked anew."""
    rng = np.random.default_rng(7)
    everyone = mix(5, jobs=40, left_s=np.where(np.arange(40) % 4, np.inf, 1e7), elapsed_s=np.repeat([0.0, 5000.0], 20))
    kept = ClassProgramme(objective, everyone, library=library)
    here = np.ones(40, dtype=bool)
    for _ in range(25):
        here[rng.integers(40)] ^= True
        found = kept.solve(np.bincount(kept.of[here], minlength=len(kept.count)).astype(float))
        alone = fractions(objective, everyone.at(np.flatnonzero(here)), library=library)
        assert found.value == pytest.approx(alone.value, rel=1e-9)
        check(everyone.at(np.flatnonzero(here)), found.x[kept.of[here]])


@pytest.mark.skipif(not highs.available(), reason="highspy is not installed")
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@pytest.mark.parametrize("seed", range(6))
def test_libraries_agree(objective: str, seed: int) -> None:
    """The shares may be another optimum, its value is the same."""
    found = mix(seed, elapsed_s=np.linspace(0, 5000, 12), left_s=np.full(12, 1e7))
    values = [fractions(objective, found, library=library).value for library in ("scipy", "highspy")]
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_at_the_start_jobs_of_any_length_are_one_class() -> None:
    """Before anybody has waited, the ratio of finish times does not depend on the steps; the makespan does."""
    two = Mix(np.tile([[4.0, 1.0]], (2, 1)), np.ones(2, dtype=int), np.array([1, 1]), np.array([100.0, 300.0]))
    assert [len(ClassProgramme(objective, two).count) for objective in ("finish-time", "max-min", "makespan")] == [1, 1, 2]


@pytest.mark.parametrize("count", [np.array([-1.0]), np.array([np.nan]), np.array([0.0]), np.array([1.0, 1.0])])
def test_refuses_counts_that_are_none(count: Floats) -> None:
    """The message says how many classes there are."""
    one = Mix(np.array([[4.0, 1.0]]), np.ones(1, dtype=int), np.array([1, 1]), np.array([100.0]))
    with pytest.raises(InvalidSpec, match="each of 1 classes"):
        ClassProgramme("max-min", one).solve(count)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("throughput", np.full((12, 3), np.nan)),
        ("steps", np.zeros(12)),
        ("weight", np.zeros(12)),
        ("gpus", np.zeros(12, dtype=int)),
        ("gpus", np.full(12, 99)),
        ("price", np.array([1.0, -1.0, 1.0])),
    ],
)
def test_refuses_numbers_that_break_their_rule(field: str, value: Any) -> None:
    """A clear error names the field."""
    with pytest.raises(InvalidSpec, match=field if field != "gpus" else r"gpus|throughput"):
        dataclasses.replace(mix(1), **{field: value})


def test_unknown_objectives_are_listed() -> None:
    """The message names those that are known."""
    with pytest.raises(InvalidSpec, match="finish-time, jct, makespan"):
        fractions("fastest", mix(1))
