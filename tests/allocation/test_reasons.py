"""Why somebody waits, in numbers and words."""

from __future__ import annotations

from typing import Any

from airflow_dla.allocation import Policy, never_grantable, plan
from airflow_dla.specs import Demand, Grant, Node, Reason, Request


def demand(name: str = "a", **given: Any) -> Demand:
    """Make a demand from amounts and fields."""
    fields = {key: given.pop(key) for key in ("place", "node", "team", "priority") if key in given}
    return Demand(id=name, request=Request.from_mapping(given), **fields)


SMALL = Node(name="small", capacity={"cpu": 4.0, "memory": 64.0})
LARGE = Node(name="large", place="kubernetes", capacity={"cpu": 32.0, "memory": 16.0, "gpu": 2.0}, labels={"gpu_type": "l4"})


def test_larger_than_every_node_is_never_granted():
    """The message has the resource, what is asked and the largest node."""
    reason = never_grantable([SMALL, LARGE], demand(cpu=40))
    assert reason is not None
    assert (reason.binding, reason.node, reason.shortfall, reason.never) == ("cpu", "large", 8.0, True)
    assert reason.text == "can never be granted: asks 40 cpu, the largest node it may use, large, has 32 cpu"
    assert reason.unblock == ("ask for at most 32 cpu", "add a node with 40 cpu")


def test_each_resource_fits_somewhere_but_not_together():
    """32 CPUs are on one node and 64 GiB on another: neither holds both."""
    reason = never_grantable([SMALL, LARGE], demand(cpu=8, memory="32GiB"))
    assert reason is not None
    assert reason.never


def test_what_fits_an_empty_node_is_not_refused():
    """Bare capacity counts, and of a range the minimum."""
    assert never_grantable([SMALL, LARGE], demand(cpu="32-64")) is None
    assert never_grantable([SMALL, LARGE], demand(cpu="8/gpu", gpu="1-8")) is None


def test_only_nodes_it_may_use_count():
    """Place and GPU type narrow the choice; what no node has can never be granted."""
    assert never_grantable([SMALL, LARGE], demand(cpu=8, place="local")).node == "small"
    typed = never_grantable([SMALL, LARGE], demand(gpu=1, gpu_type="h200"))
    assert (typed.binding, typed.never) == ("gpu_type", True)
    assert typed.text == "can never be granted: there is no node with GPUs of type 'h200'"
    place = never_grantable([SMALL, LARGE], demand(cpu=1, place="moon"))
    assert (place.binding, place.never) == ("place", True)


def test_a_resource_that_no_node_names():
    """The way out is to name it in a capacity."""
    reason = never_grantable([SMALL], demand(disk="10GiB"))
    assert reason.binding == "disk"
    assert reason.unblock[1] == "name disk in the capacity of a node that has 10 GiB disk"


def test_a_missing_node_or_cluster_may_come_back():
    """Bound by name to a node that is not there, or no nodes at all: waits, not for ever."""
    assert never_grantable([SMALL], demand(cpu=1, node="gone")) is None
    assert never_grantable([], demand(cpu=1)) is None
    answer = plan([SMALL], [], [demand(cpu=1, node="gone")], Policy(), 0.0)
    assert (answer.waiting["a"].binding, answer.waiting["a"].never) == ("node", False)


def test_never_is_said_in_a_plan_and_takes_no_place_in_the_queue():
    """Positions count those who can be served."""
    pending = [demand("a", cpu=99), demand("b", cpu=4), demand("c", cpu=4)]
    answer = plan([SMALL], [], pending, Policy(), 0.0)
    assert answer.waiting["a"] == never_grantable([SMALL], pending[0])
    assert answer.waiting["c"].position == 1


def test_the_node_where_least_is_missing_is_named():
    """2 of 6 are missing on one node, 5 on the other."""
    nodes = [Node(name="n1", capacity={"cpu": 8.0}), Node(name="n2", capacity={"cpu": 8.0})]
    live = [Grant(id="x", node="n1", amounts={"cpu": 7.0}), Grant(id="y", node="n2", amounts={"cpu": 4.0})]
    reason = plan(nodes, live, [demand(cpu=6)], Policy(), 0.0).waiting["a"]
    assert (reason.node, reason.shortfall) == ("n2", 2.0)
    assert reason.text == "waits as number 1: needs 6 cpu, n2 has 4 free"


def test_a_shrunk_demand_knows_by_how_much_and_why():
    """The reason names resource, amount and rule, and reads back from plain JSON."""
    pending = [demand("a", cpu="0-50"), demand("b", cpu="0-30")]
    answer = plan([Node(name="n1", capacity={"cpu": 60.0})], [], pending, Policy(), 0.0)
    reason = answer.shrunk["b"]
    assert (reason.binding, reason.node, reason.shortfall, reason.price) == ("cpu", "n1", 20.0, 1.0)
    assert reason.unblock == ("+20 cpu on n1", "raise its priority to 1")
    assert reason.text == "got 10 of 30 cpu on n1: those before it took the rest"
    assert answer.grants["b"].reason == "asked 0-30 cpu, got 10 of 30 cpu on n1: those before it took the rest"
    assert Reason.from_mapping(reason.to_mapping()) == reason


def test_a_grant_says_what_it_got():
    """Ranges and units are written as people write them."""
    answer = plan([SMALL], [], [demand(cpu="1-2", memory="4GiB")], Policy(), 0.0)
    assert answer.grants["a"].reason == "asked 1-2 cpu, got 2 cpu, 4 GiB memory: all that was wanted was free on small"
