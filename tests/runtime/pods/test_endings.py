"""How pods end: by themselves, by us, by the kernel, by their cluster, by somebody's hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from cluster_runtime import small
from clusters import Site
from contracts.runtime import ended, submitted, wait_until

from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import Exit, ExitReason

pytestmark = pytest.mark.timeout(180)

Run = Callable[..., Exit]

_LARGE = "x = bytearray(600 << 20)"
_GOES_ON = "echo on; while :; do sleep 0.1; done"
_DEAF = f"trap '' TERM; {_GOES_ON}"


def started(pods: KubernetesRuntime, script: str, attempt: str = "job.1", **fields: object) -> Launch:
    """Start a shell script and wait for its first word."""
    launch = small(["sh", "-c", script], attempt, **fields)
    submitted(pods, launch, 60)
    wait_until(lambda: pods.logs(attempt, 0).data)
    return launch


# --- by itself -----------------------------------------------------------------------


@pytest.mark.parametrize(("script", "code", "said"), [
    ("exit 0", 0, ""),
    ("exit 3", 3, "exited with status 3"),
    ("echo 'ValueError: the data is empty' >&2; exit 1", 1, "the data is empty"),
])  # fmt: skip
def test_exit_codes(run: Run, script: str, code: int, said: str):
    """A program's status and its last words are the attempt's."""
    found = run(["sh", "-c", script])
    assert (found.reason, found.code or 0) == (ExitReason.USER_ERROR if code else ExitReason.SUCCEEDED, code)
    assert said in found.message


@pytest.mark.parametrize(("command", "said"), [
    (["nosuch"], "nosuch"),
    (["/etc/passwd"], "/etc/passwd"),
])  # fmt: skip
def test_what_cannot_start(run: Run, command: list[str], said: str):
    """A command that is not there, or is none, is named."""
    found = run(command)
    assert found.reason in {ExitReason.USER_ERROR, ExitReason.REFUSED}
    assert said in found.message


def test_children_that_went_away(run: Run):
    """Processes that left their parent end with the pod."""
    began = time.monotonic()
    assert run(["sh", "-c", "(trap '' TERM HUP; sleep 317) & (sleep 317 &) ; exit 0"]).succeeded
    assert time.monotonic() - began < 30


# --- by the kernel -------------------------------------------------------------------


@pytest.mark.parametrize("metrics", [{}, {"auc": r"auc=(\S+)"}])
def test_out_of_memory(run: Run, metrics: dict[str, str]):
    """The kernel's kill is told with the limit."""
    found = run(["python3", "-c", _LARGE], metrics=metrics)
    assert found.reason is ExitReason.OUT_OF_MEMORY, found
    assert "under a limit of 0.25 GiB; ask for more memory" in found.message


def test_out_of_memory_of_a_child(run: Run):
    """A kill inside counts only if the job fails of it."""
    child = f"python3 -c '{_LARGE}'; echo child $?; exit"
    assert run(["sh", "-c", f"{child} 0"]).reason is ExitReason.SUCCEEDED
    assert run(["sh", "-c", f"{child} 5"], "job.2").reason in {ExitReason.OUT_OF_MEMORY, ExitReason.USER_ERROR}


# --- by us ---------------------------------------------------------------------------


def test_deaf_to_sigterm(pods: KubernetesRuntime):
    """A job that ignores the stop signal is killed when its grace is over, and the message says so."""
    started(pods, _DEAF, grace_s=2.0)
    began = time.monotonic()
    pods.cancel("job.1", ExitReason.PREEMPTED)
    found = ended(pods, "job.1", 30)
    assert 1.5 <= time.monotonic() - began < 2.0 + 5.0
    assert (found.reason, found.signal) == (ExitReason.PREEMPTED, 9)
    assert "did not end within 2 s and was killed" in found.message


def test_deaf_beside_ours(pods: KubernetesRuntime):
    """A pod with our containers in it lives as long to publish what is there, the job no longer than its grace."""
    started(pods, _DEAF, grace_s=2.0, outputs=("model",))
    began = time.monotonic()
    pods.cancel("job.1", ExitReason.PREEMPTED)
    assert ended(pods, "job.1", 30).reason is ExitReason.PREEMPTED
    assert 1.5 <= time.monotonic() - began < 2.0 + 5.0


def test_ends_when_asked(pods: KubernetesRuntime):
    """A plain program gets the signal, though it would be the first process of its pod."""
    started(pods, "echo on; exec sleep 60", grace_s=20.0)
    began = time.monotonic()
    pods.cancel("job.1", ExitReason.STOPPED)
    assert ended(pods, "job.1", 30).reason is ExitReason.STOPPED
    assert time.monotonic() - began < 10


def test_run_timeout(pods: KubernetesRuntime):
    """Its time over, a job is asked to end, and the message names the limit."""
    started(pods, f"trap 'exit 0' TERM; {_GOES_ON}", run_timeout_s=1.0, grace_s=5.0)
    found = ended(pods, "job.1", 30)
    assert found.reason is ExitReason.TIMED_OUT
    assert "ran longer than its run_timeout of 1 s" in found.message


# --- by the cluster, by hand ---------------------------------------------------------


def test_evicted(site: Site, pods: KubernetesRuntime):
    """A pod that a drain evicted is lost, which costs an attempt and no Airflow retry; no other pod comes for it."""
    launch = started(pods, _GOES_ON, grace_s=1.0)
    site.evict(site.pod("job.1")["metadata"]["name"])
    found = ended(pods, "job.1", 60)
    assert found.reason is ExitReason.LOST
    assert "evicted" in found.message
    submitted(pods, launch)
    assert ended(pods, "job.1") == found
    assert not pods.jobs()["job.1"]


def test_pod_deleted_by_hand(site: Site, pods: KubernetesRuntime):
    """A pod that somebody deleted is lost, and stays so."""
    launch = started(pods, _GOES_ON, grace_s=1.0)
    site.delete_pod(site.pod("job.1")["metadata"]["name"])
    found = ended(pods, "job.1", 60)
    assert found.reason is ExitReason.LOST
    assert "deleted" in found.message
    submitted(pods, launch)
    assert ended(pods, "job.1") == found


def test_pod_deleted_by_force(site: Site, pods: KubernetesRuntime):
    """A pod that is gone from one moment to the next, its end untold, is lost as soon as that is known."""
    started(pods, _GOES_ON, grace_s=1.0)
    site.ask("DELETE", f"{site.at('v1', 'pods', site.pod('job.1')['metadata']['name'])}?gracePeriodSeconds=0")
    found = ended(pods, "job.1", 30)
    assert found.reason is ExitReason.LOST
    assert "deleted" in found.message


def test_deaf_when_others_delete_it(site: Site, pods: KubernetesRuntime):
    """Whoever deletes a pod or drains its node waits no longer for a program than its grace, though ours may have a day to publish."""
    started(pods, _DEAF, grace_s=2.0, outputs=("model",))
    began = time.monotonic()
    site.ask("DELETE", site.at("v1", "pods", site.pod("job.1")["metadata"]["name"]))
    assert ended(pods, "job.1", 30).reason is ExitReason.LOST
    assert 1.5 <= time.monotonic() - began < 2.0 + 8.0


def test_deaf_when_others_delete_its_job(site: Site, pods: KubernetesRuntime):
    """The same where the Job goes: the attempt is alive until its pod has gone, which is soon."""
    started(pods, _DEAF, grace_s=2.0, outputs=("model",))
    job, pod = site.at("batch/v1", "jobs", pods._shelf.name("job.1")), site.pod("job.1")["metadata"]["name"]
    site.ask("DELETE", f"{job}?propagationPolicy=Background")
    wait_until(lambda: not pods.status("job.1").alive, 30)
    wait_until(lambda: pod not in [found["metadata"]["name"] for found in site.pods() if found["status"]["phase"] == "Running"], 5)


def test_job_deleted_by_hand(site: Site, pods: KubernetesRuntime):
    """An attempt whose Job somebody deleted is not alive once its pod is gone."""
    started(pods, _GOES_ON, grace_s=1.0)
    job = site.at("batch/v1", "jobs", pods.plan(small(["true"]))["job"]["metadata"]["name"])
    site.ask("DELETE", f"{job}?propagationPolicy=Background")
    wait_until(lambda: not pods.status("job.1").alive, 60)
    wait_until(lambda: not [pod for pod in site.pods() if pod["status"]["phase"] == "Running" and "job-1" in pod["metadata"]["name"]], 60)


def test_all_deleted_by_force(site: Site, pods: KubernetesRuntime):
    """An attempt of which nothing is left is not alive, though nobody said that its program ended."""
    started(pods, _GOES_ON, grace_s=1.0)
    pod = site.at("v1", "pods", site.pod("job.1")["metadata"]["name"])
    site.ask("DELETE", f"{site.at('batch/v1', 'jobs', pods._shelf.name('job.1'))}?propagationPolicy=Background")
    site.ask("DELETE", f"{pod}?gracePeriodSeconds=0")
    wait_until(lambda: not pods.status("job.1").alive, 30)


def test_ended_before_it_was_deleted(site: Site, pods: KubernetesRuntime):
    """Who deletes the pod of a job that has ended does not change how it ended, whether or not anybody had looked."""
    launch = small(["true"])
    submitted(pods, launch, 60)
    wait_until(lambda: site.pod("job.1")["status"]["phase"] == "Succeeded", 30)
    site.delete_pod(site.pod("job.1")["metadata"]["name"])
    assert ended(pods, "job.1", 30).succeeded
    assert ended(pods, "job.1", 30).succeeded


def test_killed_from_inside(run: Run):
    """A program that a signal ended says which."""
    found = run(["sh", "-c", "kill -9 $$"])
    assert found.signal == 9 or found.code == 137
    assert not found.succeeded
