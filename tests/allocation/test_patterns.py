"""Whole sets of bundles for a node."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from airflow_dla.allocation.packing import Room
from airflow_dla.allocation.patterns import cover, fill


@pytest.mark.parametrize("seed", range(5))
def test_the_best_pattern_is_found(seed: int) -> None:
    """Against every set there is; each pattern fits, and the first is worth most."""
    rng = np.random.default_rng(seed)
    gain, size, free = rng.uniform(-0.5, 2.0, 12), rng.uniform(0.1, 1.0, (12, 3)), np.full(3, 1.8)
    sets = [list(rows) for count in range(1, 8) for rows in itertools.combinations(range(12), count)]
    most = max(gain[rows].sum() for rows in sets if (size[rows].sum(axis=0) <= free).all())
    found = fill(gain, size, free)
    assert gain[found[0]].sum() == pytest.approx(most)
    assert all((size[rows].sum(axis=0) <= free + 1e-12).all() for rows in found)
    assert fill(gain, size, free, most) == []


def test_nothing_fits_or_is_wanted() -> None:
    """No pattern then."""
    assert fill(np.ones(2), np.full((2, 1), 5.0), np.ones(1)) == []
    assert fill(np.zeros(2), np.ones((2, 1)), np.ones(1)) == []


def test_nodes_that_differ_get_what_they_may_hold() -> None:
    """A bundle stays off a node that does not allow it, and a small node gets the small one."""
    room = Room(
        size=np.array([[6.0], [4.0], [5.0], [5.0]]),
        free=np.array([[10.0], [10.0]]),
        allowed=np.array([[True, False], [True, True], [True, True], [True, True]]),
        nodes=np.arange(2),
    )
    where = cover(room, np.array([6.0, 4.0, 5.0, 5.0]), np.array([-1, -1, 0, 0]))
    assert where.tolist() == [0, 0, 1, 1]
