"""What the demo says: while it runs and in the end."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest

from airflow_dla.demo.report import Outcome, StepReport, as_mapping, as_text
from airflow_dla.demo.steps import Shown, Step
from airflow_dla.demo.tasklog import TaskLogs

GOOD = StepReport(
    name="train", state="success", seconds=12.34, granted={"cpu": 2.0, "memory": 1.0}, reason="it was free", log=Path("/h/log")
)
BAD = dataclasses.replace(GOOD, name="save", state="failed", granted={}, reason="", error="the model is a pickle")


@pytest.fixture
def outcome() -> Outcome:
    """Return a run that succeeded."""
    return Outcome(
        home=Path("/h"),
        run="manual__1",
        steps=(GOOD,),
        accuracy=0.98765,
        version=3,
        digest="sha256:ab",
        model=Path("/h/m"),
        predictions=None,
        store="file:///h/dla/store",
    )


def test_report_says_what_was_made_granted_and_what_to_type_next(outcome: Outcome) -> None:
    """A person finds accuracy, version, digest, each step's grant and reason, places and commands."""
    text = as_text(outcome, 31.4159)
    for expected in ("0.9877", "digits@3, sha256:ab", "31.4 s", "2 cpu, 1 GiB memory", "it was free", "/h/m", "airflow standalone"):
        assert expected in text


def test_report_of_a_failure_shows_the_error_and_its_log(outcome: Outcome) -> None:
    """A step that failed makes the run a failure, and its error stands there with the place of its log."""
    failed = dataclasses.replace(outcome, steps=(GOOD, BAD), version=None, digest=None)
    assert not failed.succeeded
    assert "save failed: the model is a pickle\n  its log: /h/log" in as_text(failed, 1.0)


def test_a_run_without_steps_is_no_success(outcome: Outcome) -> None:
    """Nothing done is not all done."""
    assert not dataclasses.replace(outcome, steps=()).succeeded


def test_json_has_the_promised_shape(outcome: Outcome) -> None:
    """Programs get the keys the issue promises, in that order, and nothing else."""
    step = {"name": "train", "state": "success", "seconds": 12.34, "granted": {"cpu": 2.0, "memory": 1.0}, "reason": "it was free"}
    expected = {"accuracy": 0.98765, "version": 3, "digest": "sha256:ab", "wall_s": 31.42, "steps": [step]}
    assert as_mapping(outcome, 31.4159) == expected


def test_a_log_gets_one_line_for_each_step() -> None:
    """Where nobody looks at a terminal, only ends are written."""
    stream = io.StringIO()
    shown, step = Shown(stream), Step("train", state="success", seconds=3.21)
    shown.began(step)
    shown.ended(step, {"cpu": 2.0})
    assert stream.getvalue() == "  train      success    3.2 s   2 cpu\n"


def test_lines_go_to_the_log_of_the_task_that_runs(tmp_path: Path) -> None:
    """Between tasks, and what speaks of the machinery, goes to the rest."""
    logs = TaskLogs(tmp_path, tmp_path / "rest.log")
    mine = logs.path(dag="d", run="r", task="t", attempt=2)
    logs.write(b"before\n")
    logs.begin(mine)
    logs.write(b'{"event":"mine"}\n')
    logs.write(b'{"event":"200 OK","logger":"airflow.api_fastapi.app"}\n')
    logs.end()
    logs.write(b"after\n")
    assert mine.relative_to(tmp_path).as_posix() == "dag_id=d/run_id=r/task_id=t/attempt=2.log"
    assert mine.read_bytes() == b'{"event":"mine"}\n'
    assert (tmp_path / "rest.log").read_bytes().count(b"\n") == 3
