"""Grants of jobs in real containers: held while anything runs, free when it is gone, whoever looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from contracts.runtime import job_file, submitted, wait_until
from fixtures_workspace import NODE, job_spec

from airflow_dla.control import Follow, Listener, Workspace, launch, reap, run_round
from airflow_dla.errors import NotReady
from airflow_dla.ledger import Attempt
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import ExitReason, Node

_LAST = ("sh", "-c", "echo on; while :; do sleep 0.1; done")


@pytest.fixture
def place(workspace: Workspace, docker: DockerRuntime, bare_image: str) -> Workspace:
    """Return a workspace whose one node is the engine."""
    docker.place = replace(docker.place, image=bare_image)
    docker.node = NODE
    workspace.ledger.register_node(Node(name=NODE, capacity={"cpu": 2.0, "memory": 4.0}), host="here")
    return replace(workspace, runtimes={NODE: docker})


def follow(place: Workspace, *command: str, lines: list[str] | None = None, **policy: Any) -> Follow:
    """Begin to follow a job of small grant."""
    spec = job_spec(entrypoint=list(command), request={"cpu": 1, "memory": "1GiB"}, policy=policy)
    return Follow(place, place.ledger.open_attempt(spec), Listener(log=(lines if lines is not None else []).append))


def steps(one: Follow, until: Callable[[], Any], timeout_s: float = 30.0) -> None:
    """Follow until something is true."""
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline, one.attempt
        run_round(one.workspace)
        one.step(one.workspace.ledger.attempts([one.attempt.id])[one.attempt.id], one.workspace.ledger.now())
        time.sleep(0.02)


def test_to_its_end(place: Workspace):
    """The log is passed on, the end recorded, the grant freed."""
    lines: list[str] = []
    one = follow(place, "sh", "-c", "echo one; echo two >&2", lines=lines)
    steps(one, lambda: one.over)
    assert one.attempt.exit is not None
    assert one.attempt.exit.succeeded
    assert {"one", "two"} <= set(lines)
    assert any("docker: 1 cpu, 1 GiB memory" in line for line in lines)
    assert place.ledger.leases() == ()


def test_refused(place: Workspace, docker: DockerRuntime):
    """An image that is nowhere ends the job without another attempt, and its grant is free."""
    docker.place = replace(docker.place, image="127.0.0.1:1/none:1")
    one = follow(place, "true")
    steps(one, lambda: one.over)
    assert one.attempt.exit is not None
    assert (one.attempt.exit.reason, one.attempt.number) == (ExitReason.REFUSED, 1)
    assert place.ledger.leases() == ()


def test_held_until_the_container_is_gone(place: Workspace, docker: DockerRuntime):
    """A deaf job that is preempted holds its grant for its grace, then goes on as another attempt of the same try."""
    lines: list[str] = []
    one = follow(place, "sh", "-c", f"trap '' TERM; {_LAST[-1]}", lines=lines, grace=1, preemptible=True)
    steps(one, lambda: "on" in lines)
    first, began = one.attempt.id, time.monotonic()
    place.ledger.want_stop(first, ExitReason.PREEMPTED)

    def gone() -> bool:
        held = first in {lease.grant.id for lease in place.ledger.leases()}
        if held or not docker.status(first).alive:
            return not held
        raise AssertionError("its grant was freed while its container ran")

    steps(one, gone)
    assert 1.0 <= time.monotonic() - began <= 1.0 + 5.0
    one.stop(ExitReason.STOPPED)
    steps(one, lambda: one.over)
    assert one.attempt.number == 2
    assert place.ledger.leases() == ()


def test_removed_by_hand(place: Workspace, docker: DockerRuntime):
    """A container that somebody removed costs an attempt, not an Airflow retry."""
    lines: list[str] = []
    one = follow(place, *_LAST, lines=lines)
    steps(one, lambda: "on" in lines)
    docker.engine.remove(docker.engine.listing(docker._workspace)[one.attempt.id].id, force=True)
    steps(one, lambda: one.attempt.number == 2 and docker.status(one.attempt.id).alive)
    one.stop(ExitReason.STOPPED)
    steps(one, lambda: one.over)
    assert any("somebody removed it" in line for line in lines)


def test_orphan(place: Workspace, docker: DockerRuntime):
    """What runs and no attempt owns is stopped by the reaper, and collected when its time has come; its log is kept."""
    submitted(docker, Launch(job=job_file("stray.1", list(_LAST), grace_s=0.5)))
    wait_until(lambda: docker.logs("stray.1", 0).data)
    hasty = replace(place, timing=replace(place.timing, reap_s=0.0))

    def stopped() -> bool:
        reap(hasty)
        return not docker.jobs()["stray.1"]

    wait_until(stopped)
    docker.place = replace(docker.place, keep_s=-1.0)
    reap(hasty)
    assert docker.kept() == {}
    assert docker.logs("stray.1", 0).data == b"on\n"


def test_run_timeout_without_a_follower(place: Workspace, docker: DockerRuntime):
    """A job whose follower is gone is ended by the reaper when its time is over, and its grant is free."""
    spec = job_spec(entrypoint=list(_LAST), request={"cpu": 1, "memory": "1GiB"}, policy={"run_timeout": 1, "grace": 0.5})
    attempt = place.ledger.open_attempt(spec)
    run_round(place)
    dead = replace(place, timing=replace(place.timing, lease_s=-1.0, reap_s=0.0))
    wait_until(lambda: launched(dead, attempt))

    def over() -> Attempt | None:
        reap(dead)
        found = place.ledger.attempts([attempt.id])[attempt.id]
        return found if found.ended else None

    found = wait_until(over)
    assert found.exit.reason is ExitReason.TIMED_OUT
    assert place.ledger.leases() == ()


def launched(place: Workspace, attempt: Attempt) -> Attempt | None:
    """Launch as a follower would that dies right after."""
    try:
        return launch(place, attempt)
    except NotReady:
        return None
