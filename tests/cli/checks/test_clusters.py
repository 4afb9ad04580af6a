"""What the doctor says of Kubernetes places."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from kubernetes_documents import node, quota

from airflow_dla.cli.checks import Check
from airflow_dla.cli.checks.clusters import cluster_found
from airflow_dla.errors import PlaceUnavailable
from airflow_dla.specs import PlacePolicy, PlaceSpec

PLACE = PlaceSpec(name="k8s", kind="kubernetes", in_cluster=True)
QUEUED = replace(PLACE, allocator="kueue", queue="team-a", workload_priorities={"high": 10})
EVERYTHING = {"pods/resize", "podmetrics", "workloads"}


class MadeUpCluster:
    """A cluster that has, serves and forbids what the test says."""

    namespace = "ml"

    def __init__(
        self,
        *,
        version: tuple[int, int] = (1, 36),
        serves: Collection[str] = frozenset(EVERYTHING),
        forbids: Collection[str] = frozenset(),
        error: Exception | None = None,
        **objects: dict[str, dict[str, Any]],
    ) -> None:
        self._version = version
        self._serves = serves
        self._forbids = forbids
        self._error = error
        self.objects: dict[str, dict[str, dict[str, Any]]] = {"namespaces": {"ml": labelled()}, "nodes": {"n1": node()}, **objects}
        self._everywhere = False

    def at(self, namespace: str) -> MadeUpCluster:
        """Return all namespaces of it."""
        assert not namespace
        other = MadeUpCluster(version=self._version, serves=self._serves, forbids=self._forbids, error=self._error, **self.objects)
        other._everywhere = True
        return other

    def version(self) -> tuple[int, int]:
        """Return its version, if it answers."""
        if self._error is not None:
            raise self._error
        return self._version

    def allowed(self, verb: str, kind: str, subresource: str = "") -> bool:
        """Return whether nobody forbade it, here or in every namespace."""
        resource = f"{kind}/{subresource}" if subresource else kind
        where = " everywhere" if self._everywhere or kind == "nodes" else ""
        return f"{verb} {resource}{where}" not in self._forbids

    def serves(self, kind: str, subresource: str = "") -> bool:
        """Return whether it has that."""
        return (f"{kind}/{subresource}" if subresource else kind) in self._serves

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object that may be shown."""
        if f"get {kind}" in self._forbids:
            raise PlaceUnavailable(f"place k8s: cannot get {kind}: forbidden")
        return self.objects.get(kind, {}).get(name)

    def list(
        self, kind: str, *, labels: str = "", fields: str = "", cluster_wide: bool = False
    ) -> tuple[list[dict[str, Any]], str]:  # fmt: skip
        """Return all objects of a kind."""
        assert not labels
        return list(self.objects.get(kind, {}).values()), "1"


def labelled(**labels: str) -> dict[str, Any]:
    """Return an object with such labels of pod security."""
    return {"metadata": {"name": "x", "labels": {f"pod-security.kubernetes.io/{key}": value for key, value in labels.items()}}}


def look(cluster: MadeUpCluster, place: PlaceSpec = PLACE) -> dict[str, Check]:
    """Return what is found, by name."""
    return {check.name: check for check in cluster_found(place, cluster)}


def test_a_cluster_that_has_everything_is_well() -> None:
    """What was found stands in the messages."""
    found = look(MadeUpCluster())
    assert {check.state for check in found.values()} == {"ok"}
    assert found["place k8s"].message == "Kubernetes 1.36, namespace 'ml'"
    assert found["k8s: nodes"].message == "k8s.n1: 8 cpu, 32 GiB memory"
    looked = ("rights", "namespace", "nodes", "quota", "names", "resize", "metrics")
    assert list(found) == ["place k8s", *(f"k8s: {what}" for what in looked)]


def test_a_cluster_that_is_away_is_asked_nothing_more() -> None:
    """Its reason is told once."""
    (found,) = cluster_found(PLACE, MadeUpCluster(error=PlaceUnavailable("place k8s: the API server does not answer")))
    assert (found.state, found.message) == ("fail", "place k8s: the API server does not answer")
    (old,) = cluster_found(PLACE, MadeUpCluster(version=(1, 28)))
    assert (old.state, old.fix) == ("fail", "bring the cluster to 1.29 or later")


@pytest.mark.parametrize(
    ("forbids", "state", "said"),
    [
        ({"create jobs", "watch jobs"}, "fail", "this user may not create/watch jobs (an attempt is a Job: made,"),
        (
            {"list nodes everywhere"},
            "warn",
            "this user may not list nodes in every namespace (the place is one node",
        ),
        (
            {"list nodes everywhere", "list pods everywhere"},
            "warn",
            "this user may not list nodes in every namespace and list pods in every namespace (the place is one node,",
        ),
        ({"patch pods/resize"}, "warn", "this user may not patch pods/resize (the grant of a running job cannot change;"),
        ({"get podmetrics"}, "warn", "this user may not get pods of metrics.k8s.io (of plain commands, with neither inputs nor outputs,"),
        ({"patch pods/resize", "get pods/log"}, "fail", "this user may not get pods/log (the task's log is the pod's"),
    ],
)
def test_rights_that_are_missing_are_told_with_what_is_not_had(forbids: set[str], state: str, said: str) -> None:
    """Those without which no job runs are failures."""
    found = look(MadeUpCluster(forbids=forbids, resourcequotas={"q": quota({"cpu": "8", "memory": "8Gi"})}))["k8s: rights"]
    assert (found.state, found.message[: len(said)]) == (state, said)
    assert "airflow dla deploy" in found.fix


@pytest.mark.parametrize(
    ("place", "level", "state", "said"),
    [
        (PLACE, "restricted", "ok", "'ml' enforces pod security 'restricted'"),
        (
            replace(PLACE, policy=PlacePolicy(mounts=("/data/*",), privileged=True)), "baseline", "warn",
            "'ml' enforces pod security 'baseline', which refuses folders of nodes, privileged jobs",
        ),
        (
            replace(PLACE, user="0:0", policy=PlacePolicy(capabilities=("SYS_PTRACE",))), "restricted", "warn",
            "'ml' enforces pod security 'restricted', which refuses capabilities, root",
        ),
        (replace(PLACE, policy=PlacePolicy(privileged=True)), "privileged", "ok", "'ml' enforces pod security 'privileged'"),
    ],
)  # fmt: skip
def test_a_namespace_may_refuse_what_a_policy_allows(place: PlaceSpec, level: str, state: str, said: str) -> None:
    """That is known before a job is refused."""
    found = look(MadeUpCluster(namespaces={"ml": labelled(enforce=level)}), place)["k8s: namespace"]
    assert (found.state, found.message) == (state, said)


def test_a_namespace_that_is_not_there_fails() -> None:
    """One that is not shown may be there."""
    assert look(MadeUpCluster(namespaces={}))["k8s: namespace"].fix == "kubectl create namespace ml"
    assert "not shown" in look(MadeUpCluster(forbids={"get namespaces"}))["k8s: namespace"].message


def test_a_place_without_nodes_fails() -> None:
    """Its selector or the nodes' taints keep its pods out."""
    found = look(MadeUpCluster(), replace(PLACE, node_selector={"pool": "ml"}))["k8s: nodes"]
    assert (found.state, "node_selector" in found.fix) == ("fail", True)
    found = look(MadeUpCluster(forbids={"list nodes everywhere"}))["k8s: nodes"]
    assert (found.state, "let its user list both by a ClusterRole" in found.message) == ("fail", True)


def test_a_quota_that_is_used_up_is_told() -> None:
    """Jobs would be granted what the namespace cannot have."""
    left, full = quota({"cpu": "8", "pods": "0"}, {"cpu": "6"}), quota({"cpu": "8"}, {"cpu": "8"})
    found = look(MadeUpCluster(resourcequotas={"a": left}))["k8s: quota"]
    assert (found.state, found.message) == ("ok", "team: cpu 6 of 8, pods 0 of 0")
    assert look(MadeUpCluster(resourcequotas={"a": full}))["k8s: quota"].state == "warn"
    assert "not shown" in look(MadeUpCluster(forbids={"list resourcequotas"}))["k8s: quota"].message


def test_what_a_place_names_must_be_there() -> None:
    """What is not shown may be."""
    place = replace(PLACE, runtime_class="nvidia", service_account="jobs", scratch="pvc:cache")
    there = {"runtimeclasses": {"nvidia": labelled()}, "persistentvolumeclaims": {"cache": labelled()}}
    found = look(MadeUpCluster(forbids={"get serviceaccounts"}, **there), place)["k8s: names"]
    assert found.state == "ok"
    assert "serviceaccounts 'jobs' is not shown to this user" in found.message
    found = look(MadeUpCluster(), replace(PLACE, scratch={"storage_class": "fast", "size": "1GiB"}, priority_class="high"))["k8s: names"]
    assert (found.state, found.message) == ("fail", "priorityclasses 'high' is missing, storageclasses 'fast' is missing")


def test_what_a_cluster_does_not_serve_is_told() -> None:
    """A pod that cannot be changed is a warning, a missing metrics API nothing to do about."""
    found = look(MadeUpCluster(serves=()))
    assert (found["k8s: resize"].state, "1.33 or later" in found["k8s: resize"].fix) == ("warn", True)
    assert (found["k8s: metrics"].state, "no metrics API" in found["k8s: metrics"].message) == ("warn", True)


def local_queue(*active: str) -> dict[str, Any]:
    """Return a LocalQueue, and what Kueue says of it: whether it is active, and why."""
    told = [{"type": "Active", "status": active[0], "reason": active[1], "message": "as it says"}] if active else []
    status = {"pendingWorkloads": 2, "admittedWorkloads": 5, "conditions": told}
    return {"metadata": {"name": "team-a"}, "spec": {"clusterQueue": "all"}, "status": status}


@pytest.mark.parametrize(
    ("cluster", "state", "said"),
    [
        (MadeUpCluster(serves=()), "fail", "is not installed"),
        (MadeUpCluster(), "fail", "has no LocalQueue 'team-a' in 'ml'"),
        (MadeUpCluster(forbids={"get localqueues"}), "ok", "queue 'team-a' is not shown to this user"),
        (
            MadeUpCluster(localqueues={"team-a": local_queue("True", "Ready")}, workloadpriorityclasses={"high": {}}),
            "ok",
            "queue 'team-a' has 5 admitted and 2 waiting",
        ),
        (
            MadeUpCluster(localqueues={"team-a": local_queue("True", "Ready")}),
            "fail",
            "has no WorkloadPriorityClass high",
        ),
        (
            MadeUpCluster(localqueues={"team-a": local_queue()}),
            "fail",
            "nobody has looked at queue 'team-a': Kueue's manager does not run",
        ),
        (
            MadeUpCluster(localqueues={"team-a": local_queue("False", "Stopped")}),
            "fail",
            "queue 'team-a' admits nothing: as it says (Stopped)",
        ),
    ],
)
def test_what_kueue_lacks(cluster: MadeUpCluster, state: str, said: str) -> None:
    """Only where it decides."""
    found = look(cluster, QUEUED)
    assert found["k8s: kueue"].state == state
    assert said in found["k8s: kueue"].message
    assert found["k8s: nodes"].state == "ok"
    assert "k8s: kueue" not in look(cluster)


@pytest.mark.parametrize(
    ("reason", "queues", "fix"),
    [
        ("ClusterQueueDoesNotExist", {}, "have ClusterQueue 'all' made, or have the LocalQueue point to another"),
        ("Stopped", {}, "have its stopPolicy set back to None"),
        (
            "ClusterQueueIsInactive",
            {"all": {"status": {"conditions": [{"type": "Active", "status": "False", "message": "references missing flavors"}]}}},
            "have whoever runs the cluster look at ClusterQueue 'all': references missing flavors",
        ),
    ],
)
def test_what_would_do_about_a_queue(reason: str, queues: dict[str, Any], fix: str) -> None:
    """As far as Kueue says why it admits nothing."""
    cluster = MadeUpCluster(localqueues={"team-a": local_queue("False", reason)}, clusterqueues=queues)
    assert look(cluster, QUEUED)["k8s: kueue"].fix == fix
    hidden = MadeUpCluster(localqueues={"team-a": local_queue("False", "ClusterQueueIsInactive")}, forbids={"get clusterqueues"})
    assert look(hidden, QUEUED)["k8s: kueue"].fix == "have whoever runs the cluster look at ClusterQueue 'all'"


def test_one_place_is_looked_at_alone(dla: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name; another one is an error that names those there are."""
    places = {"here": {"kind": "local"}, "k8s": {"kind": "kubernetes", "kubeconfig": "/nowhere/config"}}
    monkeypatch.setenv("AIRFLOW_CONN_LAB", json.dumps({"conn_type": "dla", "extra": {"places": places}}))
    said = dla("doctor", "--place", "k8s", "--conn-id", "lab", "--json")
    assert said.status == 1
    assert [check["name"] for check in said.document["checks"]] == ["connection", "place k8s"]
    assert "/nowhere/config" in said.document["checks"][1]["message"]
    assert "names no place 'gpu1'; those it names are here, k8s" in dla("doctor", "--place", "gpu1", "--conn-id", "lab").err
