"""``airflow standalone`` in the demo's home: what a person sees in the web UI after the README's first command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from system.airflow_server import STANDALONE, AirflowServer
from system.processes import alive

ROOT = Path(__file__).parents[2]
STEPS = ("prepare", "train", "evaluate", "save", "infer")
SAID = {"prepare": "", "train": "step 20: loss=", "evaluate": "accuracy", "save": "", "infer": ""}
pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Run the demo once; return its home and its report."""
    home = tmp_path_factory.mktemp("demo") / "home"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "airflow_dla.demo", "--home", str(home), "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return home, json.loads(done.stdout)


@pytest.fixture(scope="module")
def standalone(demo: tuple[Path, dict[str, Any]]) -> Iterator[AirflowServer]:
    """Start ``airflow standalone`` in the demo's home; it leaves no process behind."""
    with AirflowServer(demo[0], demo[0] / "dags", env={"PYTHONPATH": str(ROOT)}, components=STANDALONE) as server:
        yield server
        pids = server.pids("standalone")
    assert pids
    assert not any(map(alive, pids))


def test_the_demos_runs_and_their_logs_are_in_the_ui(standalone: AirflowServer) -> None:
    """The run that the demo made outside Airflow's services is there, each step with its job's own output."""
    standalone.wait_dag("digits")
    (run,) = standalone.request("GET", "dags/digits/dagRuns")["dag_runs"]
    assert run["state"] == "success"
    shows(standalone, run["dag_run_id"])


def test_the_dag_triggered_through_rest_succeeds(standalone: AirflowServer, measure: Callable[[str, float], None]) -> None:
    """All five steps end in success with small XComs, their jobs' output in the logs, and a version after the demo's."""
    begun = time.monotonic()
    run = standalone.trigger("digits")
    assert standalone.wait("digits", run, timeout=300) == "success"
    measure("the digits DAG triggered in airflow standalone", time.monotonic() - begun)
    shows(standalone, run)


def shows(server: AirflowServer, run: str) -> None:
    """Check what REST tells of a run: states, logs, XComs."""
    assert {task["task_id"]: task["state"] for task in server.tasks("digits", run)} == dict.fromkeys(STEPS, "success")
    for step in STEPS:
        log = server.log("digits", run, step)
        assert "succeeded after" in log, log
        assert SAID[step] in log
        xcoms = server.xcoms("digits", run, step)
        assert sum(size for _, size in xcoms.values()) < 1024, xcoms
