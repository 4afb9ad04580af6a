"""Tests of following many jobs from one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from fakes.flaky_ledger import FlakyLedger, with_ledger
from fakes.runtime import FakeRuntime
from fixtures_workspace import job_spec

from airflow_dla.control import Crew, Follow, Listener, Workspace, run_round
from airflow_dla.errors import DlaError, PlaceUnavailable
from airflow_dla.ledger import Attempt
from airflow_dla.specs import AttemptState, ExitReason


class TellingRuntime(FakeRuntime):
    """Tells ends when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()
        self.awaited: list[str] = []
        self.silence: DlaError | None = None

    def await_end(self, attempt: str, timeout_s: float) -> None:
        """Wait for `told`."""
        self.awaited.append(attempt)
        if self.silence is not None:
            raise self.silence
        self.told.wait(timeout_s)


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)


def state(workspace: Workspace, attempt: str) -> AttemptState:
    """Return an attempt's state."""
    return workspace.ledger.attempts([attempt])[attempt].state


def follow(crew: Crew, task: str, ended: list[Attempt]) -> str:
    """Open an attempt and let the crew follow it; return its id."""
    return joined(crew, task, ended).attempt.id


def joined(crew: Crew, task: str, ended: list[Attempt]) -> Follow:
    """Open an attempt and let the crew follow it."""
    followed = Follow(crew.workspace, crew.workspace.ledger.open_attempt(job_spec(task)), Listener(ended=ended.append))
    crew.join(followed)
    return followed


def test_many_jobs_more_than_fit_all_end(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Twelve jobs on four CPUs run four at a time until all have ended."""
    crew, ended = Crew(workspace), []
    attempts = [follow(crew, f"t{index}", ended) for index in range(12)]
    while len(ended) < 12:
        running = [label for label, alive in fake_runtime.jobs().items() if alive]
        assert len(running) <= 4
        for label in running:
            fake_runtime.end(label)
        time.sleep(0.01)
    assert {attempt.id for attempt in ended} == set(attempts)
    assert sorted(fake_runtime.submits) == sorted(attempts)


def test_leaving_lets_the_job_run_on(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Who leaves hears nothing more, and nothing is stopped."""
    crew, ended = Crew(workspace), []
    followed = joined(crew, "t", ended)
    attempt = followed.attempt.id
    until(lambda: attempt in fake_runtime.attempts)
    assert crew.leave(followed).wait(10)
    assert crew.leave(followed).wait(10)
    fake_runtime.end(attempt)
    time.sleep(0.1)
    assert state(workspace, attempt) is AttemptState.RUNNING
    assert ended == []


def test_a_job_that_was_left_can_be_stopped(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Leaving and then stopping, as a killed trigger does, ends the job and frees its grant."""
    crew, ended = Crew(workspace), []
    followed = joined(crew, "t", ended)
    attempt = followed.attempt.id
    until(lambda: attempt in fake_runtime.attempts)
    crew.leave(followed)
    crew.join_and_stop(Follow(workspace, workspace.ledger.attempts([attempt])[attempt], Listener()), ExitReason.STOPPED)
    until(lambda: state(workspace, attempt) is AttemptState.ENDED)
    assert fake_runtime.cancels[0] == (attempt, ExitReason.STOPPED)
    assert workspace.ledger.leases() == ()


def test_a_kill_that_comes_late_does_not_end_the_next_trys_following(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """The kill of a cleared try stops that try's attempt; who follows the next one hears its end."""
    crew, ended = Crew(workspace), []
    old = joined(crew, "t", [])
    until(lambda: old.attempt.id in fake_runtime.attempts)
    fake_runtime.end(old.attempt.id, ExitReason.KILLED)
    until(lambda: state(workspace, old.attempt.id) is AttemptState.ENDED)
    new = joined(crew, "t", ended)
    crew.join_and_stop(Follow(workspace, old.attempt, Listener()), ExitReason.STOPPED)
    until(lambda: new.attempt.id in fake_runtime.attempts)
    fake_runtime.end(new.attempt.id)
    until(lambda: bool(ended))
    assert new.attempt.number == 2


def test_leases_are_renewed_while_jobs_run(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A lease moves on with every renewal."""
    crew = Crew(workspace)
    attempt = follow(crew, "t", [])
    until(lambda: attempt in fake_runtime.attempts)
    (before,) = workspace.ledger.leases()
    until(lambda: workspace.ledger.leases()[0].expires_at > before.expires_at)


def test_what_is_granted_is_launched_before_leases_are_renewed(workspace: Workspace) -> None:
    """Nothing is written before the launch that it can do without; all who are followed are renewed in the same turn."""
    counting = FlakyLedger(workspace.ledger)
    crew = Crew(with_ledger(workspace, counting))
    opened = workspace.ledger.open_attempt(job_spec("t"))
    run_round(workspace)
    crew._inbox.append(("join", Follow(crew.workspace, workspace.ledger.attempts([opened.id])[opened.id], Listener()), None))
    crew.turn()
    assert counting.calls[:3] == ["attempts", "now", "begin_launch"]
    assert counting.calls.index("renew") > counting.calls.index("record_launch")


def test_an_end_that_is_told_is_not_looked_for(workspace: Workspace) -> None:
    """What a runtime tells in time is looked at once, however often others are looked at meanwhile."""
    telling, timing = TellingRuntime(), replace(workspace.timing, poll_s=60.0, eager_s=60.0)
    crew, ended = Crew(replace(workspace, runtimes=dict.fromkeys(workspace.runtimes, telling), timing=timing)), []
    attempt = workspace.ledger.open_attempt(job_spec("t")).id
    run_round(workspace)
    crew.join(Follow(crew.workspace, workspace.ledger.attempts([attempt])[attempt], Listener(ended=ended.append)))
    until(lambda: telling.awaited == [attempt])
    time.sleep(0.1)
    assert telling.looks[attempt] == 0
    telling.end(attempt)
    telling.told.set()
    until(lambda: bool(ended))
    assert telling.looks[attempt] == 1
    assert telling.awaited == [attempt]


def test_an_end_that_cannot_be_told_is_looked_for(workspace: Workspace) -> None:
    """A runtime that does not answer is asked to tell once; whoever looks finds the end."""
    telling = TellingRuntime()
    telling.silence = PlaceUnavailable("no answer")
    crew, ended = Crew(replace(workspace, runtimes=dict.fromkeys(workspace.runtimes, telling))), []
    attempt = follow(crew, "t", ended)
    until(lambda: telling.looks[attempt] > 2)
    telling.end(attempt)
    until(lambda: bool(ended))
    assert telling.awaited == [attempt]


def test_a_ledger_that_is_down_stops_nothing(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """While the ledger does not answer jobs run on; their ends are recorded when it is back."""
    flaky = FlakyLedger(workspace.ledger)
    crew, ended = Crew(with_ledger(workspace, flaky)), []
    attempt = follow(crew, "t", ended)
    until(lambda: attempt in fake_runtime.attempts)
    flaky.down = True
    fake_runtime.end(attempt)
    time.sleep(0.2)
    assert ended == []
    flaky.down = False
    until(lambda: bool(ended))
    assert fake_runtime.cancels == []


def test_a_turn_costs_two_reads_however_many_wait(workspace: Workspace) -> None:
    """Waiting jobs share one round and one read."""
    counting = FlakyLedger(workspace.ledger)
    crew = Crew(with_ledger(workspace, counting))
    for index in range(30):
        opened = workspace.ledger.open_attempt(job_spec(f"t{index}", request={"cpu": 4}))
        crew._follows[Follow(crew.workspace, opened, Listener())] = None
    crew.turn()
    crew.turn()
    counting.calls.clear()
    crew._renewed_at = time.monotonic()
    crew.turn()
    assert sorted(counting.calls) == ["attempts", "round"]


def test_a_round_comes_also_where_nobody_waits(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """What was shed is given back by a round, and those who run are there to hold it: as often as leases are renewed."""
    counting = FlakyLedger(workspace.ledger)
    crew = Crew(with_ledger(workspace, counting))
    attempt = follow(crew, "t", [])
    until(lambda: attempt in fake_runtime.attempts)
    counting.calls.clear()
    until(lambda: counting.calls.count("renew") >= 3)
    assert counting.calls.count("round") >= 2
    assert counting.calls.count("round") <= counting.calls.count("renew") + 1


@pytest.mark.parametrize("turns", [200])
def test_turns_leave_no_threads_behind(workspace: Workspace, turns: int) -> None:
    """The pools are bounded."""
    crew = Crew(workspace)
    before = threading.active_count()
    for _ in range(turns):
        crew.turn()
    assert threading.active_count() <= before + 8


def test_what_runs_calmly_is_not_looked_at_whenever_another_is_in_a_hurry(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A job that was begun long ago is stepped as often as the ledger is polled, one that is young in every turn."""
    crew = Crew(replace(workspace, timing=replace(workspace.timing, poll_s=60.0, eager_s=0.0, hasty_s=0.0)))
    follows = [Follow(crew.workspace, workspace.ledger.open_attempt(job_spec(name)), Listener()) for name in ("old", "young")]
    crew._follows.update(dict.fromkeys(follows))
    until(lambda: crew.turn() == 0.0 and len(fake_runtime.attempts) == 2)
    old, young = follows
    old.began = old._launched_at = float("-inf")
    crew.turn()
    looks = {follow.attempt.id: fake_runtime.looks[follow.attempt.id] for follow in follows}
    for _ in range(3):
        crew.turn()
    assert fake_runtime.looks[old.attempt.id] == looks[old.attempt.id]
    assert fake_runtime.looks[young.attempt.id] == looks[young.attempt.id] + 3
    crew.stop(old, ExitReason.STOPPED)
    crew.turn()
    assert fake_runtime.looks[old.attempt.id] > looks[old.attempt.id]
