"""Slices of GPUs: whole numbers of them, each handed out once; and what GPUs with ids allow."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.allocation import SHEDDINGS, STRATEGIES, Plan, Policy, never_grantable, plan
from airflow_dla.specs import Demand, Grant, Node, Request

EVERY = pytest.mark.parametrize("strategy", STRATEGIES)
IDS = tuple(f"MIG-{index}" for index in range(7))


def ask(name: str, *, more: Any = None, **request: Any) -> Demand:
    """Make a demand; ``small`` and ``large`` are slices; names are served in alphabetical order."""
    profiles = {"small": "mig-1g.10gb", "large": "mig-3g.40gb"}
    return Demand(id=name, request=Request.from_mapping({profiles.get(key, key): value for key, value in request.items()}), **(more or {}))


def node(name: str = "n1", *, ids: tuple[str, ...] = IDS, **capacity: float) -> Node:
    """Make a node with seven small slices and a large one."""
    there = {"cpu": 32.0, "mig-1g.10gb": 7.0, "mig-3g.40gb": 1.0} | capacity
    return Node(name=name, capacity=there, mig_ids={"1g.10gb": ids, "3g.40gb": ("MIG-x",)} if ids else {})


def decide(cluster: list[Node], pending: list[Demand], *, live: list[Grant] | None = None, **policy: Any) -> Plan:
    """Plan one round."""
    return plan(cluster, live or [], pending, Policy(**policy), 0.0)


@EVERY
def test_slices_are_handed_out_once(strategy: str) -> None:
    """What live grants hold is not handed out again; of each profile its own ids."""
    live = [Grant(id="old", node="n1", amounts={"mig-1g.10gb": 2.0}, gpu_ids=("MIG-0", "MIG-3"))]
    answer = decide(
        [node()], [ask("a", small=1), ask("b", small=1, large=1), ask("c", small=1), ask("d", small=2)], live=live, strategy=strategy
    )
    ids = [gpu for grant in answer.grants.values() for gpu in grant.gpu_ids]
    assert len(ids) == len(set(ids))
    assert not {"MIG-0", "MIG-3"} & set(ids)
    assert "MIG-x" in answer.grants["b"].gpu_ids
    assert all(len(grant.gpu_ids) == sum(grant.amounts.values()) for grant in answer.grants.values())
    assert {grant.amounts["mig-1g.10gb"] for grant in answer.grants.values()} <= {1.0, 2.0}


@EVERY
@pytest.mark.parametrize("shedding", SHEDDINGS)
def test_slices_are_shed_in_whole_numbers(strategy: str, shedding: Any) -> None:
    """Seven among three that want three: no half, and none left over."""
    answer = decide([node()], [ask(name, small="1-3") for name in "abc"], strategy=strategy, shedding=shedding)
    got = sorted(grant.amounts["mig-1g.10gb"] for grant in answer.grants.values())
    assert got == ([1.0, 3.0, 3.0] if shedding == "strict" else [2.0, 2.0, 3.0])


def test_a_quota_leaves_whole_slices() -> None:
    """Three and a half is three."""
    answer = decide([node()], [ask("a", small="1-7")], quotas={"default": {"mig-1g.10gb": 3.5}})
    assert answer.grants["a"].amounts == {"mig-1g.10gb": 3.0}


def test_a_reserve_leaves_whole_slices() -> None:
    """Of seven less a half, six can be granted."""
    assert decide([node()], [ask("a", small="1-7")], reserves={"mig-1g.10gb": 0.5}).grants["a"].amounts == {"mig-1g.10gb": 6.0}


def test_ids_that_are_held_are_not_there_whatever_the_amounts_say() -> None:
    """A grant from before the profiles were laid out anew still holds its id."""
    live = [Grant(id="old", node="n1", amounts={"mig-2g.20gb": 1.0}, gpu_ids=("MIG-6",))]
    answer = decide([node()], [ask("a", small="1-7")], live=live)
    assert answer.grants["a"].gpu_ids == IDS[:6]


def test_a_node_without_ids_counts_slices() -> None:
    """Where the place hands out no ids, amounts are all there is."""
    answer = decide([node(ids=())], [ask("a", small=4), ask("b", small=4)])
    assert (answer.grants["a"].gpu_ids, answer.grants["a"].amounts) == ((), {"mig-1g.10gb": 4.0})
    assert answer.waiting["b"].text == "waits as number 1: needs 4 mig-1g.10gb, n1 has 3 free"


def test_more_slices_than_ids_are_never_there() -> None:
    """Of seven that a capacity names, two have ids."""
    reason = never_grantable([node(ids=IDS[:2])], ask("a", small=3))
    assert reason is not None
    assert reason.text == "can never be granted: asks 3 mig-1g.10gb, the largest node it may use, n1, has 2 mig-1g.10gb"
    assert never_grantable([node()], ask("b", **{"mig-7g.80gb": 1})).binding == "mig-7g.80gb"  # type: ignore[union-attr]


def test_more_gpus_than_ids_are_never_there() -> None:
    """A capacity of eight with two ids is refused for three, and grants two."""
    small = Node(name="n1", capacity={"gpu": 8.0}, gpu_ids=("0", "1"))
    reason = never_grantable([small], ask("a", gpu=3))
    assert reason is not None
    assert reason.text == "can never be granted: asks 3 gpu, the largest node it may use, n1, has 2 gpu"
    assert decide([small], [ask("a", gpu=2)]).grants["a"].gpu_ids == ("0", "1")
    assert decide([small], [ask("a", gpu="1-4")]).grants["a"].gpu_ids == ("0", "1")


@EVERY
@pytest.mark.parametrize("shedding", SHEDDINGS)
def test_thousandths_of_a_gpu_share_a_device(strategy: str, shedding: Any) -> None:
    """Four quarters fill one of two devices, so that a whole one is left."""
    gpus = Node(name="n1", capacity={"gpu": 2.0, "cpu": 8.0}, gpu_ids=("0", "1"))
    asked = [*[ask(f"a{index}", gpu=0.25, cpu=1) for index in range(4)], ask("b", gpu=1)]
    answer = decide([gpus], asked, strategy=strategy, shedding=shedding)
    assert set(answer.grants) == {"a0", "a1", "a2", "a3", "b"}
    assert len({answer.grants[f"a{index}"].gpu_ids for index in range(4)}) == 1


@EVERY
@pytest.mark.parametrize("shedding", SHEDDINGS)
def test_ranges_shrink_to_their_minimum_before_anybody_waits(strategy: str, shedding: Any) -> None:
    """Partial admission: four that want two GPUs of four each start with one."""
    gpus = Node(name="n1", capacity={"gpu": 4.0, "cpu": 32.0}, gpu_ids=tuple("0123"))
    answer = decide([gpus], [ask(name, gpu="1-2", cpu="4/gpu") for name in "abcd"], strategy=strategy, shedding=shedding)
    assert {name: dict(grant.amounts) for name, grant in answer.grants.items()} == {name: {"gpu": 1.0, "cpu": 4.0} for name in "abcd"}
    assert set(answer.shrunk) == set("abcd")


@EVERY
def test_a_deadline_that_cannot_be_met_is_said_not_refused(strategy: str) -> None:
    """It waits, or runs with less, as others do; its reason adds that it is late."""
    small = Node(name="n1", capacity={"cpu": 4.0})
    late = {"deadline": 100.0, "run_s": 150.0}
    asked = [ask("a", cpu=3, more={"deadline": 100.0, "run_s": 50.0}), ask("b", cpu=4, more=late), ask("c", cpu="1-2", more=late)]
    answer = decide([small], asked, strategy=strategy)
    said = "its deadline cannot be met any more, even if it starts now"
    reasons = {**answer.waiting, **answer.shrunk}
    assert all(reasons[name].text.endswith(said) == (name != "a") for name in reasons)
    assert "b" in answer.waiting
    assert not decide([small], [ask("b", cpu=5, more=late)]).waiting["b"].text.endswith(said)
