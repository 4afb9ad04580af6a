"""Room for those who are expected: who is refused what for it, and that nothing is held for nobody."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dla.allocation import Plan, Policy, plan
from airflow_dla.allocation.forecast import holds
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Demand, Expected, Grant, Node, Request

NOW = 20_000.0


def ask(name: str, cpu: Any, **more: Any) -> Demand:
    """Make a demand for CPUs."""
    return Demand(id=name, request=Request.from_mapping({"cpu": cpu}), **more)


def soon(at: float = NOW + 600, cpu: float = 8.0, **more: Any) -> Expected:
    """Return a job that is expected, of high priority."""
    fields = {"id": "e", "amounts": {"cpu": cpu}, "at": at, "late_s": 300.0, "run_s": 1800.0, "dag": "etl", "task": "train", "priority": 5}
    return Expected(**{**fields, **more})


def decide(pending: list[Demand], *expected: Expected, runs: dict[str, float] | None = None, nodes: int = 1, **more: Any) -> Plan:
    """Plan one round on nodes of ten CPUs."""
    cluster = [Node(name=f"n{index + 1}", capacity={"cpu": 10.0}) for index in range(nodes)]
    live = more.pop("live", [])
    policy = Policy(holds=holds(expected, NOW), ends=more.pop("ends", {}), runs=runs or {}, **more)
    return plan(cluster, live, pending, policy, NOW)


def test_who_would_be_in_the_way_waits_and_is_told_for_whom():
    """Four CPUs for hours would leave six of the eight that etl.train needs."""
    answer = decide([ask("a", 4)], soon(), runs={"a": 36_000.0})
    assert answer.waiting["a"].binding == "expected"
    assert answer.waiting["a"].text == "waits as number 1: what is free on n1 is kept for etl.train, expected at about 05:43 UTC"
    assert "raise its priority to that of etl.train, 5" in answer.waiting["a"].unblock


@pytest.mark.parametrize(
    ("demand", "run_s"),
    [
        (ask("a", 4), 500.0),  # over before
        (ask("a", 2), 36_000.0),  # what is left will do
        (ask("a", 4, priority=5), 36_000.0),  # matters as much
    ],
)
def test_who_is_not_in_the_way_passes(demand: Demand, run_s: float):
    """Shorter, smaller, or as important."""
    assert set(decide([demand], soon(), runs={"a": run_s}).grants) == {"a"}


def test_age_counts_as_priority():
    """Whoever has waited long enough is not refused for ever."""
    old = ask("a", 4, created_at=NOW - 6000)
    assert not decide([old], soon(), runs={"a": 36_000.0}).grants
    assert decide([old], soon(), runs={"a": 36_000.0}, ageing_s=1000.0).grants


def test_raising_the_priority_unblocks():
    """As the reason says."""
    assert decide([ask("a", 4, priority=5)], soon(), runs={"a": 36_000.0}).grants


def test_what_is_far_ahead_refuses_only_who_outlasts_it_by_more_than_it_is_worth():
    """Five hours of idleness are worth more than an hour and a quarter of waiting."""
    ahead = soon(at=NOW + 18_000)
    assert decide([ask("a", 4)], ahead, runs={"a": 22_000.0}).grants
    assert not decide([ask("a", 4)], ahead, runs={"a": 23_000.0}).grants


def test_who_says_nothing_of_his_run_is_refused_only_what_is_needed_within_the_hour():
    """Otherwise nobody without a history could start before tomorrow's jobs."""
    assert not decide([ask("a", 4)], soon()).grants
    assert decide([ask("a", 4)], soon(at=NOW + 7200)).grants


def test_other_nodes_are_free_to_all():
    """One node is enough for one job."""
    answer = decide([ask("a", 10), ask("b", 10)], soon(), runs={"a": 36_000.0, "b": 36_000.0}, nodes=2)
    assert len(answer.grants) == 1


def test_what_ends_in_time_is_counted_on():
    """A live grant that is over by then leaves room, so the free part may be taken."""
    live = [Grant(id="x", node="n1", amounts={"cpu": 6.0}), Grant(id="y", node="n1", amounts={"cpu": 2.0})]
    busy = {"live": live, "runs": {"a": 36_000.0}}
    assert decide([ask("a", 2)], soon(), ends={"x": NOW + 300, "y": NOW + 300}, **busy).grants
    assert not decide([ask("a", 2)], soon(), ends={"x": NOW + 300}, **busy).grants


def test_two_who_follow_each_other_share_the_room():
    """The second comes when the first is over, so that six CPUs are enough for both."""
    first, second = soon(cpu=6.0, run_s=600.0), soon(id="f", at=NOW + 2400, cpu=6.0, task="then")
    assert decide([ask("a", 4)], first, second, runs={"a": 36_000.0}).grants
    assert not decide([ask("a", 4)], first, soon(id="f", at=NOW + 700, cpu=6.0, task="then"), runs={"a": 36_000.0}).grants


def test_growth_does_not_take_what_is_kept():
    """A range keeps its minimum while it would still be there, and grows where it would not."""
    assert decide([ask("a", "1-10")], soon(), runs={"a": 36_000.0}).grants["a"].amounts == {"cpu": 2.0}
    assert decide([ask("a", "1-10")], soon(), runs={"a": 300.0}).grants["a"].amounts == {"cpu": 10.0}


def test_a_job_that_no_node_could_hold_keeps_nobody_out():
    """Nor one of another type of GPU, or of another place."""
    pending, runs = [ask("a", 4)], {"a": 36_000.0}
    assert decide(pending, soon(cpu=11.0), runs=runs).grants
    assert decide(pending, soon(gpu_type="h200"), runs=runs).grants
    assert decide(pending, soon(place="cloud"), runs=runs).grants


def test_whoever_is_late_is_waited_for_and_then_given_up():
    """Room is kept from its time until its lateness is over."""
    pending, runs = [ask("a", 4)], {"a": 3600.0}
    assert not decide(pending, soon(at=NOW - 299), runs=runs).grants
    assert decide(pending, soon(at=NOW - 301), runs=runs).grants


def test_nothing_is_held_for_who_is_over_needs_nothing_or_is_far_off():
    """Only what may still come within the horizon."""
    assert holds([soon(at=NOW - 301), soon(amounts={}), soon(at=NOW + 90_000)], NOW) == ()
    assert [hold.name for hold in holds([soon(dag="", task="", team="vision")], NOW)] == ["an unscheduled job of team vision"]


def test_costs_must_be_costs():
    """As the newsvendor demands."""
    with pytest.raises(InvalidSpec, match="cost"):
        Policy(shortage_cost=-1.0)


amounts = st.integers(1, 10)
demands = st.lists(st.tuples(amounts, st.integers(0, 9), st.integers(60, 40_000)), min_size=1, max_size=12)
awaited = st.lists(st.tuples(amounts, st.integers(0, 9), st.integers(0, 20_000), st.integers(60, 9_000)), max_size=6)
running = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 20_000)), max_size=3)


@settings(max_examples=150, deadline=None)
@given(demands, awaited, running, st.integers(1, 3))
def test_laws_of_holding(asked: list[Any], expected: list[Any], live: list[Any], nodes: int):
    """Capacity is kept; nobody is told that he waits for nobody; the most important never wait for anybody; all have an answer."""
    pending = [ask(f"d{n:02d}", cpu, priority=priority) for n, (cpu, priority, _) in enumerate(asked)]
    runs = {f"d{n:02d}": float(run) for n, (_, _, run) in enumerate(asked)}
    jobs = [
        soon(id=f"e{n}", task=f"t{n}", cpu=float(cpu), priority=priority, at=NOW + at, run_s=float(run))
        for n, (cpu, priority, at, run) in enumerate(expected)
    ]
    grants = [Grant(id=f"l{n}", node=f"n{n % nodes + 1}", amounts={"cpu": float(cpu)}) for n, (cpu, _) in enumerate(live)]
    ends = {f"l{n}": NOW + end for n, (_, end) in enumerate(live)}
    answer = decide(pending, *jobs, runs=runs, nodes=nodes, live=grants, ends=ends)
    for index in range(nodes):
        node = f"n{index + 1}"
        held = sum(grant.amounts["cpu"] for grant in [*grants, *answer.grants.values()] if grant.node == node)
        assert held <= 10 + 1e-6
    assert set(answer.grants) | set(answer.waiting) == set(runs)
    most = max((job.priority for job in jobs), default=-1)
    for demand in pending:
        reason = answer.waiting.get(demand.id)
        if reason is not None and reason.binding == "expected":
            assert demand.priority < most
    if not jobs:
        assert all(reason.binding != "expected" for reason in answer.waiting.values())
