"""Real faults on a real Airflow: whatever is killed, one attempt runs at a time and the result is right."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from fixtures_postgres import PostgresServer, missing
from system.airflow_server import AirflowServer
from system.jobs import JobRun
from system.processes import alive, busy, eventually

from airflow_dla.ledger import connect
from airflow_dla.specs import AttemptState, JobKey

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

Start = Callable[..., JobRun]
Measure = Callable[[str, float], None]


def test_a_pipeline_succeeds_and_shows_its_logs_links_and_small_xcoms(airflow: AirflowServer, start: Start) -> None:
    """The logs of deferred and synchronous steps hold the jobs' own output, their XComs are small, their links need a login."""
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
    run.wait_follower()
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


STATES = ["scheduled", "queued"]
HOWS = ["failed", "success", "run failed", "cleared"]


@pytest.mark.parametrize(("dag", "within_s"), [("job_deferred", 5), ("job_sync", 15)])
def test_a_task_that_is_marked_while_its_job_runs_has_no_process(start: Start, measure: Measure, dag: str, within_s: float) -> None:
    """Marking or clearing a task, or failing its run, ends its job and frees its grant; a cleared one starts another attempt."""
    runs = {how: start(dag) for how in HOWS}
    for run in runs.values():
        run.wait_follower("triggerer" if dag == "job_deferred" else "worker")
        run.wait_epoch(3)
    for how, run in runs.items():
        begun = time.monotonic()
        act(run, how)
        run.wait_gone(within_s, 1)
        measure(f"{dag} {how} → no process, grant free (at most {within_s} s)", time.monotonic() - begun)
    for how in ("failed", "success", "run failed"):
        assert runs[how].task["state"] == how.removeprefix("run ")
        stays_stopped(runs[how])
    again = runs["cleared"]
    again.go()
    again.wait_success()
    assert [line["attempt"] for line in again.starts] == [f"{again.job}.1", f"{again.job}.2"], again.story()
    assert again.starts[1]["first"] > 0
    assert again.value == again.expected


def act(run: JobRun, how: str) -> None:
    """Do what a person does in the web UI."""
    if how == "cleared":
        run.clear()
    elif how == "run failed":
        run.server.set_run_state(run.dag, run.run, "failed")
    else:
        run.mark(how)


def stays_stopped(run: JobRun) -> None:
    """Check that nobody began another attempt."""
    assert run.attempt is not None
    assert (run.attempt.number, run.attempt.ended, run.processes()) == (1, True, []), run.story()


@pytest.mark.parametrize("state", STATES)
def test_a_scheduled_or_queued_task_with_a_live_job_that_is_marked(
    airflow: AirflowServer, start: Start, measure: Measure, state: str
) -> None:
    """No worker and no trigger hears of the mark: the API server's listener stops the job. After a clear the next try takes it over."""
    dag, blockers = {"scheduled": ("job_sync_narrow", "blockers"), "queued": ("job_sync", "fillers")}[state]
    runs = {how: start(dag) for how in HOWS}
    for run in runs.values():
        run.wait_epoch(1)
    block = airflow.trigger(blockers)
    try:
        eventually(lambda: waiting(airflow, blockers, block) >= len(runs), timeout=90, what="tasks that wait for the jobs' slots")
        for run in runs.values():
            os.kill(run.task["pid"], signal.SIGKILL)
        for how, run in runs.items():
            eventually(
                lambda run=run: run.task["state"] == state and run.task["try_number"] == 2, timeout=90, what=f"a retry that is {state}"
            )
            begun = time.monotonic()
            act(run, how)
            if how != "cleared":
                run.wait_gone(15)
                measure(f"{state} task {how} → no process, grant free", time.monotonic() - begun)
                assert run.task["state"] == ("skipped" if how == "run failed" else how)
    finally:
        airflow.set_run_state(blockers, block, "failed")
    for how in ("failed", "success", "run failed"):
        stays_stopped(runs[how])
    taken = runs["cleared"]
    assert taken.processes(1)
    eventually(lambda: taken.task["try_number"] == 3 and taken.task["state"] == "running", timeout=90, what="the cleared task's next try")
    taken.go()
    taken.wait_success()
    ran_once(taken, tries=(1, 2, 3))


def waiting(airflow: AirflowServer, dag: str, run: str) -> int:
    """Return how many tasks of a run wait for a slot or a worker."""
    return sum(task["state"] in STATES for task in airflow.tasks(dag, run))


@pytest.mark.parametrize("moment", ["before its start", "before it is recorded"])
def test_death_between_submit_and_persist(airflow: AirflowServer, start: Start, tmp_path: Path, moment: str) -> None:
    """A task killed after it had told the ledger that it launches: the retry finds the process, or starts it, once."""
    run_id = f"launch-{tmp_path.name}"
    folder = embedded_jobs(airflow) / f"{JobKey(dag='job_sync', run=run_id, task='job').id}.1"
    folder.mkdir(parents=True)
    with locked_folder(folder) as release:
        run = start("job_sync", run_id=run_id)
        eventually(lambda: run.attempt and run.attempt.state is AttemptState.LAUNCHING, timeout=90, what="a task that launches", every=0.05)
        pid = run.task["pid"]
        with write_locked(airflow.home / "dla" / "ledger.db"):
            if moment == "before it is recorded":
                release()
                eventually(lambda: run.starts, timeout=30, what="a job whose start nobody recorded", every=0.05)
            assert run.attempt is not None
            assert run.attempt.state is AttemptState.LAUNCHING
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: not alive(pid), timeout=10, what="end of the task's process")
    run.go()
    run.wait_success()
    ran_once(run, tries=(1, 2))


def embedded_jobs(airflow: AirflowServer) -> Path:
    """Return where the embedded workspace keeps the folders of its attempts, before it has any."""
    (airflow.home / "dla").mkdir(exist_ok=True)
    ledger = connect(f"sqlite:///{airflow.home}/dla/ledger.db")
    ledger.upgrade()
    identity = ledger.identity()
    ledger.close()
    return airflow.home / "dla" / "jobs" / identity


@contextmanager
def locked_folder(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of an attempt's folder, as another submitter would; yield what lets go of it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield lambda: fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


@contextmanager
def write_locked(database: Path) -> Iterator[None]:
    """Keep everybody else from writing into a SQLite database."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def test_death_at_any_moment_of_the_first_seconds(start: Start) -> None:
    """Ten tasks killed at moments spread over their start: one attempt each, never two at once, and no wrong result."""
    runs = [start("job_sync", epochs=5, pace=0.1, hold=False) for _ in range(10)]
    killed: set[str] = set()
    deadline = time.monotonic() + 120
    while len(killed) < len(runs) and time.monotonic() < deadline:
        for number, run in enumerate(runs):
            task = run.task
            if run.run not in killed and task["pid"] and task["state"] == "running":
                threading.Timer(number * 0.35, kill, [task["pid"]]).start()
                killed.add(run.run)
    assert len(killed) == len(runs)
    for run in runs:
        run.wait_success()
        assert [line["attempt"] for line in run.starts] == [f"{run.job}.1"], run.story()
        assert run.value == run.expected


def kill(pid: int) -> None:
    """Kill a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_killed_job_resumes_from_its_checkpoint(start: Start, measure: Measure) -> None:
    """SIGKILL of the user's program: the retry does not begin anew, and ends as an uninterrupted run does."""
    run = start("job_deferred", epochs=40)
    run.wait_follower()
    run.wait_epoch(10)
    begun = time.monotonic()
    os.kill(run.starts[0]["pid"], signal.SIGKILL)
    eventually(lambda: len(run.starts) == 2, timeout=90, what="the second attempt")
    measure("SIGKILL of a deferred task's job → the retry's attempt (delay 1 s) goes on from the checkpoint", time.monotonic() - begun)
    run.go()
    run.wait_success()
    assert [line["attempt"] for line in run.starts] == [f"{run.job}.1", f"{run.job}.2"]
    assert run.starts[1]["first"] >= 10
    assert run.starts[1]["alone"]
    assert run.value == run.expected
    assert "SIGKILL" in run.log(1)


def test_execution_timeout_while_deferred(start: Start, measure: Measure) -> None:
    """Airflow forgets it for deferred tasks; the trigger does not: no process, no grant, a failed task."""
    run = start("job_timeout")
    run.wait_follower()
    begun = datetime.fromisoformat(run.task["start_date"]).timestamp()
    eventually(lambda: time.time() - begun > 15, timeout=30, what="the deadline")
    run.wait_gone(10)
    measure("execution_timeout of 15 s while deferred → no process, grant free, after the deadline", time.time() - begun - 15)
    assert run.wait_state("failed", timeout=60)
    assert "execution_timeout" in run.log()


def test_clearing_a_succeeded_task_runs_it_again(start: Start) -> None:
    """A result that was delivered is not used again."""
    run = start("job_deferred", epochs=3, pace=0.1, hold=False)
    run.wait_success()
    run.clear()
    eventually(lambda: len(run.starts) == 2, timeout=60, what="the second attempt")
    run.wait_success()
    assert [(line["attempt"], line["first"]) for line in run.starts] == [(f"{run.job}.1", 0), (f"{run.job}.2", 0)]
    assert run.value == run.expected


@pytest.mark.postgres
def test_ledger_and_triggerer_gone_for_longer_than_the_lease(
    airflow: AirflowServer, start: Start, measure: Measure, postgres_ledger: tuple[PostgresServer, str] | None
) -> None:
    """Jobs run on, nothing is granted twice, and all ends well: with PostgreSQL stopped and with SQLite locked by somebody."""
    if postgres_ledger is None:
        pytest.skip(str(missing()))
    server, url = postgres_ledger
    deferred, followed = start("job_postgres", ledger_url=url), start("job_postgres_sync", ledger_url=url)
    brief = airflow.home / "brief.db"
    here = start("job_brief", ledger_url=f"sqlite:///{brief}")
    deferred.wait_follower()
    for run in (deferred, followed, here):
        run.wait_epoch(1)
        assert run.processes(1)
    waiting = start("job_postgres", ledger_url=url)
    waiting.wait_for_grant()
    assert not waiting.processes()
    begun = time.monotonic()
    with write_locked(brief):
        airflow.kill("triggerer")
        server.stop(signal.SIGQUIT)
        while time.monotonic() - begun < 35:  # of a lease of 20
            time.sleep(5)
            killed = [run.story() for run in (deferred, followed, here) if not run.processes(1)]
            assert not killed, "\n".join(killed)
        assert not waiting.processes()
    server.start()
    airflow.restart("triggerer")
    measure("triggerer and ledgers gone for", time.monotonic() - begun)
    back = time.monotonic()
    eventually(lambda: deferred.follower == "triggerer" and followed.follower == "worker", timeout=90, what="jobs that are followed again")
    measure("back → every job followed again", time.monotonic() - back)
    assert waiting.grants() == []
    for run in (deferred, followed, here, waiting):
        run.go()
    for run in (deferred, followed, here, waiting):
        run.wait_success()
        ran_once(run)
    given = [event.subject for event in deferred.ledger.history(kind="grant.given", limit=1000)]
    assert sorted(given) == sorted(f"{run.job}.1" for run in (deferred, followed, waiting))


def test_no_quick_job_fails_by_the_race_of_a_deferred_resume(airflow: AirflowServer, measure: Measure) -> None:
    """24 jobs of 3 to 5 s with every core busy: none fails, and none needs another try (tests/bench/bench_race.py runs 200)."""
    begun = time.monotonic()
    with busy(os.cpu_count() or 1):
        run = airflow.trigger("many", {"count": 24})
        state = airflow.wait("many", run, timeout=280)
    measure("24 jobs of 3 to 5 s with every core busy", time.monotonic() - begun)
    naps = [task for task in airflow.tasks("many", run) if task["task_id"] == "nap"]
    failed = [
        airflow.log("many", run, "nap", 1, task["map_index"]) for task in naps if task["state"] != "success" or task["try_number"] > 1
    ]
    assert (state, len(naps), failed) == ("success", 24, [])
