"""Words to decide about without a cluster; a fake cluster to ask, and where one is named, a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fakes.kubernetes_api import FakeCluster, ScriptedKubelet
from fixtures_kubernetes import ClusterAccess
from kubernetes_jobs import connected

from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.specs import Grant, JobFile, PlaceSpec
from airflow_dla.specs.agents import Entrypoint


@pytest.fixture(scope="session")
def place() -> Callable[..., PlaceSpec]:
    """Return a function that makes a place of a policy and other fields."""

    def make(policy: dict[str, Any] | None = None, **fields: Any) -> PlaceSpec:
        return PlaceSpec.from_mapping({"name": "k8s", "kind": "kubernetes", "connection": "k8s", "policy": policy or {}, **fields})

    return make


@pytest.fixture(scope="session")
def job() -> Callable[..., JobFile]:
    """Return a function that makes a job of an entrypoint, amounts and other fields."""

    def make(entrypoint: Any = ("python", "train.py"), amounts: dict[str, float] | None = None, **fields: Any) -> JobFile:
        granted = {"cpu": 1.5, "memory": 0.5} if amounts is None else amounts
        given: dict[str, Any] = {
            "attempt": "0d9f.2", "store": "file:///nowhere", "checkpoint": "0d9f", "nonce": "n0nce", "grace_s": 4.5,
            "grant": Grant(id="0d9f.2", node="k8s.gpu-7", amounts=granted), **fields,
        }  # fmt: skip
        return JobFile(entrypoint=Entrypoint.parse(entrypoint, "entrypoint"), **given)

    return make


@pytest.fixture(scope="session")
def launch(job: Callable[..., JobFile]) -> Callable[..., Launch]:
    """Return a function that makes a launch, of a default job unless it is given one."""

    def make(**fields: Any) -> Launch:
        return Launch(**{"job": job(), "image": "python:3.12", "labels": {"dag": "digits", "task": "train"}, **fields})

    return make


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
