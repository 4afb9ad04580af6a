"""Identical jobs as one class."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from airflow_dla.allocation.classes import Classes, group, highest_floor, largest_sum
from airflow_dla.allocation.solver import Scipy
from airflow_dla.allocation.table import Floats


@given(arrays(float, st.tuples(st.integers(1, 12), st.just(3)), elements=st.sampled_from([0.0, 1.0, 2.0, -0.5, 1e300])))
def test_rows_of_a_class_are_equal_and_those_of_two_are_not(keys: Floats) -> None:
    """Whatever their bits mix to."""
    found = group(keys)
    assert (keys[found.first][found.of] == keys).all()
    assert len(np.unique(keys, axis=0)) == len(found.first)
    assert found.count.sum() == len(keys)


def test_a_class_without_jobs_gets_and_decides_nothing() -> None:
    """Its place in the programme stays, and its low rate does not pull the floor of the others down."""
    rate = np.array([[4.0, 2.0], [1e-3, 1e-3]])
    classes = Classes(np.array([1, 1]), np.array([2.0, 0.0]), np.array([1, 1]))
    assert highest_floor(rate, classes, Scipy(), interior=False).round(9).tolist() == [[0.5, 0.5], [0.0, 0.0]]
    assert largest_sum(rate[::-1], classes, Scipy()).round(9).tolist() == [[0.5, 0.5], [0.0, 0.0]]
    assert highest_floor(0 * rate, classes, Scipy(), interior=False).tolist() == [[0.0, 0.0], [0.0, 0.0]]
