"""Laws of changing what is held, on every strategy: once by once, and over many rounds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from contracts.allocation import clusters, requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from airflow_dla.allocation import STRATEGIES, Allocation, Policy, TeamShare, allocate, plan
from airflow_dla.specs import Demand, Grant, Held, Node, Range, Request

#: Without explaining, which traces every line.
PHASES = (Phase.explicit, Phase.generate)
LAW = settings(max_examples=30, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors])
RELATIVE = 1e-9
NOW = 10_000.0
TEAMS = (TeamShare(name="blue", guaranteed={"cpu": 6.0}, reclaim_after_s=600.0), TeamShare(name="default"))

Problem = tuple[list[Node], list[Held], list[Demand]]


@st.composite
def demands(draw: Callable[..., Any], prefix: str, most: int, *, gpus: bool) -> list[Demand]:
    """Make demands that differ in all that preemption looks at, some of them a gang."""
    found = [
        Demand(
            id=f"{prefix}{index}",
            request=draw(requests(gpus=gpus)),
            place=draw(st.sampled_from(["any", "any", "local"])),
            team=draw(st.sampled_from(["default", "blue"])),
            priority=draw(st.integers(0, 4)),
            created_at=NOW - draw(st.sampled_from([0.0, 10.0, 700.0, 5_000.0])),
            preemptible=draw(st.booleans()),
            gang=draw(st.sampled_from([None, None, None, prefix])),
        )
        for index in range(draw(st.integers(0, most)))
    ]
    together = sum(demand.gang is not None for demand in found)
    return [replace(demand, gang_size=together) if demand.gang else demand for demand in found]


@st.composite
def problems(draw: Callable[..., Any], *, gpus: bool = True) -> Problem:
    """Make a cluster that is full, some of it stopping or changing, and a queue."""
    cluster = draw(clusters(gpus=gpus))
    before = draw(demands("old", 8, gpus=gpus))
    granted = plan(cluster, [], before, Policy(), 0.0).grants
    held = [
        Held(
            demand=demand,
            grant=granted[demand.id],
            since=draw(st.sampled_from([0.0, NOW - 1.0])),
            stopping=draw(st.integers(0, 5)) == 0,
            rigid=draw(st.integers(0, 5)) == 0,
        )
        for demand in before
        if demand.id in granted
    ]
    return cluster, held, draw(demands("new", 6, gpus=gpus))


def policies() -> st.SearchStrategy[Policy]:
    """Make a policy of any strategy, with and without teams and ageing."""
    return st.builds(
        Policy,
        strategy=st.sampled_from(STRATEGIES),
        shedding=st.sampled_from(["strict", "proportional", "water-filling"]),
        teams=st.sampled_from([(), TEAMS]),
        ageing_s=st.sampled_from([None, 600.0]),
    )


def aged(demand: Demand, policy: Policy) -> int:
    """Return a priority with its age."""
    return demand.priority + (int((NOW - demand.created_at) // policy.ageing_s) if policy.ageing_s else 0)


def after(held: Sequence[Held], found: Allocation) -> list[Held]:
    """Return what is live once every holder has done what it was told."""
    gone = set(found.adjustment.preempted)
    stays = [one for one in held if not one.stopping and one.grant.id not in gone]
    return [replace(one, grant=found.adjustment.targets.get(one.grant.id, one.grant), target=None) for one in stays]


def granted(found: Allocation, pending: Sequence[Demand], now: float = NOW) -> list[Held]:
    """Return the new grants as held."""
    return [Held(demand=demand, grant=found.plan.grants[demand.id], since=now) for demand in pending if demand.id in found.plan.grants]


def charged(cluster: Sequence[Node], held: Sequence[Held]) -> None:
    """Check that no node gives more than it has, nor a GPU twice."""
    for node in cluster:
        here = [one.charged() for one in held if one.grant.node == node.name]
        for resource, capacity in node.capacity.items():
            assert sum(grant.amounts.get(resource, 0.0) for grant in here) <= capacity * (1 + 2 * RELATIVE) + 1e-12
        for gpu in node.gpu_ids:
            assert sum(min(1.0, grant.amounts.get("gpu", 1.0)) for grant in here if gpu in grant.gpu_ids) <= 1 + RELATIVE


@LAW
@given(problem=problems(), policy=policies())
def test_what_is_told_is_feasible_and_allowed(problem: Problem, policy: Policy) -> None:
    """No node is overcharged at any moment; minima hold; only CPUs and memory change; only who is preemptible stops."""
    cluster, held, pending = problem
    found = allocate(cluster, held, pending, policy, NOW)
    told = [replace(one, target=found.adjustment.targets.get(one.grant.id), stopping=one.stopping) for one in held]
    charged(cluster, [*told, *granted(found, pending)])
    charged(cluster, [*after(held, found), *granted(found, pending)])
    named = {one.grant.id: one for one in held}
    assert not set(found.adjustment.targets) & set(found.adjustment.preempted)
    for name, target in found.adjustment.targets.items():
        one = named[name]
        assert not one.rigid
        assert not one.stopping
        assert (target.node, target.gpu_ids) == (one.grant.node, one.grant.gpu_ids)
        for resource, amount in target.amounts.items():
            if resource not in {"cpu", "memory"}:
                assert amount == one.grant.amounts[resource]
                continue
            asked = one.demand.request.amounts[resource]
            times = max(one.grant.amounts["gpu"], min(1.0, one.demand.request.amounts["gpu"].wanted)) if asked.per_gpu else 1.0
            assert asked.minimum * times * (1 - RELATIVE) - 1e-12 <= amount <= asked.wanted * times * (1 + RELATIVE)
    for name in found.adjustment.preempted:
        assert named[name].demand.preemptible
        assert not named[name].stopping


@LAW
@given(problem=problems(), policy=policies())
def test_nobody_stops_for_what_matters_no_more(problem: Problem, policy: Policy) -> None:
    """Strictly, unless a guarantee is reclaimed from another team; a guarantee is guarded."""
    cluster, held, pending = problem
    found = allocate(cluster, held, pending, policy, NOW)
    making = [demand for demand in pending if demand.id in found.adjustment.coming]
    for one in held:
        if one.grant.id in found.adjustment.preempted:
            reclaiming = any(demand.team == "blue" != one.demand.team and policy.teams for demand in making)
            assert reclaiming or any(aged(demand, policy) > aged(one.demand, policy) for demand in making)
            assert reclaiming or NOW - one.since >= policy.min_run_s


@LAW
@given(problem=problems(), policy=policies())
def test_whoever_room_is_made_for_gets_it(problem: Problem, policy: Policy) -> None:
    """Once all have confirmed, everyone who was told that room is being made starts, and somebody was for every stop."""
    cluster, held, pending = problem
    found = allocate(cluster, held, pending, policy, NOW)
    coming = set(found.adjustment.coming)
    assert coming or not found.adjustment.preempted
    waiting = [demand for demand in pending if demand.id in found.plan.waiting]
    waiting += [one.demand for one in held if one.grant.id in found.adjustment.preempted]
    then = allocate(cluster, [*after(held, found), *granted(found, pending)], waiting, policy, NOW)
    assert coming <= set(then.plan.grants)
    made = {name for name in coming if not any(one.stopping for one in held)}
    assert not made or found.adjustment.preempted or found.adjustment.targets


@LAW
@given(problem=problems(), policy=policies(), data=st.data())
def test_nobody_slips_in_between(problem: Problem, policy: Policy, data: st.DataObject) -> None:
    """Whatever part is confirmed first, those who were promised room still get it in the end."""
    cluster, held, pending = problem
    found = allocate(cluster, held, pending, policy, NOW)
    coming, preempted = set(found.adjustment.coming), set(found.adjustment.preempted)
    told = [
        replace(one, target=found.adjustment.targets.get(one.grant.id), stopping=one.stopping or one.grant.id in found.adjustment.preempted)
        for one in held
    ]
    live, waiting = [*told, *granted(found, pending)], [demand for demand in pending if demand.id in found.plan.waiting]
    for _ in range(len(told) + 1):
        mixed = [(one, _confirm(one) if data.draw(st.booleans()) else one) for one in live]
        live = [then for _, then in mixed if then is not None]
        waiting += [one.demand for one, then in mixed if then is None and one.grant.id in preempted]
        found = allocate(cluster, live, waiting, policy, NOW)
        assert not (set(found.adjustment.preempted) & {one.grant.id for one in live if one.stopping})
        live = [*live, *granted(found, waiting)]
        charged(cluster, live)
        waiting = [demand for demand in waiting if demand.id in found.plan.waiting]
    live = [one for one in map(_confirm, live) if one is not None]
    final = allocate(cluster, live, waiting, policy, NOW).plan.grants
    assert coming <= {one.grant.id for one in live} | set(final)


def _confirm(one: Held) -> Held | None:
    return None if one.stopping else replace(one, grant=one.target or one.grant, target=None)


@LAW
@given(problem=problems(), policy=policies())
def test_no_victim_is_needless(problem: Problem, policy: Policy) -> None:
    """For a single demand: leave out any victim, or any gang, and it does not start."""
    cluster, held, pending = problem
    waits = [replace(demand, gang=None, gang_size=1) for demand in pending[:1]]
    found = allocate(cluster, held, waits, policy, NOW)
    for spared in found.adjustment.preempted:
        gang = next(one.demand.gang for one in held if one.grant.id == spared)
        stays = [one for one in held if one.grant.id == spared or (gang is not None and one.demand.gang == gang)]
        then = allocate(cluster, [*after(held, found), *stays], waits, policy, NOW)
        assert not then.plan.grants


@LAW
@given(problem=problems(), policy=policies(), seed=st.integers(0, 99))
def test_the_order_of_listing_does_not_matter(problem: Problem, policy: Policy, seed: int) -> None:
    """Deterministic, and independent of how nodes, live grants and the queue are listed."""
    cluster, held, pending = problem
    mixed = random.Random(seed)
    one = allocate(cluster, held, pending, policy, NOW).adjustment
    other = allocate(cluster[::-1], mixed.sample(held, len(held)), mixed.sample(pending, len(pending)), policy, NOW).adjustment
    assert one.preempted == other.preempted
    assert one.coming == other.coming
    assert {name: dict(grant.amounts) for name, grant in one.targets.items()} == {
        name: pytest.approx(dict(grant.amounts), rel=1e-6) for name, grant in other.targets.items()
    }


@LAW
@given(problem=problems(gpus=False), policy=policies(), scale=st.sampled_from([0.001, 0.5, 1024.0]))
def test_units_do_not_matter(problem: Problem, policy: Policy, scale: float) -> None:
    """Many times as much of everything gives as many times the amounts and stops the same jobs."""
    cluster, held, pending = problem
    one = allocate(cluster, held, pending, policy, NOW).adjustment
    teams = tuple(replace(team, guaranteed={name: value * scale for name, value in team.guaranteed.items()}) for team in policy.teams)
    larger = [replace(node, capacity={name: value * scale for name, value in node.capacity.items()}) for node in cluster]
    held = [replace(each, demand=_scaled(each.demand, scale), grant=_times(each.grant, scale)) for each in held]
    other = allocate(larger, held, [_scaled(demand, scale) for demand in pending], replace(policy, teams=teams), NOW).adjustment
    assert set(one.preempted) == set(other.preempted)
    assert set(one.targets) == set(other.targets)
    for name, target in one.targets.items():
        assert other.targets[name].amounts == pytest.approx(_times(target, scale).amounts, rel=1e-6, abs=1e-9 * scale)


def _times(grant: Grant, scale: float) -> Grant:
    return replace(grant, amounts={name: value * scale for name, value in grant.amounts.items()})


def _scaled(demand: Demand, scale: float) -> Demand:
    asked = {name: Range(found.minimum * scale, found.wanted * scale, found.per_gpu) for name, found in demand.request.amounts.items()}
    return replace(demand, request=replace(demand.request, amounts=asked))


class Rounds(RuleBasedStateMachine):
    """Rounds over time: jobs come, end, confirm, refuse; a preempted one comes back as old as it was.

    What it proves: no node is ever overcharged; only preemptible jobs stop; and once nothing new
    comes, rounds come to rest although preempted jobs ask again: nobody is preempted in turn.
    """

    @initialize(
        strategy=st.sampled_from(STRATEGIES),
        teams=st.sampled_from([(), TEAMS]),
        ageing=st.sampled_from([None, 60.0]),
        nodes=st.integers(1, 2),
    )
    def start(self, strategy: str, teams: Any, ageing: float | None, nodes: int) -> None:
        """Begin with nodes of ten CPUs."""
        self.policy = Policy(strategy=strategy, teams=teams, ageing_s=ageing, min_run_s=20.0)
        self.cluster = [Node(name=f"n{index}", capacity={"cpu": 10.0}) for index in range(nodes)]
        self.now, self.count = NOW, 0
        self.held: list[Held] = []
        self.pending: list[Demand] = []
        self.back: dict[str, Demand] = {}

    @rule(low=st.integers(1, 8), more=st.integers(0, 4), priority=st.integers(0, 3), preemptible=st.booleans(), blue=st.booleans())
    def arrive(self, low: int, more: int, priority: int, preemptible: bool, blue: bool) -> None:
        """Somebody asks."""
        self.count += 1
        self.pending.append(
            Demand(
                id=f"j{self.count:03d}",
                request=Request({"cpu": Range(float(low), float(low + more))}),
                team="blue" if blue else "default",
                priority=priority,
                preemptible=preemptible,
                created_at=self.now,
            )
        )

    @rule(seconds=st.sampled_from([1.0, 30.0, 400.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(which=st.integers(0, 99))
    def end(self, which: int) -> None:
        """Let a job end."""
        if self.held:
            self.held.pop(which % len(self.held))

    @rule(which=st.integers(0, 99), refused=st.booleans())
    def confirm(self, which: int, refused: bool) -> None:
        """Let a holder do what it was told, or say that it could not."""
        told = [one for one in self.held if one.stopping or one.target]
        if told:
            self._confirm(told[which % len(told)], refused=refused)

    @rule()
    def round(self) -> None:
        """Decide and tell."""
        self._round()

    def _confirm(self, one: Held, *, refused: bool = False) -> None:
        self.held.remove(one)
        if one.stopping:
            self.pending.append(one.demand)
        elif refused:
            self.held.append(replace(one, target=None, rigid=True))
        else:
            self.held.append(replace(one, grant=one.target or one.grant, target=None))

    def _round(self) -> Allocation:
        found = allocate(self.cluster, self.held, self.pending, self.policy, self.now)
        preempted, targets = found.adjustment.preempted, found.adjustment.targets
        assert all(one.demand.preemptible for one in self.held if one.grant.id in preempted)
        assert set(preempted) | set(targets) <= {one.grant.id for one in self.held if not one.stopping}
        told = [
            replace(one, target=targets.get(one.grant.id, one.target), stopping=one.stopping or one.grant.id in preempted)
            for one in self.held
        ]
        self.held = told + granted(found, self.pending, self.now)
        self.pending = [demand for demand in self.pending if demand.id in found.plan.waiting]
        return found

    @invariant()
    def nothing_is_overcharged(self) -> None:
        """At any moment."""
        if hasattr(self, "cluster"):
            charged(self.cluster, self.held)

    def teardown(self) -> None:
        """Nothing new comes: after a while nothing changes any more."""
        if not hasattr(self, "cluster"):
            return
        stops = 0
        for _ in range(60):
            found = self._round()
            stops += len(found.adjustment.preempted)
            told = [one for one in self.held if one.stopping or one.target]
            for one in told:
                self._confirm(one)
            self.now += 50.0
            if not told and self.now > NOW + 5_000.0:
                break
        for _ in range(5):
            assert not self._round().adjustment.preempted
            self.now += 50.0
        assert stops <= 4 * (self.count + 1)


Rounds.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None, phases=PHASES)
TestRounds = Rounds.TestCase
