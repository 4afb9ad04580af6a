"""Tests of what a cluster's nodes have left, with made-up documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_documents import WORKSPACE, asking, node, pod

from airflow_dla.runtime.kubernetes.nodes import nodes_of, takes_pods
from airflow_dla.specs import Node, PlaceSpec

PLACE = PlaceSpec(name="k8s", kind="kubernetes", in_cluster=True, labels={"site": "lab"})
GPUS = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81920", "disktype": "ssd"}
NO_SCHEDULE = {"key": "dedicated", "value": "ml", "effect": "NoSchedule"}


def left(
    nodes: list[dict[str, Any]], pods: list[dict[str, Any]] | None = None, place: PlaceSpec = PLACE, *, whole: bool = False
) -> dict[str, Node]:
    """Return what there is to grant, by node."""
    found = nodes_of(nodes, pods or [], place, workspace=WORKSPACE, labels={"place": "k8s"}, whole=whole)
    return {one.name: one for one in found}


def test_a_job_may_ask_for_labels_of_the_cluster():
    """Nodes are known by them; what the place calls itself comes first."""
    zoned = node(labels={"topology.kubernetes.io/zone": "a", "site": "theirs", "place": "elsewhere"})
    (found,) = left([zoned]).values()
    assert found.labels == {"topology.kubernetes.io/zone": "a", "site": "lab", "place": "k8s"}


def test_a_node_has_what_it_can_hold() -> None:
    """In our units, under the place's name, with GPUs by number: no id of one is known before a pod runs."""
    (found,) = left([node(labels=GPUS, **{"nvidia.com/gpu": "2", "ephemeral-storage": "107374182400"})]).values()
    assert found.name == "k8s.n1"
    assert found.capacity == {"cpu": 8.0, "memory": 32.0, "disk": 100.0, "gpu": 2.0, "gpu_memory": 160.0}
    assert (found.gpu_ids, found.cpu_ids, found.mig_ids) == ((), (), {})
    assert (found.place, found.labels) == ("k8s", {**GPUS, "gpu_type": "h100", "site": "lab", "place": "k8s"})


def test_what_others_hold_is_not_granted() -> None:
    """Our own pods hold what they were granted; what their sidecars hold besides is not granted again."""
    ours = pod(asking(cpu="2", memory="4Gi", gpu="1"), initContainers=[asking("mate", cpu="100m") | {"restartPolicy": "Always"}], ours=True)
    others = pod(asking(cpu="1500m", memory="2Gi", gpu="1"))
    found = left([node(**{"nvidia.com/gpu": "4"})], [ours, others, pod(asking(cpu="1"), on="n2")])["k8s.n1"]
    assert found.capacity == {"cpu": 6.4, "memory": 30.0, "gpu": 3.0}


def test_nobody_is_given_less_than_nothing() -> None:
    """A node may be promised more than it has."""
    assert left([node(cpu="1")], [pod(asking(cpu="3"))])["k8s.n1"].capacity["cpu"] == 0.0


def test_slices_of_gpus_are_granted_by_profile() -> None:
    """Under NVIDIA's name, or the place's; other vendors' devices are GPUs where the place says so."""
    sliced = node(**{"nvidia.com/mig-1g.10gb": "7", "nvidia.com/gpu": "0"})
    assert left([sliced])["k8s.n1"].capacity | {"gpu": 0.0} == {"cpu": 8.0, "memory": 32.0, "gpu": 0.0, "mig-1g.10gb": 7.0}
    assert left([node(**{"nvidia.com/mig-1g.10gb.me": "1", "nvidia.com/mig-mixed": "1"})])["k8s.n1"].capacity["mig-1g.10gb+me"] == 1.0
    other = replace(PLACE, gpu_resource="amd.com/gpu", resources={"mig-3g.40gb": "example.com/half"})
    found = left([node(**{"amd.com/gpu": "8", "example.com/half": "2", "nvidia.com/gpu": "1"})], place=other)["k8s.n1"]
    assert found.capacity == {"cpu": 8.0, "memory": 32.0, "gpu": 8.0, "mig-3g.40gb": 2.0}


def test_shared_gpus_have_no_memory_of_their_own() -> None:
    """Each of them sees all of it."""
    shared = node(labels={**GPUS, "nvidia.com/gpu.product": "Tesla-T4-SHARED", "nvidia.com/gpu.replicas": "4"}, **{"nvidia.com/gpu": "4"})
    found = left([shared])["k8s.n1"]
    assert (found.capacity["gpu"], "gpu_memory" in found.capacity, found.labels["gpu_type"]) == (4.0, False, "t4")


@pytest.mark.parametrize(
    "closed",
    [
        node(ready="False"),
        node(ready="Unknown"),
        node(unschedulable=True),
        node(taints=[NO_SCHEDULE]),
        node(taints=[{**NO_SCHEDULE, "effect": "NoExecute"}]),
        node(taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
    ],
)
def test_a_node_that_takes_nothing_new_is_left_out(closed: dict[str, Any]) -> None:
    """Unless jobs of ours run there: then it is there, and has nothing to grant."""
    assert left([closed, node("n2")]).keys() == {"k8s.n2"}
    assert left([closed], [pod(asking(cpu="1"), ours=True)])["k8s.n1"].capacity == {"cpu": 0.0, "memory": 0.0}
    assert left([closed], [pod(asking(cpu="1"))]) == {}


def test_what_may_be_over_in_a_moment_does_not_count_for_good() -> None:
    """A job may wait for a node that is drained, not for one whose taint nobody lifts."""
    away = node("away", ready="Unknown", taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}])
    nodes = [away, node("drained", unschedulable=True), node("theirs", taints=[NO_SCHEDULE])]
    assert left(nodes, [pod(asking(cpu="8"), on="drained")], whole=True).keys() == {"k8s.away", "k8s.drained"}
    assert left(nodes, whole=True)["k8s.drained"].capacity["cpu"] == 8.0


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"key": "dedicated", "value": "ml"}, True),
        ({"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "web"}, False),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_tolerated_taint_keeps_nobody_out(toleration: dict[str, Any], tolerated: bool) -> None:
    """As the scheduler reads tolerations."""
    assert takes_pods(node(taints=[NO_SCHEDULE]), [toleration]) is tolerated


def test_a_preference_is_no_taint() -> None:
    """Such a node is only taken last."""
    assert takes_pods(node(taints=[{**NO_SCHEDULE, "effect": "PreferNoSchedule"}]), [])


def test_a_place_may_be_a_part_of_a_cluster() -> None:
    """The nodes that have all of its labels."""
    part = replace(PLACE, node_selector={"disktype": "ssd"})
    assert left([node("a", labels=GPUS), node("b", labels={"disktype": "hdd"}), node("c")], place=part).keys() == {"k8s.a"}


AMOUNT = st.integers(0, 40)


@given(st.lists(st.tuples(AMOUNT, st.booleans(), st.sampled_from(["n1", "n2", None])), max_size=8))
def test_no_more_is_granted_than_others_leave(pods: list[tuple[int, bool, str | None]]) -> None:
    """Whoever else is there, on every node."""
    found = left([node("n1"), node("n2")], [pod(asking(cpu=str(cpu)), on=on, ours=ours) for cpu, ours, on in pods])
    for name in ("n1", "n2"):
        others = sum(cpu for cpu, ours, on in pods if on == name and not ours)
        assert found[f"k8s.{name}"].capacity["cpu"] == max(0.0, 8.0 - others)
