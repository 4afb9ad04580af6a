"""The harness of the system tests itself: a real Airflow that can be driven, read and hurt."""

from __future__ import annotations

import os
import signal

import pytest
from system.airflow_server import AirflowServer
from system.processes import alive, eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_a_run_succeeds_and_its_logs_and_xcoms_are_read(airflow: AirflowServer) -> None:
    """A DAG triggered through REST ends in success, with what its tasks said and returned."""
    run = airflow.trigger("harness_quick")
    assert airflow.wait("harness_quick", run) == "success"
    assert "the shell says hello" in airflow.log("harness_quick", run, "shell")
    assert "the task says hello" in airflow.log("harness_quick", run, "answer")
    assert airflow.xcoms("harness_quick", run, "answer") == {"return_value": (42, 2)}
    assert {task["state"] for task in airflow.tasks("harness_quick", run)} == {"success"}


def test_a_killed_task_is_tried_again_and_a_mark_ends_it(airflow: AirflowServer) -> None:
    """The pid of a task instance is its process: SIGKILL makes a second try, marking it failed ends that one too."""
    run = airflow.trigger("harness_long")
    first = airflow.wait_task("harness_long", run, "running", "running")["pid"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: airflow.task("harness_long", run, "running")["try_number"] == 2, timeout=60, what="second try")
    second = airflow.wait_task("harness_long", run, "running", "running")["pid"]
    assert second != first
    airflow.set_state("harness_long", run, "running", "failed")
    eventually(lambda: not alive(second), timeout=15, what="end of the second try")
    airflow.set_run_state("harness_long", run, "failed")


def test_a_killed_triggerer_comes_back_and_clear_starts_a_deferred_task_again(airflow: AirflowServer) -> None:
    """A deferred task outlives its triggerer, and a cleared one is deferred again with the next try number."""
    run = airflow.trigger("harness_long")
    airflow.wait_task("harness_long", run, "deferred", "deferred")
    airflow.kill("triggerer")
    assert airflow.pids("triggerer") == []
    airflow.restart("triggerer")
    assert airflow.task("harness_long", run, "deferred")["state"] == "deferred"
    assert [task["task_id"] for task in airflow.clear("harness_long", run, "deferred")] == ["deferred"]
    eventually(lambda: airflow.task("harness_long", run, "deferred")["try_number"] == 2, timeout=60, what="second try")
    airflow.wait_task("harness_long", run, "deferred", "deferred")
    airflow.set_run_state("harness_long", run, "failed")
