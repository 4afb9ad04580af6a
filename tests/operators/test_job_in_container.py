"""A job's whole way in an Airflow task to a real engine and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from docker_daemon import Engine
from fixtures_airflow import MakeTask, context

from airflow_dla.hooks import DlaHook
from airflow_dla.operators import JobOperator


@pytest.fixture
def places(embedded: Path, docker_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a workspace of a local place and an engine."""
    gpu1 = {"kind": "docker", "url": docker_engine.host, "folder": str(tmp_path / "files")}
    extra = {"places": {"local": {"kind": "local"}, "gpu1": gpu1}, "capacity": {"cpu": 1, "memory": "1GiB"}}
    monkeypatch.setenv("AIRFLOW_CONN_LAB", json.dumps({"conn_type": "dla", "extra": extra}))
    DlaHook().workspace()
    return embedded


def run(make_task: MakeTask, **fields: Any) -> tuple[dict[str, Any], str]:
    """Run a task to its end; return its result and the node it was granted."""
    task = make_task(JobOperator, dla_conn_id="lab", deferrable=False, request={"cpu": 0.5, "memory": "64MiB"}, **fields)
    result = task.execute(context("t"))
    attempt = DlaHook("lab").workspace().ledger.jobs(limit=1)[0]
    assert attempt.grant is not None
    return result, attempt.grant.node


def test_a_job_with_an_image_runs_in_it(places: Path, make_task: MakeTask, bare_image: str) -> None:
    """Its program is not looked for on this host; what it says of itself comes back."""
    agent = {"name": "foreign", "image": bare_image, "metrics": {"acc": "acc=([0-9.]+)"}}
    result, node = run(make_task, agent=agent, entrypoint=["sh", "-c", "echo acc=0.75"])
    assert node == "gpu1"
    assert result == {"acc": 0.75}


def test_a_job_without_an_image_stays_local(places: Path, make_task: MakeTask) -> None:
    """The engine has no image of its own."""
    _, node = run(make_task, entrypoint="agent_code:write", outputs=["out"])
    assert node == DlaHook("lab").settings().node
