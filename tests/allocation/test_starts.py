"""When those who wait will start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from airflow_dla.allocation import Plan, Policy, plan
from airflow_dla.allocation.lifetimes import left_s
from airflow_dla.allocation.starts import stretch
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Demand, Grant, Node, Request

CLUSTER = [Node(name="n1", capacity={"gpu": 4.0})]
LIVE = [Grant(id="x", node="n1", amounts={"gpu": 4.0})]


def ask(name: str, gpu: int, at: float = 0.0, **fields: Any) -> Demand:
    """Make a demand."""
    return Demand(id=name, request=Request.from_mapping({"gpu": gpu}), created_at=at, **fields)


def decide(*pending: Demand, now: float = 100.0, **policy: Any) -> Plan:
    """Plan beside a job that began at 0 and is expected to end at 200."""
    known = {"ends": {"x": 200.0}, "begun": {"x": (0.0, 200.0)}, "stretch": (1.0, 1.0, 1.0)}
    return plan(CLUSTER, LIVE, pending, Policy(**{**known, **policy}), now)


def starts(answer: Plan) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Return what was told, by demand."""
    return {name: (reason.start_low, reason.expected_start, reason.start_high) for name, reason in answer.waiting.items()}


def test_with_sure_run_times_starts_are_exact() -> None:
    """One after the other, and beside each other where that fits."""
    told = starts(decide(ask("a", 4, 0.0, run_s=50.0), ask("b", 2, 1.0, run_s=10.0), ask("c", 2, 2.0, run_s=10.0), spread=0.0))
    assert told == {"a": (200.0,) * 3, "b": (250.0,) * 3, "c": (250.0,) * 3}


def test_the_interval_grows_with_what_is_not_known() -> None:
    """It holds the middle, and is wider the farther away."""
    told = starts(decide(ask("a", 4, 0.0, run_s=50.0), ask("b", 4, 1.0, run_s=50.0), spread=0.5))
    for low, middle, high in told.values():
        assert low is not None
        assert middle is not None
        assert high is not None
        assert 100.0 <= low < middle < high
    (low_a, _, high_a), (low_b, _, high_b) = told["a"], told["b"]
    assert (high_b or 0) - (low_b or 0) > (high_a or 0) - (low_a or 0)
    assert "in 4 of 5 cases" in decide(ask("a", 4), spread=0.5).waiting["a"].text


def test_what_lasts_longer_than_expected_ends_later_still() -> None:
    """At 260 of 200 s it goes on, for longer than nothing."""
    (told,) = starts(decide(ask("a", 4), now=260.0, spread=0.5)).values()
    assert (told[1] or 0.0) > 260.0


def test_history_stretches_what_is_told() -> None:
    """Each quantile apart; nobody is told where the policy says so, or no end is known."""
    assert starts(decide(ask("a", 4), spread=0.0, stretch=(0.5, 1.0, 2.0))) == {"a": (150.0, 200.0, 300.0)}
    assert starts(decide(ask("a", 4), told=0))["a"][0] is None
    assert starts(decide(ask("a", 4), ends={}, begun={})) == {"a": (None, None, None)}


def test_a_stretch_is_what_makes_waits_as_frequent_as_was_said() -> None:
    """On the waits it was learnt from, 10 % are below the low one and 10 % above the high one."""
    draws = np.random.default_rng(1).lognormal(0.5, 0.8, 2000)
    forecast = np.tile([50.0, 100.0, 200.0], (2000, 1))
    found = stretch(forecast, 100.0 * draws)
    assert np.mean(100.0 * draws < 50.0 * found[0]) == pytest.approx(0.1, abs=0.01)
    assert np.mean(100.0 * draws > 200.0 * found[2]) == pytest.approx(0.1, abs=0.01)
    assert stretch(np.zeros((0, 3)), np.zeros(0)) == (1.0, 1.0, 1.0)


def test_run_times_without_spread_end_when_expected() -> None:
    """And never before now."""
    assert left_s(np.array([60.0, 60.0]), np.array([20.0, 90.0]), 0.5, 0.0).tolist() == [40.0, 0.0]


@pytest.mark.parametrize(
    ("policy", "message"),
    [({"spread": -1.0}, "policy.spread"), ({"stretch": (0.0, 1.0, 1.0)}, "policy.stretch"), ({"told": -1}, "policy.told")],
)
def test_numbers_that_make_no_sense_are_refused(policy: dict[str, Any], message: str) -> None:
    """Each with its rule."""
    with pytest.raises(InvalidSpec, match=message):
        Policy(**policy)
