"""What every place must do with grants of jobs in images: held while anything runs, free when it is gone, whoever looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from contracts.runtime import submitted, wait_until
from fixtures_workspace import job_spec
from meeting import MEET

from airflow_dla.control import Crew, Follow, Listener, Workspace, begun, following, launch, reap, run_round, ship_code
from airflow_dla.errors import NotReady
from airflow_dla.ledger import Attempt
from airflow_dla.runtime import Launch
from airflow_dla.specs import ExitReason

#: A program that goes on until it is ended, and what each of these jobs asks for.
LAST = ("sh", "-c", "echo on; while :; do sleep 0.1; done")
SMALL = {"cpu": 0.1, "memory": "128MiB"}
_PATIENCE_S = 110.0


def follow(place: Workspace, *command: str, lines: list[str] | None = None, **policy: Any) -> Follow:
    """Begin to follow a job of small grant."""
    spec = job_spec(entrypoint=list(command), request=SMALL, policy=policy)
    return Follow(place, place.ledger.open_attempt(spec), Listener(log=(lines if lines is not None else []).append))


def steps(one: Follow, until: Callable[[], Any]) -> None:
    """Follow until something is true."""
    deadline = time.monotonic() + _PATIENCE_S
    while not until():
        assert time.monotonic() < deadline, one.attempt
        run_round(one.workspace)
        one.step(one.workspace.ledger.attempts([one.attempt.id])[one.attempt.id], one.workspace.ledger.now())
        time.sleep(0.02)


def launched(place: Workspace, attempt: Attempt) -> Attempt | None:
    """Launch as a follower would that dies right after."""
    try:
        return launch(place, attempt)
    except NotReady:
        return None


class GrantsContract:
    """Inherit it and give two fixtures and what differs of a place.

    ``place``
        a workspace whose one place it is;
    ``runtime``
        its runtime.

    Attributes
    ----------
    no_image : str
        One that can never be had.
    limits : str
        What it says of limits that are in force.
    early_s, late_s : float
        Seconds that it may be off when it ends a program whose grace is over.
    """

    no_image: ClassVar[str]
    limits: ClassVar[str] = ""
    early_s: ClassVar[float] = 0.0
    late_s: ClassVar[float] = 5.0

    def test_to_its_end(self, place: Workspace):
        """The log is passed on, the end recorded, the grant freed."""
        lines: list[str] = []
        one = follow(place, "sh", "-c", "echo one; echo two >&2", lines=lines)
        steps(one, lambda: one.over)
        assert one.attempt.exit is not None
        assert one.attempt.exit.succeeded
        assert {"one", "two"} <= set(lines)
        assert any(self.limits in line for line in lines)
        assert place.ledger.leases() == ()

    def test_refused(self, place: Workspace, runtime: Any):
        """An image that cannot be ends the job without another attempt, and its grant is free."""
        runtime.place = replace(runtime.place, image=self.no_image)
        one = follow(place, "true")
        steps(one, lambda: one.over)
        assert one.attempt.exit is not None
        assert (one.attempt.exit.reason, one.attempt.number) == (ExitReason.REFUSED, 1)
        assert place.ledger.leases() == ()

    def test_held_until_it_is_gone(self, place: Workspace, runtime: Any):
        """A deaf job that is preempted holds its grant for its grace, then goes on as another attempt of the same try."""
        lines: list[str] = []
        one = follow(place, "sh", "-c", f"trap '' TERM; {LAST[-1]}", lines=lines, grace=2, preemptible=True)
        steps(one, lambda: "on" in lines)
        first, began = one.attempt.id, time.monotonic()
        place.ledger.want_stop(first, ExitReason.PREEMPTED)

        def gone() -> bool:
            held = first in {lease.grant.id for lease in place.ledger.leases()}
            if held or not runtime.status(first).alive:
                return not held
            raise AssertionError("its grant was freed while it ran")

        steps(one, gone)
        assert 2.0 - self.early_s <= time.monotonic() - began <= 2.0 + self.late_s
        one.stop(ExitReason.STOPPED)
        steps(one, lambda: one.over)
        assert one.attempt.number == 2
        assert place.ledger.leases() == ()

    def test_orphan(self, place: Workspace, runtime: Any, stray: Launch):
        """What runs and no attempt owns is stopped by the reaper, and collected when its time has come; its log is kept."""
        submitted(runtime, stray, 60)
        attempt = stray.job.attempt
        wait_until(lambda: runtime.logs(attempt, 0).data)
        hasty = replace(place, timing=replace(place.timing, reap_s=0.0))

        def reaped(true: Callable[[], bool]) -> bool:
            reap(hasty)
            return true()

        wait_until(lambda: reaped(lambda: not runtime.jobs()[attempt]), 60)
        runtime.place = replace(runtime.place, keep_s=-1.0)
        wait_until(lambda: reaped(lambda: runtime.kept() == {}), 60)
        assert runtime.logs(attempt, 0).data == b"on\n"

    def test_run_timeout_without_a_follower(self, place: Workspace):
        """A job whose follower is gone is ended by the reaper when its time is over, and its grant is free."""
        attempt = place.ledger.open_attempt(job_spec(entrypoint=list(LAST), request=SMALL, policy={"run_timeout": 1, "grace": 0.5}))
        run_round(place)
        dead = replace(place, timing=replace(place.timing, lease_s=-1.0, reap_s=0.0))
        wait_until(lambda: launched(dead, attempt), 60)

        def over() -> Attempt | None:
            reap(dead)
            found = place.ledger.attempts([attempt.id])[attempt.id]
            return found if found.ended else None

        assert wait_until(over, 60).exit.reason is ExitReason.TIMED_OUT
        assert place.ledger.leases() == ()


class MembersContract:
    """Inherit it and give ``place`` and ``runtime``, as to `GrantsContract`; jobs of its image need a Python."""

    @pytest.fixture
    def meet(self, place: Workspace, tmp_path: Path) -> Callable[..., tuple[Attempt, list[str]]]:
        """Return a function that runs two members to their end, with arguments of theirs."""
        (tmp_path / "meeting").mkdir()
        (tmp_path / "meeting" / "work.py").write_text(MEET)
        code = ship_code(place, tmp_path / "meeting")
        assert code is not None

        def meet_(**args: Any) -> tuple[Attempt, list[str]]:
            given = {"entrypoint": "work:meet", "args": args, "outputs": ["model"], "code": code.to_mapping(), "request": SMALL}
            spec = begun(job_spec("meeting", distributed={"nodes": 2}, policy={"grace": 1}, **given), next(iter(place.runtimes)))
            lines: list[str] = []
            over: list[Attempt] = []
            Crew(place).join(following(place, place.ledger.open_attempt(spec), Listener(lines.append, over.append)))
            wait_until(lambda: over, _PATIENCE_S)
            assert place.ledger.leases() == ()
            return over[0], lines

        return meet_

    def test_members_reach_each_other(self, meet: Callable[..., tuple[Attempt, list[str]]]):
        """The second is told the address of the first; what the first measured and wrote is the job's."""
        attempt, lines = meet()
        assert attempt.exit is not None
        assert attempt.exit.succeeded, (attempt.exit, lines)
        assert dict(attempt.exit.metrics) == {"total": 3.0, "ranks": 2.0}
        assert set(attempt.exit.outputs) == {"model"}

    def test_one_that_fails_ends_the_other(self, meet: Callable[..., tuple[Attempt, list[str]]], runtime: Any):
        """Nobody waits for a rank that is gone."""
        began = time.monotonic()
        attempt, _ = meet(fails=1)
        assert attempt.exit is not None
        assert "this rank gives up" in attempt.exit.message
        wait_until(lambda: not any(runtime.jobs().values()), 30)
        assert time.monotonic() - began < 58  # a member that nobody ended sleeps for a minute
