"""A job's whole way in an Airflow task to a real engine and back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_daemon import Engine
from fixtures_airflow import MakeTask, context

from airflow_dla.hooks import DlaHook
from airflow_dla.operators import JobOperator
from airflow_dla.runtime import Collects


@pytest.fixture
def places(embedded: Path, docker_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make a workspace of a local place and an engine; its containers are gone at the end."""
    gpu1 = {"kind": "docker", "url": docker_engine.host, "folder": str(tmp_path / "files")}
    extra = {"places": {"local": {"kind": "local"}, "gpu1": gpu1}, "capacity": {"cpu": 1, "memory": "1GiB"}}
    monkeypatch.setenv("AIRFLOW_CONN_LAB", json.dumps({"conn_type": "dla", "extra": extra}))
    DlaHook().workspace()
    yield
    runtime = DlaHook("lab").workspace().runtimes["gpu1"]
    assert isinstance(runtime, Collects)
    for attempt in runtime.kept():
        runtime.collect(attempt)


def run(make_task: MakeTask, **fields: Any) -> tuple[dict[str, Any], str]:
    """Run a task to its end; return its result and the node it was granted."""
    task = make_task(JobOperator, dla_conn_id="lab", deferrable=False, request={"cpu": 0.5, "memory": "64MiB"}, **fields)
    result = task.execute(context("t"))
    attempt = DlaHook("lab").workspace().ledger.jobs(limit=1)[0]
    assert attempt.grant is not None
    return result, attempt.grant.node


def test_a_job_with_an_image_runs_in_it(places: None, make_task: MakeTask, bare_image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its program is not looked for on this host; what it says, complains of and made comes back."""
    agent = {"name": "foreign", "image": bare_image, "metrics": {"acc": "acc=([0-9.]+)"}}
    command = ["sh", "-c", "echo acc=0.75; echo old driver >&2; echo made > /dla/out/out/value.txt"]
    result, node = run(make_task, agent=agent, entrypoint=command, outputs=["out"])
    assert node == "gpu1"
    assert (result["acc"], result["out"]["dla"]) == (0.75, "artifact")
    said = capsys.readouterr().out
    assert re.search(r"\[info +\] acc=0.75", said)
    assert re.search(r"\[warning +\] old driver", said)


def test_a_job_without_an_image_stays_local(places: None, make_task: MakeTask) -> None:
    """The engine has no image of its own."""
    _, node = run(make_task, entrypoint="agent_code:write", outputs=["out"])
    assert node == DlaHook("lab").settings().node
