"""A job makes way for one that matters more, in a real Airflow, and goes on as if nothing had happened."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from system.airflow_server import AirflowServer
from system.jobs import JobRun
from system.processes import eventually

from airflow_dla.ledger import connect
from airflow_dla.specs import AttemptState, ExitReason, JobKey

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_a_preempted_job_goes_on_within_its_airflow_try(
    airflow: AirflowServer, start: Callable[..., JobRun], measure: Callable[[str, float], None]
) -> None:
    """Of one CPU: the low job stops at a checkpoint, the high one runs alone, the low one goes on; no retry is used up."""
    url = f"sqlite:///{airflow.home}/hasty.db"
    low = start("job_low", epochs=200, ledger_url=url)
    low.wait_epoch(10)
    begun = time.monotonic()
    high = start("job_high", epochs=5, hold=False, ledger_url=url)
    high.wait_success()
    measure("preemption: asked by a task of higher priority → that task's success", time.monotonic() - begun)
    eventually(
        lambda: low.attempt and low.attempt.number == 2 and low.attempt.state is AttemptState.RUNNING, timeout=60, what="a second attempt"
    )
    low.go()
    low.wait_success()
    assert low.task["try_number"] == 1
    assert low.value == low.expected
    ledger = connect(url)
    try:
        job = JobKey(dag="job_low", run=low.run, task="job").id
        first = ledger.attempts([f"{job}.1"])[f"{job}.1"]
    finally:
        ledger.close()
    assert first.exit is not None
    assert first.exit.reason is ExitReason.PREEMPTED
    assert low.starts[1]["first"] >= 10
    assert "Preempted: " in low.log()
    assert (first.ended_at or 0.0) <= (high.attempt.running_at if high.attempt else 0.0)
