"""Laws that hold for every strategy with every shedding; the suite finds them by itself."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_dla.allocation import SHEDDINGS, STRATEGIES, Plan, Policy, plan
from airflow_dla.allocation.lp import objective, solve_box
from airflow_dla.specs import Demand, Grant, Node, Range, Request

LAW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors])
RELATIVE = 1e-9

Problem = tuple[list[Node], list[Grant], list[Demand]]


@st.composite
def ranges(draw: Callable[..., Any], most: int, *, per_gpu: bool = False) -> Range:
    """Make a range or a plain number, in tenths."""
    low, high = sorted((draw(st.integers(0, most)), draw(st.integers(0, most))))
    if draw(st.booleans()):
        low = high
    return Range(low / 10, high / 10, per_gpu)


@st.composite
def requests(draw: Callable[..., Any], *, gpus: bool) -> Request:
    """Make a request: separate resources, or whole GPUs, shares and per-GPU values as well."""
    amounts = {"cpu": draw(ranges(60)), "memory": draw(ranges(300))}
    if gpus and draw(st.booleans()):
        whole = st.tuples(st.integers(0, 3), st.integers(1, 4)).map(lambda ends: Range(float(min(ends)), float(max(ends))))
        share = st.sampled_from([Range(0.25, 0.25), Range(0.5, 0.5), Range(0.3, 1.0), Range(0.0, 0.5)])
        amounts["gpu"] = draw(st.one_of(whole, share))
        if draw(st.booleans()):
            amounts["cpu"] = draw(ranges(30, per_gpu=True))
    elif gpus and draw(st.booleans()):
        low, high = sorted((draw(st.integers(0, 3)), draw(st.integers(1, 3))))
        amounts["mig-1g.10gb"] = Range(float(low), float(high))
    return Request(
        amounts,
        gpu_type=draw(st.sampled_from([None, "h200"])) if "gpu" in amounts else None,
        labels=draw(st.sampled_from([{}, {}, {"zone": "a"}])),
        prefer=draw(st.sampled_from([{}, {}, {"zone": "b"}, {"zone": "a", "disk": "nvme"}])),
    )


@st.composite
def demands(draw: Callable[..., Any], *, gpus: bool) -> list[Demand]:
    """Make a queue with ties in priority and age, and up to two gangs, of which a member may be missing."""
    count = draw(st.integers(1, 9))
    sizes = {None: 1, "red": draw(st.integers(1, 3)), "green": draw(st.integers(2, 4))}
    gangs = [draw(st.sampled_from([None, None, "red", "green"])) for _ in range(count)]
    return [
        Demand(
            id=f"d{index}",
            request=draw(requests(gpus=gpus)),
            place=draw(st.sampled_from(["any", "any", "local", "far"])),
            team=draw(st.sampled_from(["default", "blue"])),
            priority=draw(st.integers(0, 2)),
            weight=draw(st.sampled_from([1.0, 1.0, 2.0, 0.5])),
            created_at=float(draw(st.integers(0, 2))),
            gang=gang,
            gang_size=sizes[gang],
        )
        for index, gang in enumerate(gangs)
    ]


@st.composite
def clusters(draw: Callable[..., Any], *, gpus: bool) -> list[Node]:
    """Make up to three nodes, some with ids, some with GPUs."""
    return [_node(draw, index, gpus=gpus) for index in range(draw(st.integers(1, 3)))]


def _node(draw: Callable[..., Any], index: int, *, gpus: bool) -> Node:
    capacity = {"cpu": float(draw(st.integers(0, 20))), "memory": float(draw(st.integers(0, 60)))}
    devices = draw(st.integers(0, 4)) if gpus else 0
    slices = draw(st.integers(0, 4)) if gpus else 0
    named = draw(st.booleans())
    return Node(
        name=f"n{index}",
        place=draw(st.sampled_from(["local", "far"])),
        capacity=capacity | ({"gpu": float(devices)} if devices else {}) | ({"mig-1g.10gb": float(slices)} if slices else {}),
        labels={
            "gpu_type": draw(st.sampled_from(["h200", "l4"])),
            "zone": draw(st.sampled_from(["a", "b"])),
            "disk": draw(st.sampled_from(["nvme", "hdd"])),
        },
        cpu_ids=tuple(range(int(capacity["cpu"]))) if named else (),
        gpu_ids=tuple(f"g{index}-{device}" for device in range(devices)) if named else (),
        mig_ids={"1g.10gb": tuple(f"m{index}-{slice_}" for slice_ in range(slices))} if named else {},
    )


@st.composite
def problems(draw: Callable[..., Any], *, gpus: bool = True) -> Problem:
    """Make a cluster, some live grants on it (what an earlier round granted), and a queue."""
    cluster = draw(clusters(gpus=gpus))
    before = [Demand(id=f"old-{demand.id}", request=demand.request, place=demand.place) for demand in draw(demands(gpus=gpus))[:3]]
    live = list(plan(cluster, [], before, Policy(), 0.0).grants.values())
    return cluster, live, draw(demands(gpus=gpus))


def charged(grants: list[Grant], node: str, resource: str) -> float:
    """Return what grants hold of a resource of a node."""
    return sum(grant.amounts.get(resource, 0.0) for grant in grants if grant.node == node)


def bounds(demand: Demand, grant: Grant, resource: str) -> tuple[float, float]:
    """Return the least and the most a demand may be granted, per-GPU values multiplied out."""
    found = demand.request.amounts[resource]
    if not found.per_gpu:
        return found.minimum, found.wanted
    gpu = demand.request.amounts["gpu"]
    times = max(grant.amounts["gpu"], min(1.0, gpu.wanted))
    return found.minimum * times, found.wanted * times


def least(demand: Demand, resource: str) -> float:
    """Return the least that a demand may be granted, with the fewest GPUs it may have."""
    found = demand.request.amounts[resource]
    if not found.per_gpu:
        return found.minimum
    gpu = demand.request.amounts["gpu"]
    return found.minimum * max(gpu.minimum, min(1.0, gpu.wanted))


@pytest.mark.parametrize("shedding", SHEDDINGS)
@pytest.mark.parametrize("strategy", STRATEGIES)
class AllocationLaws:
    """What no strategy and no shedding may break."""

    @LAW
    @given(problem=problems())
    def test_no_node_is_over_granted(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """Feasible: on every node, live and new grants sum to at most its capacity."""
        cluster, live, pending = problem
        answer = plan(cluster, live, pending, Policy(strategy=strategy, shedding=shedding), 0.0)
        for node in cluster:
            for resource, capacity in node.capacity.items():
                assert charged([*live, *answer.grants.values()], node.name, resource) <= capacity * (1 + 2 * RELATIVE)

    @LAW
    @given(problem=problems())
    def test_every_demand_has_an_answer(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """Complete: each is granted where its labels are or waits for a reason; less than wanted has one; never less than the minimum."""
        cluster, live, pending = problem
        answer = plan(cluster, live, pending, Policy(strategy=strategy, shedding=shedding), 0.0)
        assert {*answer.grants, *answer.waiting} == {demand.id for demand in pending}
        assert not set(answer.grants) & set(answer.waiting)
        assert all(reason.text and reason.unblock for reason in [*answer.waiting.values(), *answer.shrunk.values()])
        assert set(answer.shrunk) <= set(answer.grants)
        nodes = {node.name: node for node in cluster}
        for demand in pending:
            if demand.id in answer.grants:
                assert carries(nodes[answer.grants[demand.id].node], demand.request.labels)
                self._between_minimum_and_wanted(demand, answer)

    def _between_minimum_and_wanted(self, demand: Demand, answer: Plan) -> None:
        grant = answer.grants[demand.id]
        assert set(grant.amounts) == set(demand.request.amounts)
        for resource, amount in grant.amounts.items():
            low, high = bounds(demand, grant, resource)
            assert low * (1 - RELATIVE) <= amount <= high * (1 + RELATIVE)
            if amount < high * (1 - 2 * RELATIVE):
                assert demand.id in answer.shrunk
        gpu, slices = grant.amounts.get("gpu", 0.0), grant.amounts.get("mig-1g.10gb", 0.0)
        assert gpu <= 1 or gpu == int(gpu)
        assert slices == int(slices)

    @LAW
    @given(problem=problems(), seed=st.integers(0, 99))
    def test_the_order_of_asking_does_not_matter(self, problem: Problem, seed: int, strategy: str, shedding: Any) -> None:
        """Deterministic, and independent of the order in which the queue and the nodes are listed."""
        cluster, live, pending = problem
        policy = Policy(strategy=strategy, shedding=shedding)
        shuffled = random.Random(seed).sample(pending, len(pending))
        first, second = plan(cluster, live, pending, policy, 0.0), plan(cluster[::-1], live[::-1], shuffled, policy, 0.0)
        assert {name: grant.node for name, grant in first.grants.items()} == {name: grant.node for name, grant in second.grants.items()}
        for name, grant in first.grants.items():
            assert grant.amounts == pytest.approx(second.grants[name].amounts, rel=RELATIVE)
        assert first.waiting.keys() == second.waiting.keys()

    @LAW
    @given(problem=problems(gpus=False), scale=st.sampled_from([0.001, 0.5, 3.0, 1024.0]))
    def test_units_do_not_matter(self, problem: Problem, scale: float, strategy: str, shedding: Any) -> None:
        """Scale-free: k times as much of everything gives k times the amounts."""
        cluster, live, pending = problem
        policy = Policy(strategy=strategy, shedding=shedding)
        large = [_scaled_node(node, scale) for node in cluster]
        before = [Grant(id=grant.id, node=grant.node, amounts={r: v * scale for r, v in grant.amounts.items()}) for grant in live]
        first = plan(cluster, live, pending, policy, 0.0)
        second = plan(large, before, [_scaled_demand(demand, scale) for demand in pending], policy, 0.0)
        assert first.grants.keys() == second.grants.keys()
        for name, grant in first.grants.items():
            expected = {resource: amount * scale for resource, amount in grant.amounts.items()}
            assert second.grants[name].amounts == pytest.approx(expected, rel=1e-6, abs=1e-9 * scale)

    @LAW
    @given(problem=problems())
    def test_a_gpu_is_granted_once(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """GPU ids are unique; shares of one device sum to at most one; as many ids as whole GPUs and slices."""
        cluster, live, pending = problem
        answer = plan(cluster, live, pending, Policy(strategy=strategy, shedding=shedding), 0.0)
        handing_out = {node.name for node in cluster if node.cpu_ids or node.gpu_ids or node.mig_ids}
        held: Counter[str] = Counter()
        for grant in [*live, *answer.grants.values()]:
            gpus, slices = grant.amounts.get("gpu", 0.0), grant.amounts.get("mig-1g.10gb", 0.0)
            if grant.node in handing_out:
                assert len(grant.gpu_ids) == int(np.ceil(gpus) + slices)
            for gpu in grant.gpu_ids:
                held[gpu] += min(1.0, gpus + slices)  # type: ignore[assignment]
        assert all(share <= 1 + RELATIVE for share in held.values())

    @LAW
    @given(problem=problems(gpus=False))
    def test_who_waits_does_not_fit(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """Work-conserving: no demand on its own waits while its minimum is free on a node that it may use."""
        cluster, live, pending = problem
        answer = plan(cluster, live, pending, Policy(strategy=strategy, shedding=shedding), 0.0)
        grants = [*live, *answer.grants.values()]
        for demand in pending:
            for node in cluster if demand.id in answer.waiting and demand.gang is None else ():
                free = {name: node.capacity[name] - charged(grants, node.name, name) for name in ("cpu", "memory")}
                fits = all(found.minimum <= free[name] for name, found in demand.request.amounts.items())
                assert not fits or demand.place not in {"any", node.place} or not carries(node, demand.request.labels)

    @LAW
    @given(problem=problems())
    def test_a_gang_is_granted_whole_or_waits_whole(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """All or nothing, also under backfill; nobody is granted before all are here, and every member knows why."""
        cluster, live, pending = problem
        for ends in (None, dict.fromkeys((grant.id for grant in live), 50.0)):
            answer = plan(cluster, live, pending, Policy(strategy=strategy, shedding=shedding, ends=ends), 0.0)
            for name in {demand.gang for demand in pending if demand.gang is not None}:
                members = [demand for demand in pending if demand.gang == name]
                granted = sum(demand.id in answer.grants for demand in members)
                assert granted in {0, len(members)}
                assert not granted or len(members) >= members[0].gang_size
                assert all(name in answer.waiting[demand.id].text or answer.waiting[demand.id].never for demand in members if not granted)

    @LAW
    @given(problem=problems(gpus=False))
    def test_gangs_take_nothing_from_others_unless_they_are_granted(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """A gang of which a member is missing changes nothing for anybody else."""
        cluster, live, pending = problem
        policy = Policy(strategy=strategy, shedding=shedding)
        sizes = Counter(demand.gang for demand in pending)
        others = [demand for demand in pending if demand.gang is None or sizes[demand.gang] >= demand.gang_size]
        first, second = plan(cluster, live, pending, policy, 0.0), plan(cluster, live, others, policy, 0.0)
        assert {name: grant.node for name, grant in first.grants.items()} == {name: grant.node for name, grant in second.grants.items()}

    @LAW
    @given(problem=problems())
    def test_what_is_preferred_keeps_nobody_waiting(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """Soft: a demand alone is granted with what it prefers exactly when it is without, on the node with most matches that fits."""
        cluster, live, pending = problem
        policy = Policy(strategy=strategy, shedding=shedding)
        only = replace(pending[0], gang=None, gang_size=1)
        answer = plan(cluster, live, [only], policy, 0.0)
        plain = replace(only, request=replace(only.request, prefer={}))
        assert answer.grants.keys() == plan(cluster, live, [plain], policy, 0.0).grants.keys()
        exact = replace(plain, request=replace(plain.request, labels={**only.request.labels, **only.request.prefer}))
        least = exact.request.amounts.keys() <= {"cpu", "memory"} and all(r.minimum == r.wanted for r in exact.request.amounts.values())
        if least and exact.request.labels.items() >= only.request.labels.items() and plan(cluster, live, [exact], policy, 0.0).grants:
            assert carries({node.name: node for node in cluster}[answer.grants[only.id].node], only.request.prefer)

    @LAW
    @given(problem=problems())
    def test_strict_serves_priorities_one_by_one(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """Lexicographic: under strict shedding nobody gets more than its minimum of what a higher priority lacks there."""
        if shedding != "strict":
            return
        cluster, live, pending = problem
        answer = plan(cluster, live, pending, Policy(strategy=strategy, shedding=shedding), 0.0)
        granted = [demand for demand in pending if demand.id in answer.grants]
        for high, low in itertools.permutations(granted, 2):
            upper, lower = answer.grants[high.id], answer.grants[low.id]
            if high.priority > low.priority and upper.node == lower.node:
                for resource in ("cpu", "memory"):
                    lacking = upper.amounts[resource] < bounds(high, upper, resource)[1] * (1 - 2 * RELATIVE)
                    assert not lacking or lower.amounts[resource] <= least(low, resource) + 1e-6

    @LAW
    @given(problem=problems(gpus=False))
    def test_as_good_as_the_solver(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """Optimal: what strict shedding costs on a node is what HiGHS finds, within 1e-9; the others cost no less."""
        cluster, _, pending = problem
        node = Node(name="only", capacity=cluster[0].capacity)
        equals = [Demand(id=demand.id, request=demand.request, weight=demand.weight) for demand in pending]
        policy = Policy(strategy=strategy, shedding=shedding)
        answer = plan([node], [], equals, policy, 0.0)
        granted = [demand for demand in equals if demand.id in answer.grants]
        if not granted:
            return
        low, high, got = (np.array(values) for values in zip(*(_row(demand, answer) for demand in granted), strict=True))
        weight, cost = np.array([demand.weight for demand in granted]), np.ones(2)
        room = np.array([node.capacity["cpu"], node.capacity["memory"]])
        best = solve_box(cost, weight, low, high, np.maximum(room, low.sum(axis=0))).objective
        reached = objective(cost, weight, got, high)
        assert reached >= best - 1e-9 * max(1.0, abs(best))
        if shedding == "strict":
            assert reached == pytest.approx(best, rel=1e-9, abs=1e-9)

    @LAW
    @given(problem=problems())
    def test_more_room_is_never_worse_than_none(self, problem: Problem, strategy: str, shedding: Any) -> None:
        """Never worse than granting nothing: prices and grants are >= 0, nothing live is touched."""
        cluster, live, pending = problem
        answer = plan(cluster, live, pending, Policy(strategy=strategy, shedding=shedding), 0.0)
        assert answer.grants.keys() <= {demand.id for demand in pending}
        assert min(answer.prices.values(), default=0.0) >= 0
        assert all(amount >= 0 for grant in answer.grants.values() for amount in grant.amounts.values())
        if not answer.waiting and not answer.shrunk:
            assert set(answer.prices.values()) <= {0.0}


def carries(node: Node, labels: Mapping[str, str]) -> bool:
    """Whether a node has all of some labels."""
    return labels.items() <= node.labels.items()


def _scaled_node(node: Node, scale: float) -> Node:
    return replace(node, capacity={name: amount * scale for name, amount in node.capacity.items()}, cpu_ids=())


def _scaled_demand(demand: Demand, scale: float) -> Demand:
    amounts = {name: Range(found.minimum * scale, found.wanted * scale) for name, found in demand.request.amounts.items()}
    return replace(demand, request=replace(demand.request, amounts=amounts))


def _row(demand: Demand, answer: Plan) -> tuple[list[float], list[float], list[float]]:
    found = [demand.request.amounts[name] for name in ("cpu", "memory")]
    got = answer.grants[demand.id].amounts
    return [item.minimum for item in found], [item.wanted for item in found], [got[name] for name in ("cpu", "memory")]
