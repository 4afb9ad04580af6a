"""Strategy ``fair``: the smallest share is served next."""

from __future__ import annotations

import random
from typing import Any

import pytest

from airflow_dla.allocation import Policy, TeamShare, plan
from airflow_dla.specs import Demand, Grant, Node, Request


def jobs(team: str, count: int, *, more: Any = None, **amounts: Any) -> list[Demand]:
    """Make equal demands of one team."""
    return [Demand(id=f"{team}-{n}", team=team, request=Request.from_mapping(amounts), **(more or {})) for n in range(count)]


def counts(capacity: dict[str, float], pending: list[Demand], *teams: TeamShare, held: float = 0.0, **policy: Any) -> dict[str, int]:
    """Return how many demands of each team are granted."""
    live = [Grant(id="old", node="n1", amounts={"cpu": held})]
    answer = plan([Node(name="n1", capacity=capacity)], live, pending, Policy(strategy="fair", teams=teams, **policy), 0.0)
    got = [name.split("-")[0] for name in answer.grants]
    return {team: got.count(team) for team in sorted({demand.team for demand in pending})}


def test_the_example_of_the_paper():
    """9 CPUs and 18 GB: three jobs of 1 CPU and 4 GB, two of 3 CPUs and 1 GB (Ghodsi et al., figure 1)."""
    pending = jobs("a", 9, cpu=1, memory="4GiB") + jobs("b", 9, cpu=3, memory="1GiB")
    assert counts({"cpu": 9.0, "memory": 18.0}, pending) == {"a": 3, "b": 2}


def test_many_jobs_are_no_claim_to_more():
    """A team that floods the queue, and was first, gets no more than its half."""
    pending = jobs("a", 50, cpu=1) + jobs("b", 5, cpu=1, more={"created_at": 9.0})
    assert counts({"cpu": 10.0}, pending) == {"a": 5, "b": 5}


def test_weights_are_shares():
    """Twice the weight, twice the share."""
    assert counts({"cpu": 9.0}, jobs("a", 9, cpu=1) + jobs("b", 9, cpu=1), TeamShare(name="a", weight=2.0)) == {"a": 6, "b": 3}


def test_guarantees_go_first():
    """Who stays within its guarantee goes before who borrows; what is left is borrowed in equal parts."""
    teams = [TeamShare(name="a", guaranteed={"cpu": 8.0})]
    assert counts({"cpu": 10.0}, jobs("a", 9, cpu=1) + jobs("b", 9, cpu=1), *teams) == {"a": 9, "b": 1}


def test_a_tree_shares_parent_by_parent():
    """Two children of one parent share what a single team gets alone."""
    teams = [TeamShare(name="p"), TeamShare(name="a", parent="p"), TeamShare(name="b", parent="p")]
    pending = jobs("a", 9, cpu=1) + jobs("b", 9, cpu=1) + jobs("c", 9, cpu=1)
    assert counts({"cpu": 8.0}, pending, *teams) == {"a": 2, "b": 2, "c": 4}


def test_who_used_much_goes_later():
    """Past use counts like use: the other team catches up first."""
    teams = [TeamShare(name="a", past_use={"cpu": 6.0})]
    assert counts({"cpu": 10.0}, jobs("a", 9, cpu=1) + jobs("b", 9, cpu=1), *teams) == {"a": 2, "b": 8}


def test_what_teams_hold_counts():
    """Live use is the beginning of a share."""
    used = {"a": {"cpu": 4.0}}
    assert counts({"cpu": 10.0}, jobs("a", 9, cpu=1) + jobs("b", 9, cpu=1), used=used, held=4.0) == {"a": 1, "b": 5}


def test_what_cannot_be_served_is_no_share():
    """A job larger than the cluster does not set its team back."""
    pending = [*jobs("a", 1, cpu=99, more={"priority": 9}), *jobs("a", 9, cpu=1)[1:], *jobs("b", 9, cpu=1)]
    assert counts({"cpu": 8.0}, pending) == {"a": 4, "b": 4}


@pytest.mark.parametrize("seed", range(5))
def test_the_merge_is_progressive_filling(seed: int):
    """The order found by sorting is the one that serving the smallest share again and again gives."""
    rng = random.Random(seed)
    weights = {"a": 1.0, "b": 2.0, "c": 0.5}
    capacity = {"cpu": 1000.0, "memory": 1000.0}
    pending = [
        Demand(id=f"{team}-{n:02d}", team=team, request=Request.from_mapping({"cpu": rng.randint(1, 9), "memory": rng.randint(1, 9)}))
        for team in weights
        for n in range(10)
    ]
    answer = plan(
        [Node(name="n1", capacity=capacity)], [], pending,
        Policy(strategy="fair", teams=tuple(TeamShare(name=team, weight=weight) for team, weight in weights.items())), 0.0,
    )  # fmt: skip
    held = {team: {"cpu": 0.0, "memory": 0.0} for team in weights}
    queues = {team: [demand for demand in pending if demand.team == team] for team in weights}
    expected = []
    while any(queues.values()):
        team = min(
            (team for team in weights if queues[team]),
            key=lambda team: (round(max(held[team].values()) / 1000 / weights[team], 9), queues[team][0].id),
        )
        demand = queues[team].pop(0)
        expected.append(demand.id)
        for resource, found in demand.request.amounts.items():
            held[team][resource] += found.minimum
    assert list(answer.grants) == expected
