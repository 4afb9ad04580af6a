"""What a task asks for after it has run."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.allocation.forecast import Use, right_size
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Request

BASE = Request.from_mapping({"cpu": "1-4", "memory": "8GiB", "gpu": 2})
LARGEST = {"cpu": 64.0, "memory": 256.0, "gpu": 8.0}


def memory(uses: list[Use], base: Request = BASE, **more: Any) -> float:
    """Return the memory that is asked for."""
    return right_size(uses, base, LARGEST, **more).request.amounts["memory"].wanted


def test_the_first_run_asks_for_the_default():
    """Nothing is known, nothing is chosen."""
    sized = right_size([], BASE, LARGEST)
    assert sized.request == BASE
    assert sized.why == ()


@given(st.lists(st.floats(0.01, 200), min_size=1, max_size=60), st.floats(0.5, 0.98))
def test_never_less_than_every_run_needed_and_never_more_than_there_is(peaks: list[float], q: float):
    """Whatever the quantile."""
    asked = memory([Use(memory=peak) for peak in peaks], q=q)
    assert min(*peaks, 256.0) <= asked * (1 + 1e-9) <= 256.0 * (1 + 1e-6)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=60), st.floats(0.5, 0.9), st.floats(0, 0.09))
def test_a_higher_quantile_asks_for_no_less(peaks: list[float], q: float, more: float):
    """And neither does a larger margin."""
    uses = [Use(memory=peak) for peak in peaks]
    assert memory(uses, q=q) <= memory(uses, q=q + more)
    assert memory(uses, margin=0.1) <= memory(uses, margin=0.1 + more)


@given(st.floats(0.1, 250), st.lists(st.floats(0.01, 0.1), max_size=10))
def test_memory_doubles_after_an_out_of_memory_kill(granted: float, before: list[float]):
    """Of what the last attempt had, up to the largest node, whatever smaller runs were before."""
    killed = Use(memory=granted, granted={"memory": granted}, out_of_memory=True)
    asked = memory([killed, *(Use(memory=peak) for peak in before)])
    assert asked >= min(2 * granted, 256.0) * (1 - 1e-9)
    assert asked <= 256.0


def test_a_kill_that_is_long_past_is_a_run_that_needed_more_than_it_had():
    """The next ones do not double again, and do not fall below it at once."""
    killed = Use(memory=3.9, granted={"memory": 4.0}, out_of_memory=True)
    asked = memory([Use(memory=5.0, granted={"memory": 8.0}), killed])
    assert 5.0 <= asked <= 8.0


def test_a_few_runs_ask_for_no_more_than_the_author_unless_they_needed_it():
    """One run of 1 GiB says little, but 8 GiB were enough by the author's word."""
    assert memory([Use(memory=7.5)]) == pytest.approx(7.5 * 1.15, abs=0.02)
    assert memory([Use(memory=1.0)]) < 8.0


def test_many_equal_runs_ask_for_their_peak_and_the_margin():
    """And say so."""
    sized = right_size([Use(memory=2.0, cpu=0.5)] * 40, BASE, LARGEST)
    assert sized.request.to_mapping() == {"cpu": "0.6-4.0", "memory": 2.3125, "gpu": 2.0}
    assert sized.why[0] == "2.3125 GiB memory: enough for 95% by 40 runs (most 2), and 15% more"


def test_cpus_are_asked_for_from_what_was_busy_to_what_was_asked():
    """Fewer would only slow it down, and while nobody else needs them it may have them."""
    found = right_size([Use(cpu=0.98)] * 40, BASE, LARGEST).request.amounts["cpu"]
    assert (found.minimum, found.wanted) == (pytest.approx(1.2), 4.0)
    found = right_size([Use(cpu=7.0)] * 40, BASE, LARGEST).request.amounts["cpu"]
    assert (found.minimum, found.wanted) == (pytest.approx(8.1), pytest.approx(8.1))


def test_what_changes_with_the_gpus_granted_stays_as_asked():
    """Peaks with one GPU say nothing of four."""
    base = Request.from_mapping({"memory": "8GiB/gpu", "gpu": "1-4"})
    assert right_size([Use(memory=2.0)] * 40, base, LARGEST).request == base


def test_which_nodes_will_do_stays_as_asked():
    """What earlier runs used says nothing of where the next one may run."""
    base = Request.from_mapping({"memory": "8GiB", "labels": {"images": "yes"}, "prefer": {"zone": "a"}})
    found = right_size([Use(memory=2.0)] * 40, base, LARGEST).request
    assert (found.labels, found.prefer) == (base.labels, base.prefer)
    assert found != base


@pytest.mark.parametrize("more", [{"q": 0.3}, {"q": 1.0}, {"margin": -0.1}, {"margin": math.nan}])
def test_rules_that_make_no_sense_are_refused(more: dict[str, float]):
    """A request is never less than the median."""
    with pytest.raises(InvalidSpec):
        right_size([Use(memory=1.0)], BASE, LARGEST, **more)
