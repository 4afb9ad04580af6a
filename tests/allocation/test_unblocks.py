"""What reasons say would unblock a demand, acted upon: it starts."""

from __future__ import annotations

from typing import Any

import pytest
from contracts.allocation import Problem as Asked
from contracts.allocation import problems
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_dla.allocation import SHEDDINGS, STRATEGIES, Policy, TeamShare
from airflow_dla.allocation.simulation.acting import Problem, unblocks

ENDS = {f"old-d{index}": 50.0 + 10 * index for index in range(9)}
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"ends": ENDS, "runs": {f"d{index}": 20.0 + 15 * index for index in range(9)}, "spread": 0.3},
    {"quotas": {"blue": {"cpu": 3.0}, "default": {"memory": 20.0}}},
    {"teams": (TeamShare(name="blue", guaranteed={"cpu": 4.0}, lend={"cpu": 1.0}), TeamShare(name="default", borrow={"memory": 10.0}))},
    {"budgets": {"blue": 0.5, "default": 2.0}},
)


@pytest.mark.parametrize("rules", POLICIES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors])
@given(asked=problems(), shedding=st.sampled_from(SHEDDINGS))
def test_every_unblock_unblocks(strategy: str, rules: dict[str, Any], asked: Asked, shedding: Any) -> None:
    """Whatever rules keep a demand out: the steps that are named, taken together, start it."""
    cluster, live, pending = asked
    problem = Problem(tuple(cluster), tuple(live), tuple(pending), Policy(strategy=strategy, shedding=shedding, **rules), 10.0)
    answer = problem.plan()
    alone = {demand.id for demand in pending if demand.gang is None}
    for name, reason in {**answer.waiting, **answer.shrunk}.items():
        for unblock in reason.unblock if name in alone else ():
            assert unblocks(problem, answer, name, unblock), (name, reason, unblock, unblock.steps)  # type: ignore[attr-defined]
