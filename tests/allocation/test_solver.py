"""Only an optimum is an answer."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from airflow_dla.allocation import highs
from airflow_dla.allocation.programme import Programme
from airflow_dla.allocation.solver import Scipy, minimise, solver
from airflow_dla.errors import Infeasible, InvalidSpec, MissingExtra, SolverFailed

LIBRARIES = ["scipy", pytest.param("highspy", marks=pytest.mark.skipif(not highs.available(), reason="highspy is not installed"))]
libraries = pytest.mark.parametrize("library", LIBRARIES)
needs_highspy = pytest.mark.skipif(not highs.available(), reason="highspy is not installed")


def box(room: float) -> Programme:
    """Write down two amounts of at most 50 and 30 that share a room; the first is worth twice as much."""
    return Programme.dense(np.array([-2.0, -1.0]), np.ones((1, 2)), np.array([room]), np.zeros(2), np.array([50.0, 30.0]))


@libraries
def test_an_optimum_has_prices(library: str) -> None:
    """A diet of two: the dearer constraint has a price, the loose one none."""
    rows = np.array([[1.0, 1.0], [1.0, 0.0]])
    found = minimise(np.array([-1.0, -2.0]), rows, np.array([4.0, 9.0]), np.zeros(2), np.full(2, 3.0), library=library)
    assert found.x.tolist() == [1.0, 3.0]
    assert found.objective == -7.0
    assert found.price.tolist() == [1.0, 0.0]


@libraries
def test_no_point_is_an_error(library: str) -> None:
    """Minima of 2 and 2 do not fit into 3."""
    with pytest.raises(Infeasible, match="1 limits on 2 amounts"):
        minimise(np.ones(2), np.ones((1, 2)), np.array([3.0]), np.full(2, 2.0), np.full(2, 4.0), library=library)
    with pytest.raises(Infeasible, match="1 limits on 2 amounts"):
        solver(library).solve(box(-1.0))


@libraries
def test_an_unbounded_problem_is_an_error_with_its_status(library: str) -> None:
    """A status other than optimal is raised, never printed."""
    cost, rows = np.array([-1.0, 0.0]), np.array([[0.0, 1.0]])
    with pytest.raises(SolverFailed, match=r"status (3|Unbounded)"):
        minimise(cost, rows, np.ones(1), np.zeros(2), np.full(2, np.inf), library=library)
    with pytest.raises(SolverFailed, match=r"status (3|4|Unbounded)"):
        solver(library).solve(Programme.dense(cost, rows, np.ones(1), np.zeros(2), np.full(2, np.inf)))


@libraries
def test_an_error_leaves_nothing_behind(library: str) -> None:
    """A solver that has failed solves the next programme as a new one would."""
    kept = solver(library)
    for room in (60.0, -1.0, 70.0):
        if room < 0:
            with pytest.raises(Infeasible):
                kept.solve(box(room))
        else:
            assert kept.solve(box(room)).tolist() == [50.0, room - 50.0]


@libraries
@pytest.mark.parametrize("interior", [False, True])
def test_both_methods_end_at_a_vertex(library: str, interior: bool) -> None:
    """The interior point method crosses over: of equal optima it returns a corner, not the middle."""
    rng = np.random.default_rng(1)
    count = 400
    programme = Programme.dense(-np.ones(count), rng.choice([1.0, 2.0], (2, count)), np.full(2, 99.5), np.zeros(count), np.ones(count))
    x = solver(library).solve(programme, interior=interior)
    assert np.count_nonzero((x > 1e-9) & (x < 1 - 1e-9)) <= 2


@needs_highspy
def test_a_programme_of_the_last_shape_starts_from_the_last_basis() -> None:
    """After one right-hand side changed there is nothing to pivot, and the answer is that of a new solver."""
    rng = np.random.default_rng(2)
    rows, room = rng.uniform(0.1, 1.0, (6, 80)), np.full(6, 9.0)
    cost = -rng.uniform(1, 2, 80)
    kept = highs.Highspy()
    kept.solve(Programme.dense(cost, rows, room, np.zeros(80), np.ones(80)))
    again = Programme.dense(cost, rows, room * (1 + 1e-6), np.zeros(80), np.ones(80))
    warm, cold = kept.solve(again), highs.Highspy().solve(again)
    assert kept._model.getInfo().simplex_iteration_count == 0
    assert cost @ warm == pytest.approx(cost @ cold, rel=1e-9)


@needs_highspy
def test_highs_that_others_started_with_more_threads_is_used_as_it_is() -> None:
    """One pool of threads serves the whole process; whoever came first chose its size."""
    import highspy  # noqa: PLC0415 - optional

    other: Any = highspy.Highs()  # type: ignore[no-untyped-call] # what the library declares
    other.setOptionValue("output_flag", False)
    other.resetGlobalScheduler(True)
    other.setOptionValue("threads", 2)
    other.addVar(0.0, 1.0)
    other.run()
    assert highs.Highspy().solve(box(60.0)).tolist() == [50.0, 10.0]
    other.resetGlobalScheduler(True)


@needs_highspy
def test_an_option_that_highs_refuses_is_an_error() -> None:
    """HiGHS would go on by another method."""
    with pytest.raises(SolverFailed, match="solver=fastest"):
        highs.Highspy()._set("solver", "fastest")


@pytest.mark.parametrize(("module", "found"), [("highspy", None), ("ortools", np)])
def test_without_highspy_scipy_solves(monkeypatch: pytest.MonkeyPatch, module: str, found: object) -> None:
    """Not installed, or OR-tools is there: nobody notices, unless highspy was asked for by name."""
    monkeypatch.setitem(sys.modules, module, found)
    assert isinstance(solver(), Scipy)
    assert minimise(np.array([-1.0]), np.ones((1, 1)), np.array([2.0]), np.zeros(1), np.array([9.0])).x.tolist() == [2.0]
    with pytest.raises(MissingExtra, match=r"airflow-dla\[fast\]"):
        solver("highspy")


def test_unknown_libraries_are_refused() -> None:
    """The message names those that are known."""
    with pytest.raises(InvalidSpec, match="highspy, scipy"):
        solver("glop")


@libraries
def test_wide_and_narrow_problems_agree(library: str) -> None:
    """The method follows the shape, the answer does not."""
    rng = np.random.default_rng(3)
    cost, rows = -rng.uniform(1, 2, 40), rng.uniform(0, 1, (8, 40))
    room, wider = np.full(8, 5.0), np.hstack([rows, np.zeros((8, 400))])
    narrow = minimise(cost, rows, room, np.zeros(40), np.ones(40), library=library)
    wide = minimise(np.r_[cost, np.zeros(400)], wider, room, np.zeros(440), np.ones(440), library=library)
    assert wide.objective == pytest.approx(narrow.objective, rel=1e-9)
    assert wide.price == pytest.approx(narrow.price, rel=1e-6)
