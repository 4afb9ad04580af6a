"""Only an optimum is an answer."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_dla.allocation.solver import minimise
from airflow_dla.errors import Infeasible, SolverFailed


def test_an_optimum_has_prices():
    """A diet of two: the dearer constraint has a price, the loose one none."""
    rows = np.array([[1.0, 1.0], [1.0, 0.0]])
    found = minimise(np.array([-1.0, -2.0]), rows, np.array([4.0, 9.0]), np.zeros(2), np.full(2, 3.0))
    assert found.x.tolist() == [1.0, 3.0]
    assert found.objective == -7.0
    assert found.price.tolist() == [1.0, 0.0]


def test_no_point_is_an_error():
    """Minima of 2 and 2 do not fit into 3."""
    with pytest.raises(Infeasible, match="1 limits on 2 amounts"):
        minimise(np.ones(2), np.ones((1, 2)), np.array([3.0]), np.full(2, 2.0), np.full(2, 4.0))


def test_an_unbounded_problem_is_an_error_with_its_status():
    """A status other than optimal is raised, never printed."""
    with pytest.raises(SolverFailed, match="status 3"):
        minimise(np.array([-1.0, 0.0]), np.array([[0.0, 1.0]]), np.ones(1), np.zeros(2), np.full(2, np.inf))


def test_wide_and_narrow_problems_agree():
    """The method follows the shape, the answer does not."""
    rng = np.random.default_rng(3)
    cost, rows = -rng.uniform(1, 2, 40), rng.uniform(0, 1, (8, 40))
    narrow = minimise(cost, rows, np.full(8, 5.0), np.zeros(40), np.ones(40))
    wide = minimise(np.r_[cost, np.zeros(400)], np.hstack([rows, np.zeros((8, 400))]), np.full(8, 5.0), np.zeros(440), np.ones(440))
    assert wide.objective == pytest.approx(narrow.objective, rel=1e-9)
    assert wide.price == pytest.approx(narrow.price, rel=1e-6)
