"""Labels of nodes: some must be there, some should."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.allocation import STRATEGIES, Plan, Policy, never_grantable, plan
from airflow_dla.allocation.table import read_demands
from airflow_dla.specs import Demand, Grant, Node, Request

EVERY = pytest.mark.parametrize("strategy", STRATEGIES)


def ask(name: str, *, more: Any = None, **request: Any) -> Demand:
    """Make a demand; names are served in alphabetical order."""
    return Demand(id=name, request=Request.from_mapping(request), **(more or {}))


def node(name: str, *, gpus: int = 0, cpu: float = 8.0, **labels: str) -> Node:
    """Make a node with labels."""
    return Node(
        name=name,
        capacity={"cpu": cpu} | ({"gpu": float(gpus)} if gpus else {}),
        labels=labels,
        gpu_ids=tuple(f"{name}-{gpu}" for gpu in range(gpus)),
    )


def decide(cluster: list[Node], pending: list[Demand], *, live: list[Grant] | None = None, **policy: Any) -> Plan:
    """Plan one round."""
    return plan(cluster, live or [], pending, Policy(**policy), 0.0)


@EVERY
def test_every_label_must_be_there(strategy: str) -> None:
    """The node with one of the two will not do."""
    cluster = [node("n1", zone="a"), node("n2", zone="a", disk="nvme"), node("n3", zone="b", disk="nvme")]
    answer = decide(cluster, [ask("a", cpu=1, labels={"zone": "a", "disk": "nvme"})], strategy=strategy)
    assert answer.grants["a"].node == "n2"


def test_labels_that_no_node_carries_are_never_there() -> None:
    """Said at once, with what would do; without any node it waits."""
    asked = ask("a", gpu=1, gpu_type="h200", labels={"zone": "c", "disk": "nvme"}, more={"place": "local"})
    reason = never_grantable([node("n1", gpus=1, zone="a", gpu_type="h200")], asked)
    assert reason is not None
    assert (reason.binding, reason.never) == ("labels", True)
    assert reason.text == "can never be granted: there is no node with labels disk=nvme, zone=c and GPUs of type 'h200' in place 'local'"
    assert reason.unblock[1] == "ask for other labels"
    assert never_grantable([], asked) is None


def test_a_node_that_is_there_has_the_labels_it_has() -> None:
    """Bound to a node without the label: never; to a node that is not there: it may come back with it."""
    bound = ask("a", cpu=1, labels={"zone": "b"}, more={"node": "n1"})
    reason = never_grantable([node("n1", zone="a")], bound)
    assert reason is not None
    assert reason.text == "can never be granted: there is no node 'n1' with labels zone=b"
    assert never_grantable([node("n2", zone="a")], bound) is None


@EVERY
def test_what_is_preferred_is_taken_where_it_fits(strategy: str) -> None:
    """More matching labels go first, however full the other nodes are; a full one keeps nobody waiting."""
    cluster = [node("n1"), node("n2", zone="a"), node("n3", zone="a", disk="nvme")]
    live = [Grant(id="old", node="n1", amounts={"cpu": 6.0})]
    wish = {"zone": "a", "disk": "nvme"}
    asked = [ask("a", cpu=5, prefer=wish), ask("b", cpu=5, prefer=wish), ask("c", cpu=2, prefer=wish), ask("d", cpu=2)]
    answer = decide(cluster, asked, live=live, strategy=strategy)
    assert {name: grant.node for name, grant in answer.grants.items()}["c"] == "n3"
    assert {answer.grants["a"].node, answer.grants["b"].node} == {"n2", "n3"}
    assert answer.grants["d"].node == "n1"


@EVERY
def test_what_is_preferred_counts_where_gpus_are_handed_out(strategy: str) -> None:
    """Devices are chosen by what is left of them only among the nodes with most matching labels."""
    cluster = [node("n1", gpus=2), node("n2", gpus=2, disk="nvme"), node("n3", gpus=2)]
    live = [Grant(id="old", node="n1", amounts={"gpu": 0.5}, gpu_ids=("n1-0",))]
    asked = [ask("a", gpu=0.5, prefer={"disk": "nvme"}), ask("b", gpu=0.5), ask("c", gpu=2, prefer={"disk": "nvme"}, gpu_type=None)]
    answer = decide(cluster, asked, live=live, strategy=strategy)
    assert (answer.grants["a"].node, answer.grants["b"].node) == ("n2", "n1")
    assert answer.grants["c"].node == "n3"


def test_few_kinds_stay_few() -> None:
    """Demands that ask for the same labels, in any order, are one kind."""
    labels = [{"zone": "a", "disk": "nvme"}, {"disk": "nvme", "zone": "a"}, {}]
    asked = read_demands([ask(f"a{index}", cpu=1, labels=labels[index % 3]) for index in range(300)], Policy())
    assert [kind.labels for kind in asked.kinds] == [(("disk", "nvme"), ("zone", "a")), ()]
