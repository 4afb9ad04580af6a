"""What is already held changes as little as it can: examples that read like the documentation."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from airflow_dla.allocation import Allocation, Policy, TeamShare, allocate
from airflow_dla.specs import Demand, Grant, Held, Node, Request

NOW = 10_000.0


def ask(name: str, cpu: Any = 4, **more: Any) -> Demand:
    """Make a demand for CPUs."""
    request = more.pop("request", {"cpu": cpu})
    return Demand(id=name, request=Request.from_mapping(request), created_at=more.pop("created_at", NOW), **more)


def runs(demand: Demand, amounts: Any = None, *, node: str = "n1", since: float = 0.0, **more: Any) -> Held:
    """Make a live grant of what was wanted, or of other amounts."""
    given = {name: found.wanted for name, found in demand.request.amounts.items()}
    grant = Grant(id=demand.id, node=node, amounts=given if amounts is None else amounts, gpu_ids=more.pop("gpu_ids", ()))
    return Held(demand=demand, grant=grant, since=since, **more)


def decide(held: list[Held], pending: list[Demand], *, cpu: float = 8.0, nodes: int = 1, now: float = NOW, **policy: Any) -> Allocation:
    """Run one round on nodes that are alike."""
    cluster = [Node(name=f"n{index + 1}", capacity={"cpu": cpu, "memory": 64.0}) for index in range(nodes)]
    return allocate(cluster, held, pending, Policy(**policy), now)


def test_an_elastic_job_shrinks_before_anybody_stops() -> None:
    """Four CPUs are what the elastic job has above its minimum, so the preemptible one goes on."""
    held = [runs(ask("elastic", "2-6")), runs(ask("batch", 2, preemptible=True))]
    found = decide(held, [ask("urgent", 4, priority=5)]).adjustment
    assert {name: grant.amounts for name, grant in found.targets.items()} == {"elastic": {"cpu": 2.0}}
    assert not found.preempted
    assert "urgent" in found.targets["elastic"].reason


def test_it_shrinks_only_as_far_as_needed() -> None:
    """One CPU is free, two are needed: the elastic job gives one."""
    found = decide([runs(ask("elastic", "2-7"))], [ask("urgent", 2)]).adjustment
    assert found.targets["elastic"].amounts == {"cpu": 6.0}


def test_a_lower_priority_shrinks_nobody() -> None:
    """What matters less waits until something is free."""
    found = decide([runs(ask("elastic", "2-8", priority=1))], [ask("later", 2)])
    assert not found.adjustment.targets
    assert "room" not in found.plan.waiting["later"].text


@pytest.mark.parametrize("more", [{"rigid": True}, {"stopping": True}])
def test_what_cannot_shrink_is_left_alone(more: dict[str, Any]) -> None:
    """A resize was refused, or the job stops anyway."""
    assert not decide([runs(ask("elastic", "2-8"), **more)], [ask("urgent", 2, priority=5)]).adjustment.targets


def test_the_waiting_one_is_told_that_its_room_is_being_made() -> None:
    """Who makes it, and when it should be there."""
    found = decide([runs(ask("batch", 8, preemptible=True))], [ask("urgent", 4, priority=5)])
    assert found.adjustment.preempted == {
        "batch": "stops so that urgent, which has priority 5 and needs 4 cpu on n1, can start: its own priority is 0"
    }
    reason = found.plan.waiting["urgent"]
    assert reason.text == "waits as number 1: room is being made on n1: batch stops within about 30 s"
    assert reason.unblock == ("wait until batch stops within about 30 s",)
    assert reason.expected_start == NOW + 30.0


@pytest.mark.parametrize(
    "batch",
    [
        {"preemptible": False},
        {"preemptible": True, "priority": 5},
        {"preemptible": True, "priority": 9},
    ],
)
def test_nobody_stops_who_is_not_preemptible_or_matters_as_much(batch: dict[str, Any]) -> None:
    """Only what is declared preemptible, and only for what matters strictly more."""
    assert not decide([runs(ask("batch", 8, **batch))], [ask("urgent", 4, priority=5)]).adjustment.preempted


def test_the_one_that_matters_least_stops() -> None:
    """Both would do."""
    held = [runs(ask(name, 4, preemptible=True, priority=level)) for name, level in (("a", 2), ("b", 1))]
    assert set(decide(held, [ask("urgent", 4, priority=5)]).adjustment.preempted) == {"b"}


def test_as_few_as_possible_stop() -> None:
    """One of four CPUs rather than two of two, all of one priority."""
    held = [
        runs(ask("a", 2, preemptible=True), since=9.0),
        runs(ask("b", 2, preemptible=True), since=9.0),
        runs(ask("c", 4, preemptible=True)),
    ]
    assert set(decide(held, [ask("urgent", 4, priority=5)]).adjustment.preempted) == {"c"}


def test_as_little_work_as_possible_is_lost() -> None:
    """The one that began last stops."""
    held = [runs(ask(name, 4, preemptible=True), since=since) for name, since in (("old", 0.0), ("young", 9_000.0))]
    assert set(decide(held, [ask("urgent", 4, priority=5)]).adjustment.preempted) == {"young"}


def test_a_job_runs_for_a_while_before_it_is_preempted() -> None:
    """After two minutes; the round says when to look again."""
    found = decide([runs(ask("batch", 8, preemptible=True), since=NOW - 100.0)], [ask("urgent", 4, priority=5)]).adjustment
    assert not found.preempted
    assert found.again_at == NOW + 20.0


def test_nobody_stops_for_what_is_already_becoming_free() -> None:
    """One stops already; what it frees is kept for the one it is made for, and a small one may not slip in."""
    held = [runs(ask("a", 4, preemptible=True), stopping=True), runs(ask("b", 3, preemptible=True))]
    found = decide(held, [ask("urgent", 5, priority=5), ask("small", 1)])
    assert not found.adjustment.preempted
    assert not found.plan.grants
    assert "a stops within about 30 s" in found.plan.waiting["urgent"].text


def test_what_the_promised_one_does_not_need_may_be_used() -> None:
    """Three are free, four come back, five are needed: two may go."""
    held = [runs(ask("a", 4), stopping=True), runs(ask("b", 1))]
    assert set(decide(held, [ask("urgent", 5, priority=5), ask("small", 2)]).plan.grants) == {"small"}


def test_nobody_stops_for_what_ends_by_itself_soon() -> None:
    """Expected to end in a minute: to stop another would cost more."""
    held = [runs(ask("ends", 4, run_s=NOW + 60.0)), runs(ask("batch", 4, preemptible=True))]
    found = decide(held, [ask("urgent", 4, priority=5)]).adjustment
    assert not found.preempted
    assert found.again_at == NOW + 60.0
    assert set(decide(held, [ask("urgent", 4, priority=5)], patience_s=30.0).adjustment.preempted) == {"batch"}


def test_nobody_stops_in_vain() -> None:
    """Half of what is needed would come free, which helps nobody."""
    held = [runs(ask("batch", 4, preemptible=True)), runs(ask("own", 4))]
    assert decide(held, [ask("urgent", 8, priority=5)]).adjustment.preempted == {}


def test_a_gang_stops_as_a_whole() -> None:
    """One of its members is in the way; the other would wait for it for ever."""
    held = [runs(ask(name, 8, preemptible=True, gang="g", gang_size=2), node=node) for name, node in (("g1", "n1"), ("g2", "n2"))]
    preempted = decide(held, [ask("urgent", 4, priority=5)], nodes=2).adjustment.preempted
    assert set(preempted) == {"g1", "g2"}
    assert any("with its gang" in why for why in preempted.values())


def test_room_is_made_for_a_whole_gang_or_not_at_all() -> None:
    """Two members need two nodes; where one of them cannot be freed, nobody stops."""
    gang = [ask(name, 8, priority=5, gang="g", gang_size=2) for name in ("g1", "g2")]
    held = [runs(ask(f"b{n}", 8, preemptible=True), node=f"n{n}") for n in (1, 2)]
    found = decide(held, gang, nodes=2)
    assert set(found.adjustment.preempted) == {"b1", "b2"}
    assert set(found.adjustment.coming) == {"g1", "g2"}
    held[1] = runs(ask("b2", 8), node="n2")
    assert not decide(held, gang, nodes=2).adjustment.preempted


def test_slices_of_gpus_are_freed_as_well() -> None:
    """A slice that a preemptible job holds goes to whom it is made for, and to nobody in between."""
    node = Node(name="n1", capacity={"mig-1g.10gb": 2.0, "cpu": 8.0}, mig_ids={"1g.10gb": ("a", "b")})
    held = [runs(ask(name, request={"mig-1g.10gb": 1}, preemptible=True), gpu_ids=(name,), since=float(name == "b")) for name in ("a", "b")]
    waits = [ask("urgent", request={"mig-1g.10gb": 1}, priority=5), ask("later", request={"mig-1g.10gb": 1})]
    assert set(allocate([node], held, waits, Policy(), NOW).adjustment.preempted) == {"b"}
    held[1] = dataclasses.replace(held[1], stopping=True)
    assert not allocate([node], held, waits, Policy(), NOW).adjustment.preempted
    assert set(allocate([node], held[:1], waits, Policy(), NOW).plan.grants) == {"urgent"}


def test_gpus_are_freed_device_by_device() -> None:
    """Whole GPUs are needed: two halves on different devices are of no use."""
    node = Node(name="n1", capacity={"gpu": 2.0}, gpu_ids=("g0", "g1"))
    half = [
        runs(ask(name, request={"gpu": 0.5}, preemptible=True), gpu_ids=(gpu,)) for name, gpu in (("a", "g0"), ("b", "g0"), ("c", "g1"))
    ]
    found = allocate([node], half, [ask("urgent", request={"gpu": 1}, priority=5)], Policy(), NOW)
    assert set(found.adjustment.preempted) == {"c"}


def test_what_was_lent_comes_back_to_whom_it_is_guaranteed() -> None:
    """Whatever the priorities, after the time its team says, from who borrows."""
    teams = (TeamShare(name="a", guaranteed={"cpu": 4.0}, reclaim_after_s=300.0), TeamShare(name="b"))
    held = [runs(ask(f"b{n}", 4, team="b", priority=9, preemptible=True), since=float(n)) for n in range(2)]
    waits = [ask("mine", 4, team="a")]
    assert not decide(held, waits, teams=teams).adjustment.preempted
    found = decide(held, waits, teams=teams, now=NOW + 300.0)
    assert set(found.adjustment.preempted) == {"b1"}
    assert "gives back what team b borrowed: mine" in found.adjustment.preempted["b1"]


def test_what_a_team_holds_within_its_guarantee_nobody_takes() -> None:
    """Not even for a higher priority of another team."""
    teams = (TeamShare(name="a", guaranteed={"cpu": 8.0}, reclaim_after_s=0.0), TeamShare(name="b"))
    held = [runs(ask("mine", 8, team="a", preemptible=True))]
    assert not decide(held, [ask("urgent", 4, team="b", priority=9)], teams=teams).adjustment.preempted
    assert decide(held, [ask("urgent", 4, team="a", priority=9)], teams=teams).adjustment.preempted


def test_what_is_free_goes_to_elastic_jobs_once_nobody_waits_for_it() -> None:
    """All they want, when nobody waits."""
    held = [runs(ask("elastic", "2-8"), {"cpu": 2.0})]
    assert decide(held, []).adjustment.targets["elastic"].amounts == {"cpu": 8.0}
    assert not decide(held, [ask("large", 8)]).adjustment.targets


def test_growth_must_be_worth_it() -> None:
    """A twentieth of what is wanted is not; nor right after the start; nor what was refused before."""
    held = runs(ask("elastic", "2-8"), {"cpu": 7.6})
    assert not decide([held], []).adjustment.targets
    assert decide([held], [], min_gain=0.01).adjustment.targets
    assert not decide([runs(ask("elastic", "2-8"), {"cpu": 2.0}, since=NOW - 1.0)], []).adjustment.targets
    assert not decide([runs(ask("elastic", "2-8"), {"cpu": 2.0}, rigid=True)], []).adjustment.targets


@pytest.mark.parametrize(("shedding", "expected"), [("strict", [8.0, 2.0]), ("water-filling", [5.0, 5.0])])
def test_growth_is_shared_by_the_shedding_rule(shedding: str, expected: list[float]) -> None:
    """Six are free for two that want six more each."""
    held = [runs(ask(name, "2-8"), {"cpu": 2.0}) for name in "ab"]
    targets = decide(held, [], cpu=10.0, shedding=shedding).adjustment.targets
    assert [targets[name].amounts["cpu"] if name in targets else 2.0 for name in "ab"] == expected


def test_growth_keeps_the_quota_of_a_team() -> None:
    """Two more are all that the quota leaves."""
    held = [runs(ask("elastic", "2-8", team="a"), {"cpu": 2.0})]
    assert decide(held, [], quotas={"a": {"cpu": 4.0}}).adjustment.targets["elastic"].amounts == {"cpu": 4.0}


def test_cpu_ids_follow_the_amount() -> None:
    """The ids that are shared least stay; those that are free are taken."""
    node = Node(name="n1", capacity={"cpu": 4.0}, cpu_ids=(0, 1, 2, 3))
    demand = ask("elastic", "1-4")
    one = Held(demand=demand, grant=Grant(id="elastic", node="n1", amounts={"cpu": 4.0}, cpu_ids=(0, 1, 2, 3)))
    smaller = allocate([node], [one], [ask("urgent", 2)], Policy(), NOW).adjustment.targets["elastic"]
    assert (smaller.amounts["cpu"], smaller.cpu_ids) == (2.0, (0, 1))
    small = Held(demand=demand, grant=Grant(id="elastic", node="n1", amounts={"cpu": 2.0}, cpu_ids=(1, 3)))
    assert allocate([node], [small], [], Policy(), NOW).adjustment.targets["elastic"].cpu_ids == (0, 1, 2, 3)
