"""What pods use, as a metrics API tells it."""

from __future__ import annotations

import pytest
from fakes.kube.metrics import GROUP
from fakes.kubernetes_api import FakeCluster, Play, ScriptedKubelet
from kubernetes_jobs import job_of, pod_of, until

from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.facts import Pod
from airflow_dla.runtime.kubernetes.usage import Usage

OURS = "airflow-dla/workspace=w"


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the clock of what measures."""
    return Clock()


@pytest.fixture
def usage(fake: FakeCluster, cluster: Cluster, clock: Clock) -> Usage:
    """Return what asks the fake cluster, which measures pods."""
    fake.groups.add(GROUP)
    return Usage(cluster, OURS, clock=clock)


def running(cluster: Cluster, kubelet: ScriptedKubelet, count: int) -> list[Pod]:
    """Return pods of the workspace that run."""
    kubelet.script = lambda pod, container: Play(code=None)
    labels = {"airflow-dla/workspace": "w"}
    for number in range(count):
        document = job_of(f"j{number}")
        document["spec"]["template"]["metadata"] = {"labels": labels}
        cluster.create("jobs", document)
    names = [pod_of(cluster, f"j{number}", "Running") for number in range(count)]
    return [read(cluster, name) for name in names]


def read(cluster: Cluster, name: str) -> Pod:
    """Return a pod as it is."""
    document = cluster.get("pods", name)
    assert document is not None
    return Pod.from_document(document)


def ended(pod: Pod, ran_s: int) -> Pod:
    """Return a pod whose program has run so long."""
    status = {
        "name": "main",
        "state": {"terminated": {"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": f"2026-01-01T00:{ran_s // 60:02}:00Z"}},
    }
    return Pod.from_document({"metadata": {"name": pod.name}, "status": {"phase": "Succeeded", "containerStatuses": [status]}})


def say(fake: FakeCluster, pod: Pod, second: int, cpu: str, memory: str) -> None:
    """Have the cluster measure a pod; its sidecar, too."""
    used = {"main": {"cpu": cpu, "memory": memory}, "mate": {"cpu": "9", "memory": "9Gi"}}
    fake.measured[pod.name] = (f"2026-01-01T00:00:{second:02}Z", used)


def asked(fake: FakeCluster) -> list[str]:
    """Return the paths of the metrics API that were asked for."""
    return [path for _, path, _ in fake.asked if f"/apis/{GROUP}/v1beta1/" in path]


def test_the_most_and_the_mean(fake: FakeCluster, cluster: Cluster, kubelet: ScriptedKubelet, usage: Usage, clock: Clock):
    """Memory is the most that was read, CPU seconds are the mean times how long it ran; a reading counts once."""
    (pod,) = running(cluster, kubelet, 1)
    for second, cpu, memory in ((1, "500m", "1Gi"), (1, "500m", "1Gi"), (16, "1500m", "2Gi"), (31, "1", "512Mi")):
        say(fake, pod, second, cpu, memory)
        usage.look(pod)
        clock.now += 20
    assert usage.peaks(ended(pod, 120)) == {"memory": 2.0, "cpu_s": 120.0}
    assert usage.peaks(ended(pod, 120)) == {}, "it is told once"


def test_it_is_asked_seldom(fake: FakeCluster, cluster: Cluster, kubelet: ScriptedKubelet, usage: Usage, clock: Clock):
    """Many pods are asked for at once, few by their names, and none more often than the cluster measures."""
    pods = running(cluster, kubelet, 6)
    for pod in pods:
        say(fake, pod, 1, "1", "1Gi")
        usage.look(pod)
    clock.now += 20
    usage.look(pods[0])
    for _ in range(10):
        usage.look(pods[1])
    paths = asked(fake)
    assert [path.rpartition("/")[2] for path in paths] == [pods[0].name, "pods"], "one that was wanted, then six"
    assert all(usage.peaks(ended(pod, 60)) == {"memory": 1.0, "cpu_s": 60.0} for pod in pods)


def test_a_pod_that_was_not_measured(cluster: Cluster, kubelet: ScriptedKubelet, usage: Usage):
    """Of a pod that is too young nothing is known."""
    (pod,) = running(cluster, kubelet, 1)
    usage.look(pod)
    assert usage.peaks(ended(pod, 60)) == {}


def test_a_cluster_that_does_not_measure(fake: FakeCluster, cluster: Cluster, kubelet: ScriptedKubelet, usage: Usage, clock: Clock):
    """It is asked again after a long while, in case somebody makes it measure."""
    fake.groups.discard(GROUP)
    (pod,) = running(cluster, kubelet, 1)
    for _ in range(20):
        usage.look(pod)
        clock.now += 20
    assert asked(fake) == []
    fake.groups.add(GROUP)
    say(fake, pod, 1, "1", "1Gi")
    clock.now += 600
    usage.look(pod)
    assert usage.peaks(ended(pod, 60)) == {"memory": 1.0, "cpu_s": 60.0}


def test_who_may_not_ask(fake: FakeCluster, cluster: Cluster, kubelet: ScriptedKubelet, usage: Usage, clock: Clock):
    """Without the right to it jobs run without being measured, and it is not asked for all the time."""
    (pod,) = running(cluster, kubelet, 1)
    until(lambda: read(cluster, pod.name).main.state == "running")
    fake.rules.deny("get", "pods")
    for _ in range(20):
        usage.look(pod)
        clock.now += 20
    assert len(asked(fake)) == 1
    assert usage.peaks(ended(pod, 60)) == {}
