"""Members of one job in containers of their own: they reach each other, and end as one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import wait_until
from fixtures_workspace import NODE, job_spec
from meeting import MEET

from airflow_dla.artifacts import Store
from airflow_dla.control import Crew, Listener, Timing, Workspace, begun, following, ship_code
from airflow_dla.ledger import Attempt
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Node


@pytest.fixture
def place(workspace: Workspace, docker: DockerRuntime, base_image: str, store: Store) -> Workspace:
    """Return a workspace whose one node is the engine."""
    docker.place = replace(docker.place, image=base_image)
    docker.node = NODE
    workspace.ledger.register_node(Node(name=NODE, capacity={"cpu": 2.0, "memory": 4.0}), host="here")
    timing = Timing(poll_s=0.1, eager_s=0.05, renew_s=1.0, reap_s=60.0)
    return replace(workspace, runtimes={NODE: docker}, store=store, timing=timing)


@pytest.fixture
def meet(place: Workspace, tmp_path: Path) -> Callable[..., tuple[Attempt, list[str]]]:
    """Return a function that runs two members to their end, with arguments of theirs."""
    (tmp_path / "meeting").mkdir()
    (tmp_path / "meeting" / "work.py").write_text(MEET)
    code = ship_code(place, tmp_path / "meeting")
    assert code is not None

    def meet_(**args: Any) -> tuple[Attempt, list[str]]:
        request = {"cpu": 0.5, "memory": "256MiB"}
        given = {"entrypoint": "work:meet", "args": args, "outputs": ["model"], "code": code.to_mapping(), "request": request}
        spec = begun(job_spec("meeting", distributed={"nodes": 2}, policy={"grace": 1}, **given), NODE)
        lines: list[str] = []
        ended: list[Attempt] = []
        Crew(place).join(following(place, place.ledger.open_attempt(spec), Listener(lines.append, ended.append)))
        wait_until(lambda: ended, 90)
        assert place.ledger.leases() == ()
        return ended[0], lines

    return meet_


def test_members_reach_each_other(meet: Callable[..., tuple[Attempt, list[str]]]):
    """The second is told the address of the first; what the first measured and wrote is the job's."""
    attempt, lines = meet()
    assert attempt.exit is not None
    assert attempt.exit.succeeded, (attempt.exit, lines)
    assert dict(attempt.exit.metrics) == {"total": 3.0, "ranks": 2.0}
    assert set(attempt.exit.outputs) == {"model"}


def test_one_that_fails_ends_the_other(meet: Callable[..., tuple[Attempt, list[str]]], docker: DockerRuntime):
    """Nobody waits for a rank that is gone."""
    began = time.monotonic()
    attempt, _ = meet(fails=1)
    assert attempt.exit is not None
    assert "this rank gives up" in attempt.exit.message
    assert not any(docker.jobs().values())
    assert time.monotonic() - began < 55
