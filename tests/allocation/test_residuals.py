"""What the rest of a shared GPU is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dla.allocation.residuals import WHOLE, residual_prices


def test_without_shares_only_a_whole_gpu_is_worth_something():
    """Nobody shares, so nobody wants a rest."""
    worth = residual_prices(np.array([], dtype=np.intp), np.array([]))
    assert worth[WHOLE] == 1.0
    assert worth[:WHOLE].max() == 0.0


def test_what_fits_into_every_waste_costs_nothing():
    """0.81 wastes more 0.19 than there are demands of 0.16, which therefore are seated for nothing there."""
    worth = residual_prices(np.array([160, 810]), np.array([1.0, 10.0]))
    assert worth[190] == pytest.approx(0.0)
    assert worth[810] == pytest.approx(1.0)


def test_thirds_and_halves():
    """A half is worth a half, and a rest that holds two thirds, two thirds."""
    worth = residual_prices(np.array([320, 470]), np.array([1.0, 1.0]))
    assert worth[530] == pytest.approx(1 / 2)
    assert worth[680] == pytest.approx(2 / 3)


@settings(max_examples=25, deadline=None)
@given(demand=st.dictionaries(st.integers(1, 999), st.integers(1, 50), min_size=1, max_size=5))
def test_laws(demand: dict[int, int]):
    """Larger rests are worth no less; parts are together worth no more than the whole; scale does not matter."""
    shares, counts = np.array(sorted(demand)), np.array([demand[share] for share in sorted(demand)], dtype=float)
    worth = residual_prices(shares, counts)
    assert (np.diff(worth) >= 0).all()
    assert (worth[0], worth[WHOLE]) == (0.0, 1.0)
    for share in shares.tolist():
        assert (worth[share:] - worth[: WHOLE + 1 - share] >= worth[share] - 1e-6).all()
    assert residual_prices(shares, 7 * counts)[WHOLE] == 1.0
