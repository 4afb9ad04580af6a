"""A cluster with Kueue, a fake one or the real one that is named; a queue there that goes with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from clusters import Document, Refused, Site, config_of
from fakes.kube.kubelet import Play, ScriptedKubelet
from fakes.kubernetes_api import FakeCluster
from queues import KUEUE, Queue

from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime


def _script(pod: Document, container: str) -> Play:
    words = str(pod["spec"]["containers"][0].get("args"))
    return Play(code=None, log=b"on\n") if container == "main" and "while" in words else Play(log=b"done\n", after_s=0.2)


@pytest.fixture
def scripted_site() -> Iterator[Site]:
    """Return a fake cluster with Kueue, whose pods run nothing."""
    with FakeCluster(ScriptedKubelet(_script), kueue=True) as fake:
        yield Site(config_of({"server": fake.url}, {}), fake.namespace, "image:1", "image:1")


@pytest.fixture(params=["scripted_site", pytest.param("named_site", marks=pytest.mark.kubernetes)])
def site(request: pytest.FixtureRequest) -> Site:
    """Return a cluster with Kueue; one that has none is left out."""
    found: Site = request.getfixturevalue(request.param)
    try:
        found.ask("GET", found.at(KUEUE, "workloads"))
    except Refused:
        pytest.skip(f"the cluster serves no workloads of {KUEUE}: it has no Kueue, or an old one")
    return found


@pytest.fixture
def queue(site: Site) -> Iterator[Queue]:
    """Return a queue that goes with the test."""
    with ExitStack() as stack:

        def made(plural: str, kind: str, document: dict[str, Any], *, cluster_wide: bool = True) -> str:
            return str(stack.enter_context(site.made(KUEUE, plural, kind, document, cluster_wide=cluster_wide))["metadata"]["name"])

        flavor = made("resourceflavors", "ResourceFlavor", {"spec": {}})
        quotas = {"cpu": "500m", "memory": "4Gi", "ephemeral-storage": "64Gi"}
        resources = [{"name": name, "nominalQuota": amount} for name, amount in quotas.items()]
        group = {"coveredResources": list(quotas), "flavors": [{"name": flavor, "resources": resources}]}
        spec = {"namespaceSelector": {}, "preemption": {"withinClusterQueue": "LowerPriority"}, "resourceGroups": [group]}
        cluster = made("clusterqueues", "ClusterQueue", {"spec": spec})
        name = made("localqueues", "LocalQueue", {"spec": {"clusterQueue": cluster}}, cluster_wide=False)
        low, high = (made("workloadpriorityclasses", "WorkloadPriorityClass", {"value": value}) for value in (1, 1000))
        yield Queue(name, cluster, low, high)


@pytest.fixture
def queued(runtimes: Callable[..., KubernetesRuntime], queue: Queue) -> KubernetesRuntime:
    """Return a runtime whose jobs Kueue admits."""
    return runtimes(**queue.place())
