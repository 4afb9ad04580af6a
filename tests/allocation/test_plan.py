"""The cases that must hold exactly, on one node, on several, and over time."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.allocation import Plan, Policy, plan
from airflow_dla.specs import Demand, Grant, Node, Request


def demand(name: str, *, more: Any = None, **amounts: Any) -> Demand:
    """Make a demand; of equal priority, names are served in alphabetical order."""
    return Demand(id=name, request=Request.from_mapping(amounts), **(more or {}))


def node(name: str = "n1", *, more: Any = None, **capacity: float) -> Node:
    """Make a node."""
    return Node(name=name, capacity=capacity, **(more or {}))


def decide(nodes: list[Node], pending: list[Demand], *, live: list[Grant] | None = None, **policy: Any) -> Plan:
    """Plan one round."""
    return plan(nodes, live or [], pending, Policy(**policy), 0.0)


def cpus(answer: Plan) -> dict[str, float]:
    """Return the CPUs of every grant."""
    return {name: grant.amounts["cpu"] for name, grant in sorted(answer.grants.items())}


def test_what_fits_is_granted_whole():
    """Demands 50 and 30 at capacity 80 give (50, 30), at no price."""
    answer = decide([node(cpu=80.0)], [demand("a", cpu=50), demand("b", cpu=30)])
    assert cpus(answer) == {"a": 50.0, "b": 30.0}
    assert (answer.waiting, answer.shrunk, answer.prices, answer.status) == ({}, {}, {"cpu": 0.0}, "optimal")


def test_a_plain_number_is_granted_whole_or_waits():
    """Plain 50 and 30 at 60: 50 is granted and 30 waits for 20 more."""
    answer = decide([node(cpu=60.0)], [demand("a", cpu=50), demand("b", cpu=30)])
    reason = answer.waiting["b"]
    assert cpus(answer) == {"a": 50.0}
    assert (reason.binding, reason.node, reason.shortfall, reason.price, reason.position) == ("cpu", "n1", 20.0, 1.0, 1)
    assert reason.unblock == ("wait until 20 cpu more are free on n1", "lower the minimum to 10 cpu", "add 20 cpu to n1")
    assert answer.prices == {"cpu": 1.0}


@pytest.mark.parametrize(
    ("shedding", "weights", "expected"),
    [
        ("strict", {}, (50.0, 10.0)),
        ("proportional", {}, (37.5, 22.5)),
        ("water-filling", {}, (30.0, 30.0)),
        ("strict", {"a": 2.0, "b": 1.0}, (50.0, 10.0)),
        ("strict", {"a": 1.0, "b": 2.0}, (30.0, 30.0)),
        ("proportional", {"a": 2.0, "b": 1.0}, (450 / 11, 210 / 11)),
        ("water-filling", {"a": 2.0, "b": 1.0}, (40.0, 20.0)),
    ],
)
def test_ranges_are_shed_by_the_policy(shedding: str, weights: dict[str, float], expected: tuple[float, float]):
    """``0-50`` and ``0-30`` at 60 are split as each rule says."""
    answer = decide([node(cpu=60.0)], [demand("a", cpu="0-50"), demand("b", cpu="0-30")], shedding=shedding, weights=weights)
    assert tuple(cpus(answer).values()) == (expected if not weights else pytest.approx(expected))
    assert all(reason.position == 0 for reason in answer.shrunk.values())


def test_strict_shedding_goes_by_priority_before_weight_and_age():
    """The one with the higher priority gets all it wants, whatever the weights and ages."""
    late = demand("z", cpu="0-30", more={"priority": 1, "created_at": 9.0})
    answer = decide([node(cpu=60.0)], [demand("a", cpu="0-50", more={"weight": 5.0}), late])
    assert cpus(answer) == {"a": 30.0, "z": 30.0}


def test_nothing_is_shed_below_its_minimum():
    """``20-50`` and ``25-30`` at 60 keep their minima; what lies above is split."""
    asked = [demand("a", cpu="20-50"), demand("b", cpu="25-30")]
    assert cpus(decide([node(cpu=60.0)], asked, shedding="strict")) == {"a": 35.0, "b": 25.0}
    assert cpus(decide([node(cpu=60.0)], asked, shedding="water-filling")) == {"a": 30.0, "b": 30.0}


def test_admission_is_by_priority_then_age_then_id():
    """The order of serving, seen through who gets the only place."""
    asked = [
        demand("a", cpu=1, more={"created_at": 2.0}),
        demand("b", cpu=1, more={"created_at": 1.0}),
        demand("c", cpu=1, more={"priority": 1, "created_at": 3.0}),
        demand("d", cpu=1, more={"created_at": 1.0}),
    ]
    answer = decide([node(cpu=1.0)], asked)
    assert list(answer.grants) == ["c"]
    assert {name: reason.position for name, reason in answer.waiting.items()} == {"b": 1, "d": 2, "a": 3}


def test_answers_are_listed_in_the_order_of_admission():
    """Whatever the order of asking: grants, those with less than they wanted, and those that wait."""
    asked = [demand(name, cpu="1-2", more={"priority": priority}) for name, priority in (("a", 1), ("b", 3), ("c", 0), ("d", 2))]
    answer = decide([node(cpu=3.0, more={"cpu_ids": (0, 1, 2)})], asked, shedding="strict")
    assert {name: (grant.amounts["cpu"], grant.cpu_ids) for name, grant in answer.grants.items()} == {
        "b": (1.0, (0,)),
        "d": (1.0, (1,)),
        "a": (1.0, (2,)),
    }
    assert [list(answer.grants), list(answer.shrunk), list(answer.waiting)] == [["b", "d", "a"], ["b", "d", "a"], ["c"]]


def test_one_that_does_not_fit_does_not_hold_up_a_later_one():
    """Of 50, 30 and 10 at 60 the second waits and the third starts."""
    answer = decide([node(cpu=60.0)], [demand("a", cpu=50), demand("b", cpu=30), demand("c", cpu=10)])
    assert cpus(answer) == {"a": 50.0, "c": 10.0}


def test_greedy_serves_the_smallest_first():
    """Strategy ``greedy`` starts two small ones where ``lp`` starts the large one."""
    asked = [demand("a", cpu=50), demand("b", cpu=30), demand("c", cpu=20)]
    assert cpus(decide([node(cpu=60.0)], asked, strategy="greedy")) == {"b": 30.0, "c": 20.0}
    assert cpus(decide([node(cpu=60.0)], asked, strategy="lp")) == {"a": 50.0}


def test_costs_shed_nothing():
    """A unit that is wanted is worth its cost and more."""
    answer = decide([node(cpu=60.0)], [demand("a", cpu="0-50")], costs={"cpu": 1000.0})
    assert cpus(answer) == {"a": 50.0}


def test_live_grants_are_constants():
    """What is live is charged, never touched; foreign nodes' grants do not count."""
    live = [Grant(id="old", node="n1", amounts={"cpu": 40.0}), Grant(id="gone", node="n9", amounts={"cpu": 40.0})]
    answer = decide([node(cpu=60.0)], [demand("a", cpu="10-50")], live=live)
    assert cpus(answer) == {"a": 20.0}


def test_reserves_are_held_back_from_every_node():
    """A reserve of 10 of 60 leaves 50."""
    answer = decide([node(cpu=60.0)], [demand("a", cpu="10-60")], reserves={"cpu": 10.0})
    assert cpus(answer) == {"a": 50.0}


def test_no_demand_and_no_node():
    """An empty queue costs nothing; without nodes everybody waits, nobody for ever."""
    assert decide([node(cpu=2.0)], []).prices == {"cpu": 0.0}
    answer = decide([], [demand("a", cpu=1)])
    assert (answer.waiting["a"].binding, answer.waiting["a"].never) == ("node", False)


def test_rounding_does_not_keep_out_what_fits():
    """0.1, 0.2 and 0.7 fit into 1."""
    answer = decide([node(cpu=1.0)], [demand("a", cpu=0.1), demand("b", cpu=0.2), demand("c", cpu=0.7)])
    assert len(answer.grants) == 3


def test_the_fullest_node_that_fits_is_taken():
    """Best fit keeps the empty node whole."""
    live = [Grant(id="old", node="n2", amounts={"cpu": 5.0})]
    answer = decide([node("n1", cpu=8.0), node("n2", cpu=8.0)], [demand("a", cpu=2), demand("b", cpu=8)], live=live)
    assert (answer.grants["a"].node, answer.grants["b"].node) == ("n2", "n1")


def test_a_node_where_all_that_is_wanted_fits_goes_before_the_fullest():
    """``1-2`` goes where 2 are free, not where 1 is."""
    live = [Grant(id="old", node="n2", amounts={"cpu": 7.0})]
    answer = decide([node("n1", cpu=8.0), node("n2", cpu=8.0)], [demand("a", cpu="1-2")], live=live)
    assert (answer.grants["a"].node, answer.grants["a"].amounts) == ("n1", {"cpu": 2.0})


def test_an_optional_gpu_is_used_where_there_is_one():
    """Of three jobs that could use a GPU, the first gets the only one; the others run without."""
    nodes = [node("plain", cpu=8.0), node("device", cpu=8.0, gpu=1.0)]
    answer = decide(nodes, [demand(name, cpu=1, gpu="0-1") for name in "abc"])
    assert {name: grant.amounts["gpu"] for name, grant in answer.grants.items()} == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert answer.grants["a"].node == "device"


def test_jobs_without_gpus_leave_gpu_nodes_alone():
    """The CPUs beside a GPU are kept for those who need it."""
    nodes = [node("device", cpu=8.0, gpu=1.0), node("plain", cpu=8.0)]
    answer = decide(nodes, [demand("a", cpu=4), demand("b", cpu=8, gpu=1)])
    assert {name: grant.node for name, grant in answer.grants.items()} == {"a": "plain", "b": "device"}


def test_place_node_and_gpu_type_are_honoured():
    """Each demand goes only where it may."""
    nodes = [
        node("l4", cpu=8.0, gpu=1.0, more={"labels": {"gpu_type": "l4"}}),
        node("h200", cpu=8.0, gpu=1.0, more={"labels": {"gpu_type": "h200"}}),
        node("far", cpu=8.0, more={"place": "kubernetes"}),
    ]
    asked = [
        demand("a", cpu=1, gpu=1, gpu_type="h200"),
        demand("b", cpu=1, more={"place": "kubernetes"}),
        demand("c", cpu=1, more={"node": "l4"}),
    ]
    assert {name: grant.node for name, grant in decide(nodes, asked).grants.items()} == {"a": "h200", "b": "far", "c": "l4"}


def test_quotas_cap_minima_and_wants():
    """A team gets no more than its quota less what it holds; who is kept out learns why."""
    asked = [demand("a", cpu="2-8", more={"team": "blue"}), demand("b", cpu=4, more={"team": "blue"}), demand("c", cpu=4)]
    answer = decide([node(cpu=60.0)], asked, quotas={"blue": {"cpu": 6.0}}, used={"blue": {"cpu": 1.0}})
    assert cpus(answer) == {"a": 5.0, "c": 4.0}
    assert (answer.waiting["b"].binding, answer.shrunk["a"].binding) == ("quota", "quota")
    assert "team blue" in answer.waiting["b"].text


def test_a_quota_is_not_used_up_by_a_demand_that_finds_no_node():
    """The elder of the team fits nowhere, so the younger may have the team's share."""
    asked = [demand("a", cpu=6, more={"team": "blue"}), demand("b", cpu=3, more={"team": "blue"})]
    answer = decide([node(cpu=4.0)], asked, quotas={"blue": {"cpu": 6.0}})
    assert cpus(answer) == {"b": 3.0}


def test_amounts_that_follow_the_gpus_are_multiplied_out():
    """``8/gpu`` with 1 to 4 GPUs at 20 CPUs: two GPUs and sixteen CPUs."""
    answer = decide([node(cpu=20.0, gpu=4.0)], [demand("a", cpu="8/gpu", gpu="1-4")])
    assert answer.grants["a"].amounts == {"cpu": 16.0, "gpu": 2.0}
    assert answer.shrunk["a"].binding in {"cpu", "gpu"}


def test_without_a_gpu_a_job_keeps_the_cpus_of_one():
    """A job that may run without GPUs and gets none still has what one GPU would have had."""
    answer = decide([node(cpu=20.0)], [demand("a", cpu="8/gpu", gpu="0-4")])
    assert answer.grants["a"].amounts == {"cpu": 8.0, "gpu": 0.0}


def test_gpus_of_a_lower_priority_take_no_cpus_from_a_higher():
    """The range of the higher priority is settled before the bundles of the lower."""
    asked = [demand("a", cpu="1-12", more={"priority": 1}), demand("b", cpu="8/gpu", gpu="1-4")]
    answer = decide([node(cpu=24.0, gpu=4.0)], asked)
    assert cpus(answer) == {"a": 12.0, "b": 8.0}


@pytest.mark.parametrize("shedding", ["strict", "proportional", "water-filling"])
def test_gpus_come_whole_and_none_is_left_over(shedding: str):
    """Five GPUs for 1-4 and 1-4, eight CPUs each: five are granted, in whole numbers."""
    asked = [demand("a", cpu="8/gpu", gpu="1-4"), demand("b", cpu="8/gpu", gpu="1-4")]
    answer = decide([node(cpu=80.0, gpu=5.0)], asked, shedding=shedding)
    gpus = [answer.grants[name].amounts["gpu"] for name in "ab"]
    assert gpus == ([4.0, 1.0] if shedding == "strict" else [3.0, 2.0])
    assert [answer.grants[name].amounts["cpu"] for name in "ab"] == [8 * gpu for gpu in gpus]


def test_cpu_ids_are_the_least_charged():
    """Two CPUs beside two that are taken; a share of one makes do with a shared id."""
    live = [Grant(id="old", node="n1", amounts={"cpu": 2.0}, cpu_ids=(0, 1))]
    nodes = [node(cpu=4.0, more={"cpu_ids": (0, 1, 2, 3)})]
    answer = decide(nodes, [demand("a", cpu=1.5), demand("b", cpu=0.5)], live=live)
    assert (answer.grants["a"].cpu_ids, answer.grants["b"].cpu_ids) == ((2, 3), (3,))


def test_gpu_ids_are_exclusive_and_shares_are_packed():
    """A share joins a device that is shared already; whole GPUs take idle ones."""
    live = [Grant(id="old", node="n1", amounts={"gpu": 0.5}, gpu_ids=("g1",))]
    nodes = [node(cpu=8.0, gpu=3.0, more={"gpu_ids": ("g0", "g1", "g2")})]
    answer = decide(nodes, [demand("a", gpu=0.5), demand("b", gpu=2)], live=live)
    assert (answer.grants["a"].gpu_ids, answer.grants["b"].gpu_ids) == (("g1",), ("g0", "g2"))


def test_a_share_must_fit_on_one_device():
    """Two halves free on two devices do not make a whole."""
    live = [Grant(id=f"old{gpu}", node="n1", amounts={"gpu": 0.5}, gpu_ids=(gpu,)) for gpu in ("g0", "g1")]
    nodes = [node(gpu=2.0, more={"gpu_ids": ("g0", "g1")})]
    answer = decide(nodes, [demand("a", gpu=1), demand("b", gpu=0.75)], live=live)
    assert answer.grants == {}
    assert "in one piece" in answer.waiting["a"].text
    assert (answer.waiting["b"].binding, answer.waiting["b"].never) == ("gpu", False)


def test_a_share_grows_into_its_device():
    """``0.25-1`` beside a live half gets the other half."""
    live = [Grant(id="old", node="n1", amounts={"gpu": 0.5}, gpu_ids=("g0",))]
    answer = decide([node(gpu=1.0, more={"gpu_ids": ("g0",)})], [demand("a", gpu="0.25-1")], live=live)
    assert answer.grants["a"].amounts == {"gpu": 0.5}


def gpu_nodes(count: int, *, gpus: int = 2, cpu: float = 16.0) -> list[Node]:
    """Make equal nodes that hand out GPU ids."""
    ids = tuple(f"g{index}" for index in range(gpus))
    return [node(f"n{index}", cpu=cpu, gpu=float(gpus), more={"gpu_ids": ids}) for index in range(count)]


def test_a_share_takes_the_rest_that_is_of_no_other_use():
    """Where 0.8 is typical, 0.2 goes beside a live 0.8 on the emptier node, not beside 0.3 on the fuller one."""
    live = [
        Grant(id="a", node="n0", amounts={"gpu": 0.8}, gpu_ids=("g0",)),
        Grant(id="b", node="n1", amounts={"gpu": 0.3}, gpu_ids=("g0",)),
        Grant(id="c", node="n1", amounts={"gpu": 1.0}, gpu_ids=("g1",)),
    ]
    waiting = [demand(f"w{index}", gpu=0.8, cpu=99) for index in range(9)]
    answer = decide(gpu_nodes(2), [demand("a-small", gpu=0.2), *waiting], live=live)
    assert (answer.grants["a-small"].node, answer.grants["a-small"].gpu_ids) == ("n0", ("g0",))


def test_a_gang_finds_its_node_whole():
    """Two single GPUs share a node, so that the one that needs both of the other starts."""
    asked = [demand("a", gpu=1), demand("b", gpu=1), demand("c", gpu=2)]
    assert sorted(decide(gpu_nodes(2), asked).grants) == ["a", "b", "c"]


def test_cpus_stay_beside_the_gpus():
    """A job with many CPUs goes where there are most to a GPU, so that every GPU can be used."""
    nodes = [*gpu_nodes(1, gpus=8, cpu=96.0), node("rich", cpu=104.0, gpu=2.0, more={"gpu_ids": ("h0", "h1")})]
    asked = [demand("a", cpu=40), *[demand(f"g{index}", cpu=12, gpu=1) for index in range(9)]]
    answer = decide(nodes, asked)
    assert answer.grants["a"].node == "rich"
    assert answer.waiting == {}
