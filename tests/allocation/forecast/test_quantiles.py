"""Quantiles of the next observation: laws, and that few observations say less."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.allocation.forecast import newsvendor, quantile, recency
from airflow_dla.errors import InvalidSpec

observed = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60)
levels = st.floats(0.01, 0.99)


@given(observed, levels, levels)
def test_a_higher_quantile_is_no_smaller(values: list[float], one: float, other: float):
    """Also where ranks and the predictive distribution meet."""
    low, high = sorted([one, other])
    assert quantile(values, low) <= quantile(values, high) * (1 + 1e-12)


@given(observed, levels, st.floats(0.1, 100))
def test_quantiles_scale_with_what_is_observed(values: list[float], q: float, factor: float):
    """Seconds or hours: the answer is the same."""
    assert quantile([factor * value for value in values], q) == pytest.approx(factor * quantile(values, q), rel=1e-9, abs=1e-6)


@given(observed, st.floats(0.5, 0.99))
def test_an_upper_quantile_is_never_below_the_least_observed(values: list[float], q: float):
    """What every run needed, the next one needs."""
    assert quantile(values, q) >= min(values) * (1 - 1e-12)


@given(st.floats(1, 1000), st.integers(1, 30))
def test_fewer_observations_are_trusted_less(value: float, count: int):
    """The same value once more narrows the quantile."""
    assert quantile([value] * count, 0.9) >= quantile([value] * (count + 1), 0.9) * (1 - 1e-12)


def test_of_many_the_rank_decides():
    """With a hundred observations the 90 % quantile is their 91st by rank, whatever their distribution."""
    assert quantile([float(n) for n in range(1, 101)], 0.9) == pytest.approx(90.9)


@pytest.mark.parametrize("count", [3, 10, 40])
def test_the_next_one_is_below_the_quantile_as_often_as_it_says(count: int):
    """Over 2000 samples of lognormal durations, the 80 % quantile covers 72 to 90 %."""
    rng = np.random.default_rng(5)
    samples = np.exp(rng.normal(0, 0.5, size=(2000, count + 1)))
    covered = np.mean([row[-1] <= quantile(row[:-1].tolist(), 0.8) for row in samples])
    assert 0.72 <= covered <= 0.90


def test_what_is_recent_weighs_more():
    """A job that became slow is expected to be slow after half a half life or so, not on average."""
    values = [100.0] * 30 + [10.0] * 30
    assert quantile(values, 0.5, weights=recency(60, 10)) == pytest.approx(100.0)


def test_nothing_is_a_quantity_too():
    """Delays may be zero."""
    assert quantile([0.0] * 30, 0.5) == 0.0


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.0), ([-1.0], 0.5), ([math.nan], 0.5), ([math.inf], 0.5)])
def test_what_makes_no_sense_is_refused(values: list[float], q: float):
    """Each with its rule."""
    with pytest.raises(InvalidSpec):
        quantile(values, q)


@given(st.floats(0, 1e6), st.floats(0.001, 1e6))
def test_the_newsvendor_asks_for_more_the_dearer_a_shortage(shortage: float, holding: float):
    """Between 0 and 1, and growing."""
    assert 0 <= newsvendor(shortage, holding) <= newsvendor(shortage + 1, holding) < 1


@pytest.mark.parametrize("costs", [(-1.0, 1.0), (1.0, math.nan), (0.0, 0.0)])
def test_costs_that_decide_nothing_are_refused(costs: tuple[float, float]):
    """Negative, no number, or both nothing."""
    with pytest.raises(InvalidSpec, match="cost"):
        newsvendor(*costs)
