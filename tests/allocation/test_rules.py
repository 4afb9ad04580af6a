"""Every strategy under all rules at once: teams, budgets, ageing and backfill."""

from __future__ import annotations

import random

import pytest

from airflow_dla.allocation import STRATEGIES, Policy, TeamShare, plan
from airflow_dla.specs import Demand, Grant, Node, Request

TEAMS = (
    TeamShare(name="p", borrow={"cpu": 5.0}),
    TeamShare(name="a", parent="p", guaranteed={"cpu": 4.0, "gpu": 1.0}, lend={"cpu": 2.0}),
    TeamShare(name="b", weight=2.0, guaranteed={"memory": 8.0}, borrow={"memory": 4.0}),
)


def problem(rng: random.Random) -> tuple[list[Node], list[Grant], list[Demand]]:
    """Make up to three nodes, some with GPUs, something live, and a queue."""
    nodes = [
        Node(name=f"n{i}", capacity={"cpu": rng.randint(4, 20), "memory": rng.randint(4, 40), "gpu": 4.0}) for i in range(rng.randint(1, 3))
    ]
    live = plan(nodes, [], [ask(rng, i, "old") for i in range(4)], Policy(), 0.0).grants.values()
    return nodes, list(live), [ask(rng, i, "") for i in range(rng.randint(1, 20))]


def ask(rng: random.Random, index: int, prefix: str) -> Demand:
    """Make a demand, with ranges and shares of GPUs among them."""
    amounts = {"cpu": rng.choice([rng.randint(1, 6), "1-6"]), "memory": rng.randint(1, 9), "gpu": rng.choice([0, 0, 1, 0.5, "0-2"])}
    request = Request.from_mapping(amounts)
    return Demand(id=f"{prefix}d{index:02d}", request=request, team=rng.choice("abx"), priority=rng.randint(0, 2), created_at=float(index))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", range(12))
def test_the_laws_hold_under_all_rules(strategy: str, seed: int):
    """Feasible, complete, independent of order, and within the limits of teams."""
    rng = random.Random(seed)
    nodes, live, pending = problem(rng)
    policy = Policy(
        strategy=strategy,
        teams=TEAMS,
        budgets={"a": float(rng.randint(0, 3))},
        ageing_s=3.0,
        ends={grant.id: float(rng.randint(11, 99)) for grant in live if rng.random() < 0.7},
        runs={demand.id: float(rng.randint(1, 99)) for demand in pending if rng.random() < 0.5},
    )
    answer = plan(nodes, live, pending, policy, 10.0)
    again = plan(nodes[::-1], live[::-1], rng.sample(pending, len(pending)), policy, 10.0)
    assert {name: grant.node for name, grant in answer.grants.items()} == {name: grant.node for name, grant in again.grants.items()}
    assert sorted([*answer.grants, *answer.waiting]) == [demand.id for demand in pending]
    assert all(reason.text and reason.unblock for reason in [*answer.waiting.values(), *answer.shrunk.values()])
    for node in nodes:
        for resource, capacity in node.capacity.items():
            held = [grant.amounts[resource] for grant in [*live, *answer.grants.values()] if grant.node == node.name]
            assert sum(held) <= capacity * (1 + 1e-8)
    got = {
        team: [answer.grants[demand.id].amounts for demand in pending if demand.team == team and demand.id in answer.grants]
        for team in "ab"
    }
    assert sum(amounts["cpu"] for amounts in got["a"]) <= 9.0 + 1e-6
    assert sum(amounts["memory"] for amounts in got["b"]) <= 12.0 + 1e-6
