"""Backfill and ageing: the head of the queue is not delayed, and nothing starves."""

from __future__ import annotations

import random
from typing import Any

import pytest

from airflow_dla.allocation import Plan, Policy, plan
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Demand, Grant, Node, Request


def ask(name: str, cpu: Any, **more: Any) -> Demand:
    """Make a demand for CPUs; names are served in alphabetical order."""
    return Demand(id=name, request=Request.from_mapping({"cpu": cpu}), **more)


LIVE = [Grant(id="long", node="n1", amounts={"cpu": 5.0}), Grant(id="short", node="n1", amounts={"cpu": 2.0})]


def decide(pending: list[Demand], *, now: float = 10.0, nodes: int = 1, **policy: Any) -> Plan:
    """Plan one round on nodes of ten CPUs, of which the first has three free."""
    cluster = [Node(name=f"n{index + 1}", capacity={"cpu": 10.0}) for index in range(nodes)]
    return plan(cluster, LIVE, pending, Policy(**policy), now)


def test_without_ends_whatever_fits_may_start():
    """The rule is off unless the policy gives the numbers."""
    assert set(decide([ask("a", 8), ask("b", 3)]).grants) == {"b"}


def test_a_later_one_takes_only_what_the_head_leaves():
    """The head starts at 100 and leaves two: two may start now, a third may not."""
    answer = decide([ask("a", 8), ask("b", 2), ask("c", 1)], ends={"long": 100.0, "short": 50.0}, spread=0.0)
    assert set(answer.grants) == {"b"}
    assert answer.waiting["a"].expected_start == 100.0
    assert answer.waiting["c"].binding == "queue"
    assert "kept for the head of the queue" in answer.waiting["c"].text


def test_one_that_ends_in_time_delays_nobody():
    """Three CPUs until 90 are back at 100."""
    answer = decide([ask("a", 8), ask("b", 3)], ends={"long": 100.0, "short": 50.0}, runs={"b": 80.0})
    assert set(answer.grants) == {"b"}
    assert not decide([ask("a", 8), ask("b", 3)], ends={"long": 100.0, "short": 50.0}, runs={"b": 91.0}).grants


def test_where_no_end_is_known_nothing_the_head_lacks_is_given_away():
    """Any live grant may end at any moment, so the node is drained for the head, once it has waited for a while."""
    assert set(decide([ask("a", 8), ask("b", 1)], ends={}).grants) == {"b"}
    answer = decide([ask("a", 8), ask("b", 1)], ends={}, now=900.0)
    assert not answer.grants
    assert answer.waiting["a"].expected_start is None


def test_growth_does_not_take_what_the_head_waits_for():
    """A range before the head keeps its minimum, so that the head can start when it is promised."""
    asked = [ask("a", "1-3"), ask("b", 9, created_at=1.0)]
    answer = decide(asked, ends={"long": 100.0, "short": 50.0})
    assert answer.grants["a"].amounts == {"cpu": 1.0}
    assert "a" in answer.shrunk


def test_other_nodes_are_free_to_all():
    """Only the node where the head starts is kept."""
    answer = decide([ask("a", 10), ask("b", 10), ask("c", 3)], nodes=2, ends={"long": 100.0, "short": 50.0})
    assert answer.grants["a"].node == "n2"
    assert set(answer.waiting) == {"b", "c"}


@pytest.mark.parametrize("seed", range(25))
def test_the_head_starts_when_it_was_promised(seed: int):
    """Over time: with true ends, whoever heads the queue starts no later than it was first told."""
    rng = random.Random(seed)
    cluster = [Node(name=f"n{index}", capacity={"cpu": 8.0, "memory": 16.0}) for index in range(2)]
    pending, live, ends, promised = [], {}, {}, {}
    runs = {f"j{n:02d}": float(rng.randint(1, 9)) for n in range(30)}
    for name in runs:
        request = Request.from_mapping({"cpu": rng.randint(1, 8), "memory": f"{rng.randint(1, 16)}GiB"})
        pending.append(Demand(id=name, request=request, created_at=float(len(pending))))
    now = 0.0
    while pending:
        live = {name: grant for name, grant in live.items() if ends[name] > now}
        answer = plan(cluster, list(live.values()), pending, Policy(ends=ends, runs=runs, spread=0.0), now)
        for name, grant in answer.grants.items():
            assert now <= promised.get(name, now)
            live[name], ends[name] = grant, now + runs[name]
        pending = [demand for demand in pending if demand.id in answer.waiting]
        for name, reason in answer.waiting.items():
            if reason.expected_start is not None and "it is promised" in reason.text:
                promised.setdefault(name, reason.expected_start)
        now = min(end for end in ends.values() if end > now)


def test_ageing_raises_a_priority_for_every_step_of_waiting():
    """After three steps priority 0 goes before a new request of priority 2."""
    asked = [ask("a", 3, created_at=0.0), ask("b", 3, created_at=900.0, priority=2)]
    assert set(decide(asked, now=900.0).grants) == {"b"}
    assert set(decide(asked, now=900.0, ageing_s=300.0).grants) == {"a"}


def test_ageing_lets_a_large_one_through_the_small_ones():
    """Under ``greedy`` the large one that waited goes first."""
    asked = [ask("a", 3, created_at=0.0), ask("b", 1, created_at=900.0)]
    assert set(decide(asked, now=900.0, strategy="greedy").grants) == {"b"}
    assert set(decide(asked, now=900.0, strategy="greedy", ageing_s=300.0).grants) == {"a"}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"ageing_s": 0.0}, "ageing_s must be > 0"),
        ({"ends": {"a": float("nan")}}, "policy.ends.a"),
        ({"runs": {"a": -1.0}}, "policy.runs.a"),
    ],
)
def test_times_that_make_no_sense_are_refused(policy: dict[str, Any], message: str):
    """Each with its rule."""
    with pytest.raises(InvalidSpec, match=message):
        Policy(**policy)
