"""Grants of jobs in real containers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contracts.grants import LAST, GrantsContract, follow, steps
from contracts.runtime import job_file
from fixtures_workspace import NODE

from airflow_dla.control import Workspace
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import ExitReason, Node


@pytest.fixture
def runtime(docker: DockerRuntime, bare_image: str) -> DockerRuntime:
    """Return a runtime whose jobs have a shell."""
    docker.place = replace(docker.place, image=bare_image)
    docker.node = NODE
    return docker


@pytest.fixture
def place(workspace: Workspace, runtime: DockerRuntime) -> Workspace:
    """Return a workspace whose one node is the engine."""
    workspace.ledger.register_node(Node(name=NODE, capacity={"cpu": 2.0, "memory": 4.0}), host="here")
    return replace(workspace, runtimes={NODE: runtime})


@pytest.fixture
def stray() -> Launch:
    """Return a job that no attempt owns."""
    return Launch(job=job_file("stray.1", list(LAST), grace_s=0.5))


class TestGrants(GrantsContract):
    """As on every place that runs images."""

    no_image = "127.0.0.1:1/none:1"
    limits = "docker: 0.1 cpu, 0.125 GiB memory"


def test_removed_by_hand(place: Workspace, runtime: DockerRuntime):
    """A container that somebody removed costs an attempt, not an Airflow retry."""
    lines: list[str] = []
    one = follow(place, *LAST, lines=lines)
    steps(one, lambda: "on" in lines)
    runtime.engine.remove(runtime.engine.listing(runtime._workspace)[one.attempt.id].id, force=True)
    steps(one, lambda: one.attempt.number == 2 and runtime.status(one.attempt.id).alive)
    one.stop(ExitReason.STOPPED)
    steps(one, lambda: one.over)
    assert any("somebody removed it" in line for line in lines)
