"""Jobs that Kueue takes back and starts again: one pod runs for an attempt, whoever follows it, or nobody."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from clusters import MERGE, Document, Site
from contracts.runtime import ended, submitted, wait_until
from queues import KUEUE, SHORT, Queue, is_free, large, made_of, pods_of, waiting

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime.kubernetes import names
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import ExitReason

pytestmark = pytest.mark.timeout(180)

Runtimes = Callable[..., KubernetesRuntime]

# --- taken back ----------------------------------------------------------------------


def test_makes_way(site: Site, queued: KubernetesRuntime):
    """One of a higher priority takes its place: it is preempted, however well its program took that, and says before what."""
    submitted(queued, large("a.1"), 60)
    wait_until(lambda: queued.logs("a.1", 0).data)
    submitted(queued, large("b.1", SHORT, priority=100), 60)
    found = ended(queued, "a.1", 60)
    assert found.reason is ExitReason.PREEMPTED
    assert found.message.startswith("Kueue took it back")
    assert "Preempted to accommodate a workload due to prioritization in the ClusterQueue" in found.message
    assert ended(queued, "b.1", 60).succeeded
    wait_until(lambda: is_free(site, queued, "a.1"), 30)


def test_started_again_without_a_follower(site: Site, queued: KubernetesRuntime, runtimes: Runtimes, queue: Queue):
    """Kueue has the same Job make another pod before anybody looks: that never gets a node, and the attempt is over."""
    submitted(queued, large("a.1"), 60)
    wait_until(lambda: queued.logs("a.1", 0).data)
    (first,) = pods_of(site, "a.1")
    other = runtimes(**queue.place())
    submitted(other, large("b.1", SHORT, priority=100), 60)
    assert ended(other, "b.1", 60).succeeded

    def again() -> list[Document]:
        return [pod for pod in pods_of(site, "a.1") if pod["metadata"]["uid"] != first["metadata"]["uid"]]

    wait_until(again, 60)
    time.sleep(2.0)
    (second,) = again()
    assert [gate["name"] for gate in second["spec"]["schedulingGates"]] == [names.GATE]
    assert not second["spec"].get("nodeName")
    late = runtimes(**queue.place())
    submitted(late, large("a.1"), 60)
    assert ended(late, "a.1", 60).reason is ExitReason.PREEMPTED
    wait_until(lambda: not again() and is_free(site, late, "a.1"), 30)


def test_taken_back_before_it_was_let_go(site: Site, queued: KubernetesRuntime):
    """Nothing of it ran, so the same attempt goes on waiting, and runs with its second pod."""
    site.ask("POST", site.at("batch/v1", "jobs"), queued._body(large("a.1", SHORT)))
    wait_until(lambda: pods_of(site, "a.1"), 30)
    (first,) = pods_of(site, "a.1")
    submitted(queued, large("b.1", priority=100), 60)
    waiting(queued, large("a.1", SHORT), "made way for another workload")
    queued.cancel("b.1", ExitReason.STOPPED)
    ended(queued, "b.1", 60)
    submitted(queued, large("a.1", SHORT), 60)
    assert ended(queued, "a.1", 60).succeeded
    (second,) = pods_of(site, "a.1")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


def deactivate(site: Site, runtime: KubernetesRuntime, attempt: str) -> None:
    """Do what whoever runs a cluster does to a workload that shall not run."""
    found = wait_until(lambda: made_of(site, runtime, attempt), 30)
    site.ask("PATCH", site.at(KUEUE, "workloads", found["metadata"]["name"]), {"spec": {"active": False}}, content=MERGE)


def test_deactivated_while_it_runs(site: Site, queued: KubernetesRuntime):
    """Somebody wants it not to run: no other attempt is made."""
    submitted(queued, large("a.1"), 60)
    deactivate(site, queued, "a.1")
    found = ended(queued, "a.1", 60)
    assert found.reason is ExitReason.REFUSED
    assert "Kueue has deactivated it: The workload is deactivated; whoever runs the cluster" in found.message


def test_deactivated_while_it_waits(site: Site, queued: KubernetesRuntime):
    """Waiting is no use."""
    submitted(queued, large("a.1"), 60)
    waiting(queued, large("b.1"), "insufficient unused quota")
    deactivate(site, queued, "b.1")
    with pytest.raises(LaunchRefused, match="Kueue has deactivated it"):
        submitted(queued, large("b.1"), 60)
    queued.cancel("a.1", ExitReason.STOPPED)
    assert ended(queued, "a.1", 60).reason is ExitReason.STOPPED


def test_deleted_by_hand(site: Site, queued: KubernetesRuntime):
    """That is nobody's making way: it is lost, and there is no second pod."""
    submitted(queued, large("a.1"), 60)
    wait_until(lambda: queued.logs("a.1", 0).data)
    site.ask("DELETE", f"{site.at('v1', 'pods', pods_of(site, 'a.1')[0]['metadata']['name'])}?gracePeriodSeconds=1")
    assert ended(queued, "a.1", 60).reason in {ExitReason.LOST, ExitReason.SUCCEEDED}
    assert len(pods_of(site, "a.1")) <= 1
