"""Grants of jobs in pods; members of one job."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster_runtime import small
from clusters import REAL, Site
from contracts.grants import LAST, GrantsContract, MembersContract, follow, steps
from fixtures_workspace import NODE

from airflow_dla.artifacts import Store
from airflow_dla.control import Timing, Workspace
from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import ExitReason, Node

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def runtime(pods: KubernetesRuntime) -> KubernetesRuntime:
    """Return the cluster's runtime."""
    return pods


@pytest.fixture
def place(workspace: Workspace, runtime: KubernetesRuntime, store: Store) -> Workspace:
    """Return a workspace whose one place is the cluster."""
    workspace.ledger.register_node(Node(name="cluster", capacity={"cpu": 0.2, "memory": 4.0}), host="here")
    workspace.ledger.remove_node(NODE)
    timing = Timing(poll_s=0.1, eager_s=0.05, renew_s=1.0, reap_s=60.0)
    return replace(workspace, runtimes={"cluster": runtime}, store=store, timing=timing)


@pytest.fixture
def stray() -> Launch:
    """Return a job that no attempt owns."""
    return small(LAST, "stray.1", grace_s=0.5)


class TestGrants(GrantsContract):
    """As on every place that runs images; a cluster tells times in whole seconds."""

    no_image = "UPPER/Case:1"
    early_s, late_s = 0.5, 8.0

    @pytest.mark.parametrize("site", REAL, indirect=True)
    def test_orphan(self, place: Workspace, runtime: KubernetesRuntime, stray: Launch):
        """Also there."""
        super().test_orphan(place, runtime, stray)


class TestMembers(MembersContract):
    """As on every place that runs images."""


@pytest.mark.parametrize("how", ["delete_pod", "evict"])
def test_taken_by_others(place: Workspace, site: Site, how: str):
    """A pod that somebody deleted, or a drain evicted, costs an attempt, not an Airflow retry."""
    lines: list[str] = []
    one = follow(place, *LAST, lines=lines, grace=1)
    steps(one, lambda: "on" in lines)
    getattr(site, how)(site.pod(one.attempt.id)["metadata"]["name"])
    steps(one, lambda: one.attempt.number == 2 and place.runtimes["cluster"].status(one.attempt.id).alive)
    one.stop(ExitReason.STOPPED)
    steps(one, lambda: one.over)
    assert place.ledger.leases() == ()
