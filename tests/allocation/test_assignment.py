"""Which gang runs where."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from airflow_dla.allocation.assignment import assign
from airflow_dla.allocation.table import Floats, Ints

Problem = tuple[Floats, Ints, Ints]


@st.composite
def problems(draw: st.DrawFn, *, most: int = 4, jobs: int = 9):
    """Draw values, gangs and GPUs."""
    jobs, kinds = draw(st.integers(1, jobs)), draw(st.integers(1, 3))
    number = st.one_of(st.just(0.0), st.floats(0, 10))
    value = draw(st.lists(st.lists(number, min_size=kinds, max_size=kinds), min_size=jobs, max_size=jobs))
    gpus = draw(st.lists(st.integers(1, most), min_size=jobs, max_size=jobs))
    capacity = draw(st.lists(st.integers(0, 5), min_size=kinds, max_size=kinds))
    return np.array(value), np.array(gpus), np.array(capacity)


def best(value: Floats, gpus: Ints, capacity: Ints) -> float:
    """Try every choice."""
    found = 0.0
    for choice in itertools.product(range(-1, len(capacity)), repeat=len(gpus)):
        kind = np.array(choice)
        if (held(kind, gpus, len(capacity)) <= capacity).all():
            found = max(found, worth(value, kind))
    return found


def held(kind: Ints, gpus: Ints, kinds: int):
    """Return the GPUs taken by type."""
    return np.bincount(kind[kind >= 0], weights=gpus[kind >= 0], minlength=kinds)


def worth(value: Floats, kind: Ints) -> float:
    """Return the value of a choice."""
    return float(sum(value[job, chosen] for job, chosen in enumerate(kind) if chosen >= 0))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_every_gang_is_whole_and_fits(problem: Problem) -> None:
    """No type gives more GPUs than it has, and nobody runs for nothing."""
    value, gpus, capacity = problem
    kind = assign(value, gpus, capacity)
    assert (held(kind, gpus, len(capacity)) <= capacity).all()
    assert all(value[job, chosen] > 0 for job, chosen in enumerate(kind) if chosen >= 0)


@settings(max_examples=60, deadline=None)
@given(problems(most=1, jobs=6))
def test_single_gpus_are_assigned_exactly(problem: Problem) -> None:
    """Without gangs no choice is worth more."""
    value, gpus, capacity = problem
    assert worth(value, assign(value, gpus, capacity)) == pytest.approx(best(value, gpus, capacity))


def test_gangs_are_nearly_optimal() -> None:
    """On random instances with gangs the mean loss against every choice is below 2 %."""
    rng = np.random.default_rng(1)
    loss = []
    for _ in range(40):
        value, gpus, capacity = rng.random((6, 2)), rng.choice([1, 2, 4], size=6), np.array([4, 5])
        loss.append(1 - worth(value, assign(value, gpus, capacity)) / best(value, gpus, capacity))
    assert np.mean(loss) < 0.02


def test_many_candidates_lose_nothing() -> None:
    """A hundred jobs for five GPUs: those left out beforehand could not have run."""
    rng = np.random.default_rng(2)
    value, gpus, capacity = rng.random((100, 2)), np.ones(100, dtype=int), np.array([2, 3])
    top = sorted(itertools.chain(*value), reverse=True)
    assert worth(value, assign(value, gpus, capacity)) >= sum(top[:2]) + value[:, 1].mean()
    assert (assign(value, gpus, capacity) >= 0).sum() == 5


def test_nothing_to_run() -> None:
    """Nobody who is worth nothing, and nobody without GPUs, runs."""
    assert assign(np.zeros((2, 1)), np.array([1, 1]), np.array([2])).tolist() == [-1, -1]
    assert assign(np.ones((1, 1)), np.array([4]), np.array([2])).tolist() == [-1]


def test_gangs_of_a_cluster_come_close_to_the_relaxation() -> None:
    """Forty jobs, a third of them gangs, of which some run on one type alone: whole and feasible, within 3 % on average."""
    rng = np.random.default_rng(3)
    loss = []
    for _ in range(20):
        value, gpus = rng.random((40, 3)) * (rng.random((40, 3)) < 0.8), rng.choice([1, 1, 1, 1, 2, 4, 8], size=40)
        value, capacity = value * gpus[:, None], np.array([8, 12, 16])
        kind = assign(value, gpus, capacity)
        assert (held(kind, gpus, 3) <= capacity).all()
        assert all(value[job, chosen] > 0 for job, chosen in enumerate(kind) if chosen >= 0)
        loss.append(1 - worth(value, kind) / _relaxed(value, gpus, capacity))
    assert np.mean(loss) < 0.03


def _relaxed(value: Floats, gpus: Ints, capacity: Ints) -> float:
    jobs, kinds = value.shape
    rows = np.zeros((jobs + kinds, jobs * kinds))
    for job, kind in itertools.product(range(jobs), range(kinds)):
        rows[job, job * kinds + kind], rows[jobs + kind, job * kinds + kind] = 1, gpus[job]
    found = linprog(-value.ravel(), A_ub=rows, b_ub=np.concatenate([np.ones(jobs), capacity]), bounds=(0, 1))
    return float(-found.fun)
