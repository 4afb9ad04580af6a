"""Tests of the operator that runs a job, with real processes and a real ledger."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from fixtures_airflow import MakeTask, context

from airflow_dla import torchrun
from airflow_dla.errors import JobFailed
from airflow_dla.hooks import DlaHook
from airflow_dla.ledger import Decision
from airflow_dla.operators import JobOperator, TrainModelOperator
from airflow_dla.specs import AttemptState, JobKey
from airflow_dla.triggers import JobTrigger

pytestmark = pytest.mark.usefixtures("embedded")


def ledger() -> Any:
    """Return the embedded workspace's ledger."""
    return DlaHook().workspace().ledger


def test_a_quick_job_ends_without_a_deferral(make_task: MakeTask) -> None:
    """Its outputs and metrics are flat, small XComs."""
    task = make_task(JobOperator, entrypoint="agent_code:write", outputs=["out"], args={"value": "7"})
    values = task.execute(context("t"))
    assert values["out"]["dla"] == "artifact"
    assert values["accuracy"] == 0.9
    assert len(json.dumps(values)) < 1024
    folder = DlaHook().workspace().store.folder(values["out"]["digest"])
    assert folder is not None
    assert (folder / "value.txt").read_text() == "7"


def test_a_long_job_defers_once_and_resumes_with_its_result(make_task: MakeTask) -> None:
    """The trigger that is handed over survives its journey, and the resume delivers."""
    task = make_task(JobOperator, entrypoint="agent_code:write", outputs=["out"], args={"sleep": 1})
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context("t"))
    path, kwargs = deferred.value.trigger.serialize()
    assert path == "airflow_dla.triggers.job.JobTrigger"
    again = JobTrigger(**json.loads(json.dumps(kwargs)), added_by_a_newer_version=1)
    assert again.serialize() == (path, kwargs)
    attempt = kwargs["attempt"]
    hook = make_task(JobOperator, task_id="other", entrypoint="agent_code:write").hook
    assert hook.wait(hook.find(attempt), timeout_s=10) is not None
    assert task.resume(context("t"), {"attempt": attempt})["accuracy"] == 0.9


def test_no_line_is_lost_between_those_who_follow_one_after_the_other(make_task: MakeTask, capsys: pytest.CaptureFixture[str]) -> None:
    """Each goes on where the one before stopped to pass lines on."""
    task = make_task(JobOperator, entrypoint="agent_code:count", args={"sleep": 2.0})
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context("t"))
    attempt = deferred.value.trigger.serialize()[1]["attempt"]
    chance = random.Random(4)
    while task.hook.wait(task.hook.find(attempt), timeout_s=chance.uniform(0.0, 0.06)) is None:
        pass
    said = re.findall(r"count (\d+)", capsys.readouterr().out)
    assert said == [str(number) for number in range(400)]


def test_a_synchronous_task_follows_in_the_worker(make_task: MakeTask) -> None:
    """``deferrable=False`` never defers."""
    task = make_task(
        JobOperator, entrypoint=["python", "script.py"], deferrable=False, agent={"name": "x", "metrics": {"acc": r"acc=(\S+)"}}
    )
    assert task.execute(context("t")) == {"acc": 0.5}


def test_a_retry_takes_the_running_attempt_over(make_task: MakeTask) -> None:
    """A second try of the same task starts no second process."""
    task = make_task(JobOperator, entrypoint="agent_code:write", outputs=["out"], args={"sleep": 1.5})
    with pytest.raises(TaskDeferred):
        task.execute(context("t"))
    retry = make_task(JobOperator, entrypoint="agent_code:write", outputs=["out"], args={"sleep": 1.5}, deferrable=False)
    retry.execute(context("t", try_number=2))
    last = ledger().last_attempt(JobKey(dag="d", run="r", task="t").id)
    assert last.number == 1


def test_a_result_delivered_to_a_try_that_was_lost_is_taken_again(make_task: MakeTask) -> None:
    """A retry does not repeat a job that succeeded; clearing the task, which raises max_tries, does."""
    task = make_task(JobOperator, entrypoint="agent_code:write", outputs=["out"])
    task.execute(context("t"))
    task.execute(context("t", try_number=2))
    job = JobKey(dag="d", run="r", task="t").id
    assert ledger().last_attempt(job).number == 1
    task.execute(context("t", try_number=2, max_tries=3))
    assert ledger().last_attempt(job).number == 2


def test_a_failing_program_fails_the_try(make_task: MakeTask) -> None:
    """The error names the job and says what the program said; Airflow may retry."""
    task = make_task(JobOperator, entrypoint="agent_code:fail")
    with pytest.raises(JobFailed, match="the data is empty"):
        task.execute(context("t"))


def test_an_output_never_written_is_an_error_of_the_program(make_task: MakeTask) -> None:
    """The output and the path are named."""
    task = make_task(JobOperator, entrypoint="agent_code:forget", outputs=["out"])
    with pytest.raises(JobFailed, match="out"):
        task.execute(context("t"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"entrypoint": "agent_code:write", "request": {"cpu": -1}}, "cpu"),
        ({"entrypoint": "agent_code:write", "request": {"cpus": 1}}, "did you mean 'cpu'"),
        ({"entrypoint": "agent_code:write", "request": {"cpu": 4096}}, "cpu"),
        ({"entrypoint": "agent_code:write", "policy": {"prio": 1}}, "priority"),
        ({"entrypoint": "no_such_module:write"}, "no module 'no_such_module'"),
        ({"entrypoint": "agent_code:no_such_function"}, "does not define 'no_such_function'"),
        ({"entrypoint": ["python", "missing.py"]}, "no file 'missing.py'"),
        ({"entrypoint": "agent_code:write", "inputs": {"x": None}}, "None where a reference is expected"),
        ({"entrypoint": "agent_code:write", "inputs": {"x": "s3://bucket"}}, "wrap it"),
        ({"entrypoint": "agent_code:write", "inputs": {"x": {"dla": "artifact", "digest": "sha256:" + "0" * 64}}}, "not in the store"),
        ({"entrypoint": "agent_code:write", "inputs": {"x": {"dla": "model", "model": "m@champion"}}}, "m"),
        ({"entrypoint": "agent_code:write", "inputs": {"x": {"dla": "uri", "uri": "https://u:p4ss@h/x"}}}, "password"),
        ({"entrypoint": "agent_code:write", "outputs": ["a", "a"]}, "twice"),
        ({"agent": {"name": "x"}}, "no entrypoint 'job'"),
        ({}, "give entrypoint="),
    ],
)
def test_bad_input_is_refused_before_anything_is_launched(make_task: MakeTask, fields: dict[str, Any], said: str) -> None:
    """No retry can help, so Airflow is told not to try."""
    task = make_task(JobOperator, **fields)
    with pytest.raises(AirflowFailException, match=said) as caught:
        task.execute(context("t"))
    assert "p4ss" not in str(caught.value)
    assert ledger().jobs() == ()


def test_killing_a_synchronous_task_ends_its_job(make_task: MakeTask) -> None:
    """on_kill returns when the job is gone and its grant is free."""
    task = make_task(JobOperator, entrypoint="agent_code:write", outputs=["out"], args={"sleep": 60}, deferrable=False)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            task.execute(context("t"))
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    job = JobKey(dag="d", run="r", task="t").id
    end = time.monotonic() + 10
    while time.monotonic() < end:
        last = ledger().last_attempt(job) if "hook" in task.__dict__ else None
        if last is not None and last.state is AttemptState.RUNNING:
            break
        time.sleep(0.05)
    task.on_kill()
    thread.join(5)
    assert not thread.is_alive()
    assert ledger().leases() == ()
    assert "stopped" in str(errors[0])


def test_defaults_of_the_author_win(make_task: MakeTask) -> None:
    """Two retries and deferrable, unless the author says otherwise."""
    assert make_task(JobOperator, entrypoint="a:b").retries == 2
    assert make_task(TrainModelOperator, entrypoint="a:b", retries=0).retries == 0
    assert make_task(TrainModelOperator, entrypoint="a:b", default_args={"retries": 5}).retries == 5
    assert make_task(JobOperator, entrypoint="a:b").deferrable


def test_nothing_connects_when_a_dag_is_parsed(make_task: MakeTask, embedded: Path) -> None:
    """Making an operator touches neither ledger nor store."""
    make_task(JobOperator, entrypoint="agent_code:write")
    assert not (embedded / "dla").exists()


@pytest.fixture(autouse=True)
def _quiet(embedded: Path):
    """Leave no job running behind a test."""
    yield
    if (embedded / "dla").exists():
        workspace = DlaHook().workspace()
        for attempt in workspace.ledger.jobs(state="live"):
            for runtime in workspace.runtimes.values():
                from airflow_dla.specs import ExitReason  # noqa: PLC0415

                runtime.cancel(attempt.id, ExitReason.STOPPED)


def test_a_preempted_job_goes_on_in_a_synchronous_task(make_task: MakeTask) -> None:
    """The task that waits here gets the result of the next attempt."""
    job = JobKey(dag="d", run="r", task="t").id

    def preempt() -> None:
        while (last := ledger().last_attempt(job)) is None or last.state is not AttemptState.RUNNING:
            time.sleep(0.02)
        time.sleep(0.3)
        ledger().round(lambda _seen: Decision(preempted={last.id: "for d.big"}), holder="round", lease_s=60.0, force=True)

    fields = {"entrypoint": "agent_code:write", "outputs": ["out"], "args": {"sleep": 1}, "policy": {"preemptible": True}}
    task = make_task(JobOperator, **fields, deferrable=False)
    thread = threading.Thread(target=preempt)
    thread.start()
    values = task.execute(context("t"))
    thread.join()
    assert values["accuracy"] == 0.9
    assert ledger().last_attempt(job).number == 2


def test_a_request_is_learnt_from_earlier_runs(make_task: MakeTask) -> None:
    """The first run asks for the default, the second for what the first used, and how long it runs is known."""
    specs = []
    for run in ("first", "second"):
        task = make_task(
            JobOperator,
            entrypoint="agent_code:write",
            outputs=["out"],
            request="auto",
            agent={"name": "x", "request": {"cpu": 1}},
        )
        task.execute(context("t", run_id=run))
        specs.append(ledger().last_attempt(JobKey(dag="d", run=run, task="t").id).spec)
    first, second = specs
    assert (first.request.to_mapping(), first.expected_s) == ({"cpu": 1.0}, None)
    assert 0 < second.request.amounts["cpu"].minimum < 1.0
    assert second.expected_s > 0


def test_a_request_in_a_word_that_nobody_knows_is_refused(make_task: MakeTask) -> None:
    """And the one that is known is named."""
    task = make_task(JobOperator, entrypoint="agent_code:write", request="plenty")
    with pytest.raises(AirflowFailException, match="'auto' to learn it from earlier runs, got 'plenty'"):
        task.execute(context("t"))


def test_a_job_spread_over_members(make_task: MakeTask) -> None:
    """``distributed=`` may hold templates; the first member's outputs and metrics are the task's."""
    small = {"cpu": 0.25, "memory": "64MiB"}
    how = torchrun("{{ params.nodes }}", max_restarts=1)
    task = make_task(
        JobOperator, entrypoint="agent_code:write", outputs=["out"], args={"sleep": 0.1}, request=small, distributed=how, deferrable=False
    )
    task.distributed = {**task.distributed, "nodes": "2"}
    values = task.execute(context("t"))
    assert (values["out"]["dla"], values["accuracy"]) == ("artifact", 0.9)
    ends = [ledger().last_attempt(JobKey(dag="d", run="r", task="t", member=number).id) for number in (0, 1)]
    assert [(end.number, end.exit.reason, sorted(end.exit.outputs)) for end in ends] == [(1, "succeeded", ["out"]), (1, "succeeded", [])]
