"""Tests of looking at a cluster: what is asked for, and what is made of a cluster that shows little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from kubernetes_documents import WORKSPACE, asking, node, pod, quota

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.kubernetes.discovery import ClusterNodes
from airflow_dla.specs import PlaceSpec

PLACE = PlaceSpec(name="k8s", kind="kubernetes", in_cluster=True)
LABELS = {"place": "k8s"}


class MadeUpCluster:
    """A cluster that shows what the test lets it."""

    def __init__(self, *, sees: bool = True, namespace: str = "ml", **documents: list[dict[str, Any]]) -> None:
        self.sees = sees
        self.namespace = namespace
        self.documents = documents
        self.asked: list[tuple[str, bool]] = []

    def list(
        self, kind: str, *, labels: str = "", fields: str = "", cluster_wide: bool = False
    ) -> tuple[list[dict[str, Any]], str]:  # fmt: skip
        """Return what there is of a kind."""
        assert not labels
        assert not fields or kind == "pods"
        self.asked.append((kind, cluster_wide))
        return self.documents.get(kind, []), "1"

    def allowed(self, verb: str, kind: str, subresource: str = "") -> bool:
        """Say that nodes and pods of all namespaces may be listed, or not."""
        self.asked.append((f"may {verb} {kind}{subresource}", not self.namespace))
        return self.sees or kind == "resourcequotas"

    def at(self, namespace: str) -> MadeUpCluster:
        """Return another namespace of it."""
        other = MadeUpCluster(sees=self.sees, namespace=namespace, **self.documents)
        other.asked = self.asked
        return other


def looking(cluster: MadeUpCluster, place: PlaceSpec = PLACE, **more: Any) -> ClusterNodes:
    """Return what looks at it."""
    return ClusterNodes(cluster, place=place, workspace=WORKSPACE, labels=LABELS, **more)


def test_each_node_is_one() -> None:
    """Less what pods of all namespaces hold."""
    cluster = MadeUpCluster(nodes=[node("b"), node("a")], pods=[pod(asking(cpu="3"), on="a")])
    found = looking(cluster).discover()
    assert [(one.name, one.capacity["cpu"]) for one in found] == [("k8s.a", 5.0), ("k8s.b", 8.0)]
    assert all(one.labels == LABELS for one in found)
    assert cluster.asked == [("may list nodes", False), ("may list pods", True), ("nodes", True), ("pods", True)]


def test_what_could_be_granted_in_all_asks_for_no_pod() -> None:
    """And it asks what it may see only now and then."""
    now = [0.0]
    cluster = MadeUpCluster(nodes=[node("a")], pods=[pod(asking(cpu="3"), on="a")])
    looks = looking(cluster, clock=lambda: now[0])
    assert [one.capacity["cpu"] for one in (*looks.whole(), *looks.whole())] == [8.0, 8.0]
    assert cluster.asked == [("may list nodes", False), ("may list pods", True), ("nodes", True), ("nodes", True)]
    now[0], cluster.sees = 601.0, False
    cluster.documents["resourcequotas"] = [quota({"cpu": "4", "memory": "8Gi"})]
    assert [one.name for one in looks.whole()] == ["k8s"]


def test_where_nodes_are_not_shown_a_quota_says_what_there_is() -> None:
    """The tightest one counts, less what others of the namespace used up of it."""
    quotas = [
        quota({"requests.cpu": "20", "limits.cpu": "40", "requests.memory": "64Gi", "requests.nvidia.com/gpu": "4", "pods": "50"},
              {"requests.cpu": "6", "limits.cpu": "12", "requests.memory": "8Gi", "requests.nvidia.com/gpu": "2"}),
        quota({"cpu": "16"}, {"cpu": "6"}),
        quota({"cpu": "1"}, scopes=["BestEffort"]),
    ]  # fmt: skip
    ours = pod(asking(cpu="4", memory="8Gi", gpu="1"), ours=True)
    cluster = MadeUpCluster(sees=False, resourcequotas=quotas, pods=[ours, pod(asking(cpu="2", gpu="1"))])
    (found,) = looking(cluster).discover()
    assert (found.name, found.place, found.labels) == ("k8s", "k8s", LABELS)
    assert found.capacity == {"cpu": 14.0, "memory": 64.0, "gpu": 3.0}
    (whole,) = looking(cluster).whole()
    assert whole.capacity == {"cpu": 16.0, "memory": 64.0, "gpu": 4.0}
    assert ("pods", False) in cluster.asked


@pytest.mark.parametrize(
    ("quotas", "missing"),
    [([], "cpu and memory"), ([quota({"cpu": "4"})], "memory"), ([quota({"pods": "4"})], "cpu and memory")],
)
def test_where_nothing_says_it_is_refused_with_what_would_do(quotas: list[dict[str, Any]], missing: str) -> None:
    """Permissions, or an amount in the place."""
    said = rf"no ResourceQuota of its namespace says how much {missing} there is; let its user list both .* capacity"
    with pytest.raises(InvalidSpec, match=said):
        looking(MadeUpCluster(sees=False, resourcequotas=quotas)).discover()


def test_a_named_capacity_is_all_there_is() -> None:
    """The cluster is not even asked."""
    cluster = MadeUpCluster(nodes=[node()])
    place = replace(PLACE, capacity={"cpu": 64, "memory": "256GiB", "mig-1g.10gb": 7, "gpu_type": "a100"}, labels={"site": "lab"})
    (found,) = looking(cluster, place).discover()
    assert found.capacity == {"cpu": 64.0, "memory": 256.0, "mig-1g.10gb": 7.0}
    assert found.labels == {"gpu_type": "a100", "site": "lab", "place": "k8s"}
    assert cluster.asked == []
    with pytest.raises(InvalidSpec, match="place 'k8s': capacity: unknown key 'ram'"):
        looking(cluster, replace(PLACE, capacity={"ram": 1})).discover()


def test_where_kueue_decides_everything_is_granted() -> None:
    """The job then waits for its admission."""
    (found,) = looking(MadeUpCluster(), replace(PLACE, allocator="kueue", queue="team")).discover()
    assert found.name == "k8s"
    assert all(amount >= 1e4 for amount in found.capacity.values())
