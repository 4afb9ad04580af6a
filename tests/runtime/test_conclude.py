"""How attempts in containers ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.agents import ending, runner
from airflow_dla.runtime import conclude as module
from airflow_dla.runtime.conclude import conclude, last_line, last_values
from airflow_dla.runtime.facts import Staged, Stop, seconds
from airflow_dla.specs import ArtifactRef, Exit, ExitReason, Grant, JobFile
from airflow_dla.specs.agents import Entrypoint

Make = Callable[..., Any]

STARTED, FINISHED = "2026-11-22T23:00:00.5Z", "2026-11-22T23:01:00.123456789Z"
NEVER = "0001-01-01T00:00:00Z"
END = seconds(FINISHED)
MODEL = ArtifactRef(digest="sha256:" + "0" * 64, kind="model")


def ran(code: int = 0, **state: Any) -> dict[str, Any]:
    """Return the state of a container that ran."""
    return {"ExitCode": code, "Error": "", "OOMKilled": False, "StartedAt": STARTED, "FinishedAt": FINISHED, **state}


def refused(error: str, code: int = 127) -> dict[str, Any]:
    """Return the state of a container that could not start."""
    return {"ExitCode": code, "Error": error, "OOMKilled": False, "StartedAt": NEVER, "FinishedAt": NEVER}


@pytest.fixture
def end(job: Make) -> Make:
    """Return a function that concludes, with nothing said but what it is given."""

    def make(state: dict[str, Any], of: JobFile | None = None, **given: Any) -> Exit:
        nothing: dict[str, Any] = {"stop": None, "hard": False, "said": [], "tail": b"", "metrics": {}, "staged": None, "image": "base"}
        return conclude(of or job(), state, **{**nothing, **given})

    return make


def test_words_are_those_of_the_local_place():
    """Marks of memory and signals of crashes are the same here and there."""
    assert module.OUT_OF_MEMORY == runner.OUT_OF_MEMORY
    assert module.CRASHES == ending.CRASHES


@given(st.binary(max_size=200), st.lists(st.sampled_from([b"\n", b"::dla:n::{}\n", b"ValueError: no\n", b"\r", b"  \n"]), max_size=5))
def test_last_line_is_the_local_one(data: bytes, lines: list[bytes]):
    """The end of a log is read as on the local place, whatever its bytes."""
    assert last_line(data + b"".join(lines)) == ending.last_line(data + b"".join(lines))


def test_success(end: Make, job: Make):
    """A job that ended well has its outputs, its metrics, what it held, and when it ran."""
    said = [{"kind": "metric", "values": {"loss": 0.5}}, {"kind": "metric", "values": {"loss": 0.25, "bad": "nan"}}, {"kind": "note"}]
    found = end(
        ran(), job(outputs=("model",)), said=said, metrics={"auc": 0.9, "loss": 9.0}, staged=Staged({"model": MODEL}, {"memory": 1.5})
    )
    assert (found.reason, found.message, found.code, found.signal) == (ExitReason.SUCCEEDED, "", 0, None)
    assert (found.outputs, found.metrics, found.peaks) == ({"model": MODEL}, {"loss": 0.25, "auc": 0.9}, {"memory": 1.5})
    assert found.ended_at - found.started_at == pytest.approx(59.623456)
    assert Exit.from_mapping(found.to_mapping()) == found


def test_outputs_that_nobody_published(end: Make, job: Make):
    """A job that ended well without its outputs is done again, by nobody's fault."""
    found = end(ran(), job(outputs=("model",)), staged=Staged())
    assert (found.reason, "model were not published" in found.message) == (ExitReason.LOST, True)
    assert end(ran(), job(outputs=("model",))).succeeded  # nobody was asked to publish them yet


@pytest.mark.parametrize(
    ("code", "tail", "reason", "told"),
    [
        (3, b"ValueError: no\n", "user_error", "python train.py exited with status 3; its log ends with: ValueError: no"),
        (1, b"", "user_error", "exited with status 1"),
        (127, b"sh: nope: not found", "user_error", "a command was not found in image base"),
        (126, b"", "user_error", "may not be executed"),
        (1, b"exec /x: exec format error", "user_error", "for another processor"),
        (
            127,
            b"[FATAL tini (7)] exec python failed: No such file or directory",
            "user_error",
            "could not start in image base: command not found: 'python'",
        ),
        (126, b"[FATAL tini (7)] exec /x failed: Permission denied", "user_error", "chmod [+]x it"),
        (255, b"", "user_error", "while it was away"),
        (1, b"x\nMemoryError\n", "out_of_memory", "python train.py ran out of memory: MemoryError; ask for more"),
        (139, b"", "user_error", "crashed with SIGSEGV"),
        (134, b"std::bad_alloc", "out_of_memory", "ran out of memory"),
        (137, b"", "killed", "ended from outside by SIGKILL"),
        (143, b"", "killed", "ended from outside by SIGTERM"),
        (1, b"\xff\xfe\x00\n", "user_error", "status 1"),
    ],
)
def test_unsaid(end: Make, code: int, tail: bytes, reason: str, told: str):
    """An end that nothing inside explained is explained by its status and its log."""
    found = end(ran(code), tail=tail)
    assert found.reason == reason
    assert re.search(told, found.message)


def test_signals_are_signals(end: Make):
    """A status that stands for a signal is told as one; others stay."""
    assert (end(ran(139)).code, end(ran(139)).signal) == (None, 11)
    assert (end(ran(255)).code, end(ran(255)).signal) == (255, None)


def test_the_runner_explains(end: Make):
    """What the runner said goes before the log, its last word before others; a reason that is none is the user's."""
    said = [{"kind": "error", "reason": "lost", "message": "a"}, {"kind": "error", "reason": "out_of_memory", "message": "b"}]
    found = end(ran(1), said=said, tail=b"ValueError")
    assert (found.reason, found.message) == (ExitReason.OUT_OF_MEMORY, "b")
    assert end(ran(1), said=[{"kind": "error", "reason": "succeeded"}]).reason is ExitReason.USER_ERROR
    assert end(ran(1), said=[{"kind": "error", "reason": ["x"]}]).reason is ExitReason.USER_ERROR


def test_out_of_memory(end: Make):
    """What the kernel killed for memory is told with the limit; a child that the job did without does no harm."""
    found = end(ran(137, OOMKilled=True), oom_kills=3)
    assert (found.reason, found.oom_kills) == (ExitReason.OUT_OF_MEMORY, 3)
    assert found.message.startswith("the kernel killed 3 of its processes under a limit of 0.5 GiB")
    assert end(ran(1, OOMKilled=True), said=[{"kind": "error", "message": "a child died"}]).reason is ExitReason.OUT_OF_MEMORY
    assert end(ran(0, OOMKilled=True)).succeeded


@pytest.mark.parametrize(
    ("state", "hard", "told"),
    [
        (ran(0), False, "preempted: it was asked to stop and ended by itself"),
        (ran(137), True, "did not end within 4.5 s and was killed"),
        (refused(""), False, "preempted before it started"),
        ({}, False, "preempted before it started"),
        (ran(137, OOMKilled=True), False, "ended by itself"),
    ],
)
def test_stopped(end: Make, state: dict[str, Any], hard: bool, told: str):
    """What was done to the work comes first, and whether it had to be killed."""
    found = end(state, stop=Stop(ExitReason.PREEMPTED, END - 5), hard=hard)
    assert found.reason is ExitReason.PREEMPTED
    assert told in found.message


def test_run_timeout(end: Make, job: Make):
    """A job that ran too long is told its limit."""
    found = end(ran(143), job(run_timeout_s=30.0), stop=Stop(ExitReason.TIMED_OUT, END - 5))
    assert found.message.startswith("ran longer than its run_timeout of 30 s and ended by itself")


def test_staging(end: Make):
    """What went wrong beside the work is told as it was, also of what never started; a stop goes before it."""
    staged = Staged(error=("lost", "the store is full"))
    assert (end({}, staged=staged).reason, end(ran(0), staged=staged).message) == (ExitReason.LOST, "the store is full")
    assert end({}, staged=staged, stop=Stop(ExitReason.STOPPED, 1.0)).reason is ExitReason.STOPPED


def test_could_not_start(end: Make):
    """What an engine says of a container that it could not start is explained; it never ran."""
    found = end(refused('runc: exec: "python": executable file not found in $PATH: unknown'))
    assert (found.reason, found.code, found.started_at) == (ExitReason.USER_ERROR, None, 0.0)
    assert found.message.startswith("could not start in image base: command not found: 'python'")
    assert end(refused("no space left on device")).reason is ExitReason.LOST


def test_gone(end: Make):
    """A container that is gone without a word is lost."""
    assert end({}).reason is ExitReason.LOST


def test_end_before_start(end: Make):
    """Of a container that ends at once an engine may write the end before the start."""
    found = end(ran(0, StartedAt="2026-11-22T23:11:51.913348829Z", FinishedAt="2026-11-22T23:11:51.911846802Z"))
    assert found.ended_at == found.started_at > 0


def test_last_values_of_what_is_no_metric():
    """Lines that a program made up do no harm."""
    assert last_values([{"kind": "metric"}, {"kind": "metric", "values": [1]}, {"values": {"a": 1}}]) == {}


JOB = JobFile(
    attempt="a.1", nonce="n", entrypoint=Entrypoint(command=("x",)), grant=Grant(id="a.1", node="n"), store="file:///x", checkpoint="a"
)
STATES = st.fixed_dictionaries(
    {},
    optional={
        "ExitCode": st.integers(0, 255),
        "Error": st.text(max_size=20),
        "OOMKilled": st.booleans(),
        "StartedAt": st.sampled_from([NEVER, STARTED, ""]),
        "FinishedAt": st.sampled_from([NEVER, FINISHED]),
    },
)
STOPS = st.none() | st.builds(Stop, st.sampled_from([ExitReason.STOPPED, ExitReason.PREEMPTED]), st.floats(0, 2 * END))
SAID = st.lists(
    st.dictionaries(
        st.sampled_from(["kind", "reason", "message", "values"]), st.sampled_from(["error", "metric", "lost", {"a": 1}]), max_size=4
    )
)


@given(state=STATES, stop=STOPS, hard=st.booleans(), said=SAID, tail=st.binary(max_size=40), oom_kills=st.integers(0, 3))
def test_every_end_is_an_exit(state: dict[str, Any], **given: Any):
    """Whatever is said, it is an exit that can be written and read; only a status of 0 succeeds, anything else has a message."""
    found = conclude(JOB, state, metrics={"a": float("nan")}, staged=None, **given)
    assert Exit.from_mapping(found.to_mapping()) == found
    if found.succeeded:
        assert (found.code, found.signal) == (0, None)
    else:
        assert found.message
