"""What the schedule will bring reaches the ledger, from the scheduler and over the REST API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest
from system.airflow_server import AirflowServer
from system.processes import eventually

from airflow_dla.ledger import connect
from airflow_dla.specs import Expected

pytestmark = [pytest.mark.system, pytest.mark.timeout(500)]


@pytest.fixture
def every_minute(airflow: AirflowServer) -> Iterator[str]:
    """Let a DAG run every minute while a test needs it."""
    airflow.request("PATCH", "dags/minutely", json={"is_paused": False})
    yield "minutely"
    airflow.request("PATCH", "dags/minutely", json={"is_paused": True})


def expected(airflow: AirflowServer) -> list[Expected]:
    """Return what the embedded ledger expects of the DAG."""
    ledger = connect(f"sqlite:///{airflow.home}/dla/ledger.db")
    try:
        return [job for job in ledger.snapshot().expected if job.dag == "minutely"]
    finally:
        ledger.close()


def test_the_scheduler_foresees_the_next_runs(airflow: AirflowServer, every_minute: str) -> None:
    """After the first run, those of the next hour and more are expected, as the first one was."""

    def ended() -> bool:
        runs = airflow.request("GET", f"dags/{every_minute}/dagRuns")["dag_runs"]
        return any(run["state"] == "success" for run in runs)

    eventually(ended, timeout=150, what="a run of the schedule")
    eventually(lambda: len(expected(airflow)) >= 50, timeout=260, what="a forecast")
    found = expected(airflow)
    assert {(job.task, job.priority, dict(job.amounts)["cpu"]) for job in found} == {("job", 7, 1.0)}
    gaps = {round(later.at - earlier.at) for earlier, later in pairwise(found[-20:])}  # the first may have come meanwhile
    assert gaps == {60}


def test_the_command_foresees_over_rest(airflow: AirflowServer, every_minute: str) -> None:
    """Where nothing of ours runs in the scheduler; the API tells of one next run."""
    env = {**airflow.env, "DLA_AIRFLOW_TOKEN": airflow.token}
    command = [sys.executable, "-m", "airflow", "dla", "forecast", "refresh", "--url", airflow.url, "--json"]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])  # what Airflow says while it loads goes before
    assert [job["task"] for job in answer["expected"] if job["dag"] == "minutely"]
