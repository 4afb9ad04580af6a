"""Words to decide about without a cluster; a fake cluster to ask, and where one is named, a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import launches
import pytest
from fakes.kubernetes_api import FakeCluster, ScriptedKubelet
from fixtures_kubernetes import ClusterAccess
from kubernetes_jobs import connected

from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.specs import JobFile, PlaceSpec


@pytest.fixture(scope="session")
def place() -> Callable[..., PlaceSpec]:
    """Return a function that makes a place of a policy and other fields."""

    def make(policy: dict[str, Any] | None = None, **fields: Any) -> PlaceSpec:
        return PlaceSpec.from_mapping({"name": "k8s", "kind": "kubernetes", "connection": "k8s", "policy": policy or {}, **fields})

    return make


@pytest.fixture(scope="session")
def job() -> Callable[..., JobFile]:
    """Return a function that makes a job on a node of a cluster."""
    return partial(launches.job, node="k8s.gpu-7")


@pytest.fixture(scope="session")
def launch(job: Callable[..., JobFile]) -> Callable[..., Launch]:
    """Return a function that makes a launch, of a default job unless it is given one."""
    return lambda **fields: launches.launch(fields.pop("job", None) or job(), **fields)


@pytest.fixture
def kubelet() -> ScriptedKubelet:
    """Return what runs the fake cluster's pods: each ends at once with 0, unless the test has it otherwise."""
    return ScriptedKubelet()


@pytest.fixture
def fake(kubelet: ScriptedKubelet) -> Iterator[FakeCluster]:
    """Return a fake cluster that listens."""
    pytest.importorskip("kubernetes")
    with FakeCluster(kubelet) as started:
        yield started


@pytest.fixture
def cluster(fake: FakeCluster) -> Cluster:
    """Return its namespace."""
    return Cluster(fake.connect, name="k8s", namespace=fake.namespace, quick_s=2.0, slow_s=5.0)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kubernetes)])
def anywhere(request: pytest.FixtureRequest) -> Cluster:
    """Return a namespace of the fake cluster, and of the real one where one is named: both must do the same."""
    if request.param == "fake":
        found: Cluster = request.getfixturevalue("cluster")
        return found
    access: ClusterAccess = request.getfixturevalue("named_cluster")
    return Cluster(partial(connected, access), name="k8s", namespace=access.namespace)
