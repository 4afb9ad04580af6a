"""Auctions in terms: who is outbid stops, who is not pays again."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.allocation import Allocation, Policy, allocate
from airflow_dla.allocation.terms import term_over
from airflow_dla.specs import Account, Demand, Grant, Held, Node, Request

NOW = 10_000.0


def ask(name: str, gpu: float = 4, **more: Any) -> Demand:
    """Make a demand for GPUs."""
    return Demand(id=name, request=Request.from_mapping({"gpu": gpu}), created_at=more.pop("created_at", NOW), **more)


def runs(name: str, gpu: float = 4, **more: Any) -> Held:
    """Make a live, preemptible grant of GPUs."""
    demand = ask(name, gpu, preemptible=more.pop("preemptible", True), **more)
    return Held(demand=demand, grant=Grant(id=name, node="n1", amounts={"gpu": float(gpu)}))


def sell(held: list[Held], pending: list[Demand], **policy: Any) -> Allocation:
    """Run a round on a node of eight GPUs in which every term is over."""
    over = frozenset(one.grant.id for one in held)
    return allocate([Node(name="n1", capacity={"gpu": 8.0})], held, pending, Policy(strategy="auction", over=over, **policy), NOW)


def test_a_higher_bid_takes_over_when_the_term_is_over() -> None:
    """The heavier one of equal priority gets the share; who holds it stops, and says why."""
    found = sell([runs("a"), runs("b", weight=3.0)], [ask("c", weight=2.0)])
    assert found.adjustment.preempted == {"a": "its term of 1200 s is over and it was outbid by c for its share of n1"}
    assert "room is being made" in found.plan.waiting["c"].text
    assert found.renewals["b"] > 0


def test_a_lower_bid_waits() -> None:
    """Nobody stops, and both pay what the next best would."""
    found = sell([runs("a", weight=2.0), runs("b", weight=2.0)], [ask("c", weight=1.0)])
    assert not found.adjustment.preempted
    assert set(found.renewals) == {"a", "b"}


def test_nobody_pays_or_stops_where_nothing_is_contended_for() -> None:
    """The price is zero."""
    found = sell([runs("a")], [])
    assert not found.adjustment.preempted
    assert found.renewals == {"a": 0.0}


def test_who_cannot_pay_keeps_what_nobody_wants() -> None:
    """Without tokens it bids nothing, but it stops only for somebody."""
    assert not sell([runs("a", team="poor")], [], budgets={"poor": 0.0}).adjustment.preempted
    found = sell([runs("a", team="poor", weight=9.0), runs("b", weight=9.0)], [ask("c")], budgets={"poor": 0.0})
    assert set(found.adjustment.preempted) == {"a"}


def test_only_those_stop_that_are_needed() -> None:
    """Two lose to one that needs the room of one."""
    found = sell([runs("a", 4), runs("b", 4)], [ask("c", 4, weight=5.0)], budgets={})
    assert len(found.adjustment.preempted) == 1


@pytest.mark.parametrize(
    "held", [runs("a", 8, preemptible=False), Held(demand=ask("a"), grant=Grant(id="a", node="n1", amounts={"gpu": 8.0}), stopping=True)]
)
def test_what_is_not_preemptible_is_not_sold(held: Held) -> None:
    """Nor what stops anyway."""
    assert not sell([held], [ask("c", weight=9.0)]).adjustment.preempted


def test_a_term_is_over_once() -> None:
    """Between two rounds that lie on both sides of its end."""
    held = [runs("a"), runs("b", preemptible=False)]
    assert term_over(held, [], 1199.0, 1200.0) == frozenset()
    assert term_over(held, [], 1200.0, 1200.0) == {"a"}
    assert term_over(held, [Account(team="default", at=1200.0)], 2399.0, 1200.0) == frozenset()
    assert term_over(held, [Account(team="default", at=1200.0)], 2400.0, 1200.0) == {"a"}
