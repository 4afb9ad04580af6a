"""Real faults on a real Airflow: whatever is killed, one attempt runs at a time and the result is right."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import httpx
import pytest
from system.airflow_server import AirflowServer
from system.jobs import JobRun
from system.processes import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

Start = Callable[..., JobRun]
Measure = Callable[[str, float], None]


def test_a_pipeline_succeeds_and_shows_its_logs_links_and_small_xcoms(airflow: AirflowServer, start: Start) -> None:
    """Deferred and synchronous steps end in success; their logs hold the jobs' own output, their XComs are small, their links need a login."""
    run = start("job_pipeline", task="train", epochs=10, hold=False)
    run.wait_success()
    for step in ("prepare", "train", "infer"):
        assert f"epoch 9 value {run.expected}" in airflow.log("job_pipeline", run.run, step)
        sizes = {name: size for name, (_, size) in airflow.xcoms("job_pipeline", run.run, step).items()}
        assert sum(sizes.values()) < 1024, sizes
        links = airflow.links("job_pipeline", run.run, step)
        for name, expected in {"Job log": f"epoch 9 value {run.expected}", "Artifacts": "succeeded"}.items():
            url = f"{airflow.url}/{links[name]}"
            assert httpx.get(url).status_code in {401, 403}
            answer = httpx.get(url, headers={"Authorization": f"Bearer {airflow.token}"})
            assert answer.status_code == 200, answer.text
            assert expected in answer.text


def test_a_killed_synchronous_task_reconnects(start: Start, measure: Measure) -> None:
    """SIGKILL of the task's process while its job trains: the retry goes on with the running attempt."""
    run = start("job_sync", epochs=40)
    run.wait_epoch(5)
    pid = run.wait_state("running")["pid"]
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    eventually(lambda: run.task["try_number"] == 2 and run.logged_epochs(2), timeout=60, what="second try that follows the job")
    measure("SIGKILL of a synchronous task → its retry (delay 1 s) follows the job", time.monotonic() - begun)
    run.go()
    run.wait_success()
    ran_once(run, tries=(1, 2))


def test_a_killed_triggerer_reconnects(airflow: AirflowServer, start: Start, measure: Measure) -> None:
    """SIGKILL of the triggerer while a deferred task's job trains: the next triggerer goes on with the running attempt."""
    run = start("job_deferred", epochs=60)
    run.wait_triggerer()
    run.wait_epoch(20)
    airflow.kill("triggerer")
    killed, begun = time.time(), time.monotonic()
    airflow.restart("triggerer")
    eventually(lambda: max(run.logged_epochs(), default=0) > epoch_at(run, killed), timeout=60, what="a log that goes on")
    measure("SIGKILL of the triggerer → restarted and following again", time.monotonic() - begun)
    run.go()
    run.wait_success()
    ran_once(run)


def epoch_at(run: JobRun, when: float) -> int:
    """Return the last epoch that the work had reached at a time."""
    return max((int(line["epoch"]) for line in run.traces("epochs") if line["at"] <= when), default=-1)


def ran_once(run: JobRun, tries: tuple[int, ...] = (1,)) -> None:
    """Check that one attempt ran in one process, its result is right, and its log is there once."""
    assert [line["attempt"] for line in run.starts] == [f"{run.job}.1"], run.story()
    assert run.value == run.expected
    said = run.logged_epochs(*tries)
    assert sorted(set(said)) == list(range(run.epochs)), f"lost lines: {sorted(set(range(run.epochs)) - set(said))}\n{run.story()}"
    # What was passed on within the second before the kill may not be persisted yet: 5 lines at 0.2 s each.
    assert len(said) - run.epochs <= 6, said
    assert run.grants() == []


@pytest.mark.parametrize("how", ["failed", "success", "cleared", "run failed"])
def test_a_deferred_task_that_is_marked_has_no_process_5_s_later(start: Start, measure: Measure, how: str) -> None:
    """Marking or clearing a deferred task, or failing its run, ends its job and frees its grant; a cleared one starts anew."""
    run = start("job_deferred")
    run.wait_triggerer()
    run.wait_epoch(3)
    begun = time.monotonic()
    act(run, how)
    run.wait_gone(5, 1)
    measure(f"deferred task {how} → no process, grant free", time.monotonic() - begun)
    ends_as(run, how)


@pytest.mark.parametrize("how", ["failed", "success", "cleared", "run failed"])
def test_a_synchronous_task_that_is_marked_has_no_process_15_s_later(start: Start, measure: Measure, how: str) -> None:
    """The same in a worker, where Airflow's heartbeat must come first."""
    run = start("job_sync")
    run.wait_state("running")
    run.wait_epoch(3)
    begun = time.monotonic()
    act(run, how)
    run.wait_gone(15, 1)
    measure(f"synchronous task {how} → no process, grant free", time.monotonic() - begun)
    ends_as(run, how)


def act(run: JobRun, how: str) -> None:
    """Do what a person does in the web UI."""
    if how == "cleared":
        run.clear()
    elif how == "run failed":
        run.server.set_run_state(run.dag, run.run, "failed")
    else:
        run.mark(how)


def ends_as(run: JobRun, how: str) -> None:
    """Check what became of the task: what the person said, or a new attempt that goes on from the checkpoint."""
    if how != "cleared":
        assert run.task["state"] == how.removeprefix("run ")
        assert len(run.starts) == 1
        return
    run.go()
    run.wait_success()
    assert [line["attempt"] for line in run.starts] == [f"{run.job}.1", f"{run.job}.2"], run.story()
    assert run.starts[1]["first"] > 0
    assert run.value == run.expected
