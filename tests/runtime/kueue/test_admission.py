"""Jobs that wait for Kueue: why, in its words; and no quota is held by what will never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cluster_runtime import small
from clusters import MERGE, REAL, ROLE, Site
from contracts.runtime import ended, submitted, wait_until
from queues import KUEUE, SHORT, Queue, is_free, job_at, large, pods_of, waiting

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime.kubernetes.facts import bound_of
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import Exit, ExitReason

pytestmark = pytest.mark.timeout(180)

Runtimes = Callable[..., KubernetesRuntime]

# --- admission -----------------------------------------------------------------------


def test_its_one_pod_is_known(site: Site, queued: KubernetesRuntime):
    """The Job says which pod it is that runs, and Kueue hears that it has ended."""
    submitted(queued, large("a.1", SHORT), 60)
    assert ended(queued, "a.1", 60).succeeded
    (pod,) = pods_of(site, "a.1")
    bound = bound_of(job_at(site, queued, "a.1"))
    assert bound is not None
    assert bound.uid == pod["metadata"]["uid"]
    wait_until(lambda: is_free(site, queued, "a.1"), 30)


def test_a_secret_comes_before_its_pod(site: Site, queued: KubernetesRuntime, runtimes: Runtimes, queue: Queue):
    """Kueue admits before anybody is done: whoever goes on where another died still makes what is missing."""
    launch = large("a.1", SHORT, secrets={"TOKEN": "sesame"})
    document = queued._body(launch)
    site.ask("POST", site.at("batch/v1", "jobs"), document)
    wait_until(lambda: pods_of(site, "a.1"), 30)
    submitted(runtimes(**queue.place()), launch, 60)
    assert ended(queued, "a.1", 60).succeeded


def test_waits_for_its_turn(site: Site, queued: KubernetesRuntime):
    """Kueue's own words say for what; nothing counts as running meanwhile."""
    submitted(queued, large("a.1"), 60)
    said = waiting(queued, large("b.1"), "insufficient unused quota")
    assert said.startswith("waits in queue")
    assert queued.jobs() == {"a.1": True, "b.1": False}
    assert not pods_of(site, "b.1")
    queued.cancel("a.1", ExitReason.STOPPED)
    assert ended(queued, "a.1", 60).reason is ExitReason.STOPPED
    submitted(queued, large("b.1"), 60)
    queued.cancel("b.1", ExitReason.STOPPED)
    ended(queued, "b.1", 60)


def test_stopped_while_it_waits(site: Site, queued: KubernetesRuntime):
    """It never runs, and does not take the quota that would have been its own: the next one does."""
    submitted(queued, large("a.1"), 60)
    waiting(queued, large("b.1"), "insufficient unused quota")
    queued.cancel("b.1", ExitReason.STOPPED)
    assert ended(queued, "b.1", 30) == Exit(reason=ExitReason.STOPPED, message="stopped before it started")
    queued.cancel("a.1", ExitReason.STOPPED)
    ended(queued, "a.1", 60)
    submitted(queued, large("c.1", SHORT), 60)
    assert ended(queued, "c.1", 60).succeeded
    wait_until(lambda: is_free(site, queued, "b.1"), 30)
    assert not pods_of(site, "b.1")


def test_stopped_before_it_has_a_node(site: Site, runtimes: Runtimes, queue: Queue):
    """What was let go and fits nowhere ends at once, and its quota is free."""
    lost = runtimes(**queue.place(node_selector={"dla/nowhere": "true"}))
    waiting(lost, large("a.1"), "no node has room for it")
    lost.cancel("a.1", ExitReason.STOPPED)
    assert ended(lost, "a.1", 30).reason is ExitReason.STOPPED
    wait_until(lambda: is_free(site, lost, "a.1"), 30)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"queue": "dla-absent"}, "LocalQueue dla-absent doesn't exist; correct the queue of place 'cluster'"),
        ({"workload_priorities": {"dla-absent": 0}}, 'WorkloadPriorityClass "dla-absent" not found; correct the place'),
    ],
)
def test_says_what_is_missing(runtimes: Runtimes, queue: Queue, place: dict[str, Any], words: str):
    """It can be made, so the job waits for it."""
    runtime = runtimes(**queue.place(**place))
    assert words in waiting(runtime, large("a.1", SHORT), words)
    runtime.cancel("a.1", ExitReason.STOPPED)
    ended(runtime, "a.1", 30)


@pytest.mark.parametrize("held", ["localqueues", "clusterqueues"])
def test_a_queue_that_is_held(site: Site, queue: Queue, queued: KubernetesRuntime, held: str):
    """The job waits until somebody lets it go on."""
    name = queue.name if held == "localqueues" else queue.cluster
    path = site.at(KUEUE, held, name, cluster_wide=held == "clusterqueues")
    site.ask("PATCH", path, {"spec": {"stopPolicy": "Hold"}}, content=MERGE)
    said = waiting(queued, large("a.1", SHORT), "is inactive")
    assert "it starts nothing until whoever runs the cluster lets it" in said
    site.ask("PATCH", path, {"spec": {"stopPolicy": "None"}}, content=MERGE)
    submitted(queued, large("a.1", SHORT), 60)
    assert ended(queued, "a.1", 60).succeeded


def test_too_large_for_its_queue(queued: KubernetesRuntime):
    """No waiting helps."""
    with pytest.raises(LaunchRefused, match=r"can never hold it: .* > maximum capacity \(500m\); ask for less"):
        submitted(queued, small(SHORT, "a.1", cpu=0.7), 30)
    assert ended(queued, "a.1", 30).reason is ExitReason.REFUSED


@pytest.mark.parametrize("site", REAL, indirect=True)
def test_the_least_rights(site: Site, queue: Queue, runtimes: Runtimes):
    """What the manifests give is enough: for a job that waits, one that makes way, and one that ends."""
    group = KUEUE.partition("/")[0]
    more = {"/pods": (*ROLE["/pods"], "patch"), f"{group}/workloads": ("list", "watch"), f"{group}/localqueues": ("get",)}
    with site.limited({**ROLE, **more}) as who:
        limited = runtimes(who, **queue.place())
        submitted(limited, large("a.1"), 60)
        submitted(limited, large("b.1", SHORT, priority=100, secrets={"TOKEN": "x"}), 60)
        assert ended(limited, "a.1", 60).reason is ExitReason.PREEMPTED
        assert ended(limited, "b.1", 60).succeeded


@pytest.mark.parametrize("site", REAL, indirect=True)
def test_who_may_not_see_workloads(site: Site, queue: Queue, runtimes: Runtimes):
    """Its jobs run all the same; of one that waits only that is told."""
    with site.limited({**ROLE, "/pods": (*ROLE["/pods"], "patch")}) as who:
        limited = runtimes(who, **queue.place())
        submitted(limited, large("a.1"), 60)
        waiting(limited, large("b.1"), "why is not shown to this user")
        for attempt in ("b.1", "a.1"):
            limited.cancel(attempt, ExitReason.STOPPED)
            assert ended(limited, attempt, 60).reason is ExitReason.STOPPED
