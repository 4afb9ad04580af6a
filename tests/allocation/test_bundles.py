"""GPUs that bring CPUs and memory with them."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_dla.allocation.bundles import RULES, proportional, strict, water_filling

#: Columns: cpu, gpu, memory; two need 8 and 2 CPUs for each GPU, the third memory only.
BUNDLE = np.array([[8.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 16.0]])
SPAN = np.array([4.0, 4.0, 4.0])
EQUAL = np.ones(3)


@pytest.mark.parametrize("name", RULES)
def test_no_resource_is_exceeded(name: str):
    """Random instances: within room and wants."""
    rng = np.random.default_rng(4)
    for _ in range(40):
        bundle = np.c_[rng.uniform(0, 9, (6, 2)), np.ones(6)]
        span, room = rng.integers(0, 5, 6).astype(float), rng.uniform(0, 30, 3)
        given, price = RULES[name](bundle, span, rng.uniform(0.5, 2, 6), room)
        assert (given >= -1e-9).all()
        assert (given <= span + 1e-9).all()
        assert (given @ bundle <= room * (1 + 1e-9) + 1e-9).all()
        assert (price >= 0).all()


def test_strict_gives_out_most_gpus_for_the_room():
    """16 CPUs: four bundles of two and one of eight are five GPUs, more than any other way; the CPU has the price."""
    given, price = strict(BUNDLE[:2], SPAN[:2], EQUAL[:2], np.array([16.0, 8.0, 0.0]))
    assert given == pytest.approx([1.0, 4.0])
    assert price == pytest.approx([0.125, 0.0, 0.0], abs=1e-3)


def test_proportional_sheds_all_alike():
    """The CPUs suffice for half of what is wanted: everybody sheds half, also who needs no CPU."""
    given, price = proportional(BUNDLE, SPAN, EQUAL, np.array([20.0, 12.0, 64.0]))
    assert given == pytest.approx([2.0, 2.0, 2.0])
    assert price == pytest.approx([0.5, 0.0, 0.0])


def test_water_filling_goes_on_with_those_whose_resource_is_left():
    """When the CPUs are used up at two each, the third, which needs none, rises to what it wants."""
    given, price = water_filling(BUNDLE, SPAN, EQUAL, np.array([20.0, 12.0, 64.0]))
    assert given == pytest.approx([2.0, 2.0, 4.0])
    assert price == pytest.approx([0.1, 0.0, 0.0])


def test_water_filling_without_a_shortage_has_no_price():
    """All wants are met."""
    given, price = water_filling(BUNDLE, SPAN, EQUAL, np.array([40.0, 12.0, 64.0]))
    assert given.tolist() == SPAN.tolist()
    assert not price.any()
