"""What every runtime must do; one class of tests that each implementation's test module inherits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from airflow_dla.errors import LaunchRefused, NotReady
from airflow_dla.runtime import Handle, Launch, Runtime, Status
from airflow_dla.specs import Exit, ExitReason, Grant, JobFile
from airflow_dla.specs.agents import Entrypoint


def job_file(attempt: str = "job.1", entrypoint: Any = "work:wait", **fields: Any) -> JobFile:
    """Return a job that asks for one CPU and 256 MiB."""
    given = {
        "nonce": "n0nce",
        "grant": Grant(id=attempt, node="laptop", amounts={"cpu": 1.0, "memory": 0.25}),
        "store": "file:///nowhere",
        "checkpoint": attempt.partition(".")[0],
        "grace_s": 5.0,
        **fields,
    }
    return JobFile(attempt=attempt, entrypoint=Entrypoint.parse(entrypoint, "entrypoint"), **given)


def wait_until(condition: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    """Return the first true value of a condition."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {timeout_s} s")


def submitted(runtime: Runtime, launch: Launch, timeout_s: float = 30.0) -> Handle:
    """Submit as a follower does: again, while the launch goes on beside us."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return runtime.submit(launch)
        except NotReady:
            assert time.monotonic() < deadline, f"{launch.job.attempt} was not launched within {timeout_s} s"
            time.sleep(0.02)


def ended(runtime: Runtime, attempt: str, timeout_s: float = 15.0) -> Exit:
    """Wait for an attempt's end and return it."""

    def exit_() -> Exit | None:
        status: Status = runtime.status(attempt)
        assert status.alive or status.exit, f"{attempt} is lost"
        return status.exit

    found: Exit = wait_until(exit_, timeout_s)
    return found


def ran(runtime: Runtime, launch: Launch) -> Exit:
    """Run a launch to its end; a refused one ends so, as a follower has it."""
    try:
        submitted(runtime, launch, 60)
    except LaunchRefused as refused:
        return Exit(reason=ExitReason.REFUSED, message=str(refused))
    return ended(runtime, launch.job.attempt, 60)


class RuntimeContract:
    """Inherit it and give three fixtures.

    ``runtime``
        the implementation, empty;
    ``waiting``
        ``(attempt) -> Launch`` of a job that says ``ready`` in its log and runs until it is told to end;
    ``finish``
        ``(attempt) -> None`` tells it to end with success.
    """

    def test_never_submitted_is_neither_alive_nor_ended(self, runtime: Runtime):
        """A label that was never seen has no status, no log and is not listed."""
        assert runtime.status("never.1") == Status(alive=False)
        assert runtime.logs("never.1", 0).data == b""
        assert "never.1" not in runtime.jobs()

    def test_plan_sends_nothing(self, runtime: Runtime, waiting: Callable[[str], Launch]):
        """A plan names the limits and starts nothing."""
        plan = runtime.plan(waiting("job.1"))
        assert plan["limits"] == {"cpu": 1.0, "memory": 0.25}
        assert runtime.jobs() == {}

    def test_life(self, runtime: Runtime, waiting: Callable[[str], Launch], finish: Callable[[str], None]):
        """An attempt is alive until it ends, is listed throughout, and its exit stays."""
        submitted(runtime, waiting("job.1"))
        assert runtime.status("job.1").alive
        assert runtime.jobs() == {"job.1": True}
        finish("job.1")
        assert ended(runtime, "job.1").succeeded
        assert runtime.jobs() == {"job.1": False}
        assert runtime.status("job.1").exit == runtime.status("job.1").exit

    def test_submit_is_idempotent(self, runtime: Runtime, waiting: Callable[[str], Launch], finish: Callable[[str], None]):
        """A second submit returns the first one's handle, also after the end, and starts nothing."""
        first = submitted(runtime, waiting("job.1"))
        assert submitted(runtime, waiting("job.1")) == first
        finish("job.1")
        before = ended(runtime, "job.1")
        assert submitted(runtime, waiting("job.1")) == first
        assert runtime.status("job.1").exit == before

    def test_logs_by_offset(self, runtime: Runtime, waiting: Callable[[str], Launch], finish: Callable[[str], None]):
        """Slices put together are the whole log; past its end there is nothing."""
        submitted(runtime, waiting("job.1"))
        wait_until(lambda: b"ready" in runtime.logs("job.1", 0).data)
        finish("job.1")
        ended(runtime, "job.1")
        whole = runtime.logs("job.1", 0)
        piece = runtime.logs("job.1", 0, limit=3)
        assert (len(piece.data), piece.offset) == (3, 3)
        assert piece.data + runtime.logs("job.1", 3).data == whole.data
        assert runtime.logs("job.1", whole.offset) == runtime.logs("job.1", whole.offset).__class__(b"", whole.offset)

    def test_cancel(self, runtime: Runtime, waiting: Callable[[str], Launch]):
        """A running attempt ends for the reason given; the first reason counts, later ones change nothing."""
        submitted(runtime, waiting("job.1"))
        wait_until(lambda: b"ready" in runtime.logs("job.1", 0).data)
        runtime.cancel("job.1", ExitReason.PREEMPTED)
        runtime.cancel("job.1", ExitReason.STOPPED)
        assert ended(runtime, "job.1").reason is ExitReason.PREEMPTED
        runtime.cancel("job.1", ExitReason.STOPPED)
        assert ended(runtime, "job.1").reason is ExitReason.PREEMPTED

    def test_cancel_before_submit(self, runtime: Runtime, waiting: Callable[[str], Launch]):
        """An attempt cancelled before it came never starts, and says why it ended."""
        runtime.cancel("job.1", ExitReason.STOPPED)
        submitted(runtime, waiting("job.1"))
        status = runtime.status("job.1")
        assert not status.alive
        assert status.exit is not None
        assert status.exit.reason is ExitReason.STOPPED
        assert not runtime.jobs().get("job.1", False)

    def test_cancel_after_the_end(self, runtime: Runtime, waiting: Callable[[str], Launch], finish: Callable[[str], None]):
        """A stop that comes too late does not change how it ended."""
        submitted(runtime, waiting("job.1"))
        finish("job.1")
        assert ended(runtime, "job.1").succeeded
        runtime.cancel("job.1", ExitReason.STOPPED)
        assert ended(runtime, "job.1").succeeded

    def test_resize_of_what_does_not_run(self, runtime: Runtime, waiting: Callable[[str], Launch], finish: Callable[[str], None]):
        """Nothing can be resized that never ran, or has ended."""
        assert runtime.resize("never.1", job_file("never.1").grant) is False
        submitted(runtime, waiting("job.1"))
        finish("job.1")
        ended(runtime, "job.1")
        assert runtime.resize("job.1", job_file("job.1").grant) is False

    def test_resize_can_be_repeated(self, runtime: Runtime, waiting: Callable[[str], Launch], finish: Callable[[str], None]):
        """A grant that is in force already is put in force again: whoever did it before may not have said so."""
        launch = waiting("job.1")
        submitted(runtime, launch)
        wait_until(lambda: b"ready" in runtime.logs("job.1", 0).data)
        answers = {runtime.resize("job.1", launch.job.grant) for _ in range(2)}
        assert answers == {True}
        finish("job.1")
        assert ended(runtime, "job.1").succeeded
