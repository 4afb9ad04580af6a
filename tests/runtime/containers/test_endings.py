"""How containers end: by themselves, by us, by the kernel, by somebody's hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import ended, job_file, submitted, wait_until

from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit, ExitReason

Run = Callable[..., Exit]

_LARGE = "x = bytearray(600 << 20)"


@pytest.fixture
def client(docker: DockerRuntime, docker_engine: Any):
    """Return somebody else's client of the engine."""
    with docker_engine.client() as client:
        yield client


def started(docker: DockerRuntime, image: str, script: str, **fields: Any) -> str:
    """Start a shell script, wait for its first word, and return its container's name."""
    handle = submitted(docker, Launch(job=job_file("job.1", ["sh", "-c", script], **fields), image=image))
    wait_until(lambda: docker.logs("job.1", 0).data)
    return str(handle["container"])


def test_deaf_to_sigterm(docker: DockerRuntime, bare_image: str):
    """A job that ignores the stop signal is killed when its grace is over, and the message says so."""
    started(docker, bare_image, "trap '' TERM; echo on; while :; do sleep 0.1; done", grace_s=1.0)
    began = time.monotonic()
    docker.cancel("job.1", ExitReason.PREEMPTED)
    found = ended(docker, "job.1")
    assert 1.0 <= time.monotonic() - began < 3.0
    assert (found.reason, found.signal) == (ExitReason.PREEMPTED, 9)
    assert "did not end within 1 s and was killed" in found.message


def test_run_timeout(docker: DockerRuntime, bare_image: str):
    """Its time over, a job is asked to end, and the message names the limit."""
    started(docker, bare_image, "trap 'exit 0' TERM; echo on; while :; do sleep 0.1; done", run_timeout_s=1.0, grace_s=3.0)
    found = ended(docker, "job.1")
    assert found.reason is ExitReason.TIMED_OUT
    assert "ran longer than its run_timeout of 1 s and ended by itself" in found.message


def test_run_timeout_while_nobody_looks(docker: DockerRuntime, bare_image: str):
    """A job that nobody followed for its whole time is ended by the first who looks."""
    started(docker, bare_image, "echo on; while :; do sleep 0.1; done", run_timeout_s=0.5, grace_s=0.0)
    time.sleep(1.0)
    assert ended(docker, "job.1", 5).reason is ExitReason.TIMED_OUT


def test_children_that_went_away(run: Run, bare_image: str, docker_engine: Any):
    """Processes that left their parent end with the container."""
    began = time.monotonic()
    found = run(["sh", "-c", "(trap '' TERM HUP; sleep 317) & (sleep 317 &) ; exit 0"], bare_image)
    assert found.succeeded
    assert time.monotonic() - began < 10
    with docker_engine.client() as client:
        running = client.containers(filters={"status": "running", "label": "dla.job=job"})
        assert [one["Id"] for one in running if one["Labels"]["dla.attempt"] == "job.1" and "sleep 317" in one["Command"]] == []


def test_full_tmp(run: Run, bare_image: str):
    """A job that fills its /tmp gets the error itself and says so; the host's disk and memory are not touched."""
    found = run(["dd", "if=/dev/zero", "of=/tmp/x", "bs=1M"], bare_image)
    assert found.reason is ExitReason.USER_ERROR
    assert "exited with status 1: a disk is full; /tmp lies in the job's memory" in found.message


@pytest.mark.parametrize("metrics", [{}, {"auc": r"auc=(\S+)"}])
def test_out_of_memory(run: Run, base_image: str, metrics: dict[str, str]):
    """The kernel's kill is told with the limit, with our runner as first process and without it."""
    found = run(["python3", "-c", _LARGE], base_image, metrics=metrics)
    assert (found.reason, found.oom_kills) == (ExitReason.OUT_OF_MEMORY, 1)
    assert "under a limit of 0.25 GiB; ask for more memory" in found.message


def test_out_of_memory_of_a_child(run: Run, base_image: str):
    """A kill inside counts only if the job fails of it."""
    child = f"python3 -c '{_LARGE}'; echo child $?; exit"
    lived = run(["sh", "-c", f"{child} 0"], base_image)
    assert (lived.reason, lived.oom_kills) == (ExitReason.SUCCEEDED, 1)
    assert run(["sh", "-c", f"{child} 5"], base_image, "job.2").reason is ExitReason.OUT_OF_MEMORY


def test_removed_by_hand(docker: DockerRuntime, bare_image: str, client: Any):
    """A container that somebody removed is lost at once, not alive for ever."""
    client.remove_container(started(docker, bare_image, "echo on; sleep 60"), force=True)
    found = ended(docker, "job.1")
    assert found.reason is ExitReason.LOST
    assert "somebody removed it" in found.message
    assert submitted(docker, Launch(job=job_file("job.1", ["true"]), image=bare_image))
    assert ended(docker, "job.1") == found


@pytest.mark.parametrize(("hand", "signal"), [("stop", 15), ("kill", 9)])
def test_stopped_by_hand(docker: DockerRuntime, bare_image: str, client: Any, hand: str, signal: int):
    """``docker stop`` and ``docker kill`` are somebody's doing, not the job's."""
    name = started(docker, bare_image, "echo on; exec sleep 60")
    client.stop(name, timeout=1) if hand == "stop" else client.kill(name)
    found = ended(docker, "job.1")
    assert (found.reason, found.signal) == (ExitReason.KILLED, signal)
    assert "somebody stopped its container, or its engine" in found.message


def test_paused(docker: DockerRuntime, bare_image: str, client: Any):
    """A paused container is alive, and can be ended nevertheless."""
    name = started(docker, bare_image, "trap '' TERM; echo on; while :; do sleep 0.1; done", grace_s=0.5)
    client.pause(name)
    assert docker.status("job.1").alive
    docker.cancel("job.1", ExitReason.STOPPED)
    assert ended(docker, "job.1").reason is ExitReason.STOPPED


def test_set_clock(docker: DockerRuntime, bare_image: str, client: Any, jobs_folder: Path):
    """Grace and time are counted since the host's boot, which nobody sets: neither file knows the time of day."""
    name = started(docker, bare_image, "trap '' TERM; echo on; while :; do sleep 0.1; done", run_timeout_s=3600.0, grace_s=30.0)
    docker.cancel("job.1", ExitReason.STOPPED)
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    for told in ("stop.json", "container.json"):
        assert 0 <= since_boot - json.loads((jobs_folder / "job.1" / told).read_text())["at"] < 10
    client.kill(name)
    assert ended(docker, "job.1").reason is ExitReason.STOPPED
