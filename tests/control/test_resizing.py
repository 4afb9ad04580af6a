"""Tests of putting a grant's target in force, with a fake runtime, a real ledger and real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from fakes.flaky_ledger import FlakyLedger, with_ledger
from fakes.runtime import FakeRuntime
from fixtures_workspace import job_spec

from airflow_dla.control import Follow, Listener, Workspace, launch, reap, run_round
from airflow_dla.control.launch import job_file
from airflow_dla.errors import LedgerUnavailable
from airflow_dla.ledger import Attempt, Decision
from airflow_dla.runtime import Launch
from airflow_dla.specs import AttemptState, ExitReason, Grant, Held


def granted(workspace: Workspace, task: str = "t", cpu: str = "4") -> Attempt:
    """Return an attempt that holds a grant of CPUs and is not launched."""
    opened = workspace.ledger.open_attempt(job_spec(task, request={"cpu": cpu, "memory": "1GiB"}))
    run_round(workspace)
    return now(workspace, opened)


def running(workspace: Workspace, task: str = "t", cpu: str = "4") -> Attempt:
    """Return an attempt that runs."""
    return launch(workspace, granted(workspace, task, cpu))


def now(workspace: Workspace, attempt: Attempt) -> Attempt:
    """Return an attempt as it is now."""
    return workspace.ledger.attempts([attempt.id])[attempt.id]


def follow(workspace: Workspace, attempt: Attempt) -> tuple[Follow, list[str]]:
    """Follow an attempt; return what its task log says, too."""
    said: list[str] = []
    return Follow(workspace, attempt, Listener(log=said.append)), said


def step(followed: Follow) -> None:
    """Let one step happen."""
    followed.step(now(followed.workspace, followed.attempt), followed.workspace.ledger.now())


def want(workspace: Workspace, attempt: Attempt, cpu: float) -> Grant:
    """Let a round want a grant changed to so many CPUs, and return it."""
    wanted: list[Grant] = []

    def decide(seen: object) -> Decision:
        held = held_of(workspace, attempt, seen)
        wanted.append(replace(held.grant, amounts={**held.grant.amounts, "cpu": cpu}, cpu_ids=(), reason=f"because {cpu:g}"))
        return Decision(targets={attempt.id: wanted[0]})

    workspace.ledger.round(decide, holder="round", lease_s=60.0, force=True)
    return wanted[0]


def held_of(workspace: Workspace, attempt: Attempt, seen: object = None) -> Held:
    """Return what an attempt holds, as a round sees it."""
    snapshot = seen or workspace.ledger.snapshot()
    return next(held for held in snapshot.held if held.grant.id == attempt.id)  # type: ignore[attr-defined]


def has(workspace: Workspace, attempt: Attempt) -> tuple[float, float | None]:
    """Return the CPUs that the ledger says are held, and wanted."""
    held = held_of(workspace, attempt)
    return held.grant.amounts["cpu"], held.target.amounts["cpu"] if held.target else None


def in_force(fake_runtime: FakeRuntime, attempt: Attempt) -> float:
    """Return the CPUs that the runtime gives."""
    return fake_runtime.attempts[attempt.id].grant.amounts["cpu"]


def test_a_shrink_is_in_force_before_it_frees_anything(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """The runtime is asked while the ledger still charges the old grant; then a waiting job gets what was freed."""
    attempt = running(workspace)
    followed, said = follow(workspace, attempt)
    other = workspace.ledger.open_attempt(job_spec("other", request={"cpu": 2}))
    want(workspace, attempt, 2.0)
    seen: list[tuple[float, float | None]] = []
    fake_runtime.on_resize = lambda _label, _grant: seen.append(has(workspace, attempt))
    run_round(workspace)
    assert now(workspace, other).state is AttemptState.WAITING
    step(followed)
    assert seen == [(4.0, 2.0)]
    assert (in_force(fake_runtime, attempt), has(workspace, attempt)) == (2.0, (2.0, None))
    run_round(workspace)
    assert now(workspace, other).state is AttemptState.GRANTED
    assert said[-1] == "Resized to 2 cpu (was 4 cpu): because 2"


def test_growth(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A larger share is put in force and confirmed like a smaller one; nothing is said twice."""
    attempt = running(workspace, cpu="1")
    followed, said = follow(workspace, attempt)
    want(workspace, attempt, 3.0)
    for _ in range(3):
        step(followed)
    assert (in_force(fake_runtime, attempt), has(workspace, attempt)) == (3.0, (3.0, None))
    assert len(fake_runtime.attempts[attempt.id].grants) == 1
    assert [line for line in said if line.startswith("Resized")] == ["Resized to 3 cpu (was 1 cpu): because 3"]


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_not_launched_starts_with_its_target(workspace: Workspace, fake_runtime: FakeRuntime, begun: bool) -> None:
    """An attempt that is granted, or whose launch was broken off, starts with what it is to become, and that is confirmed."""
    attempt = granted(workspace)
    if begun:
        workspace.ledger.begin_launch(attempt.id, holder="gone", lease_s=60.0)
    followed, _ = follow(workspace, attempt)
    want(workspace, attempt, 2.0)
    step(followed)
    assert fake_runtime.attempts[attempt.id].launch.job.grant.amounts["cpu"] == 2.0
    assert has(workspace, attempt) == (2.0, None)


def test_one_that_was_started_with_the_old_grant_is_resized(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A follower that died between submit and record had started it with the old grant: the next one changes that."""
    attempt = workspace.ledger.begin_launch(granted(workspace).id, holder="gone", lease_s=60.0)
    assert attempt.lease is not None
    fake_runtime.submit(Launch(job=job_file(workspace, attempt, attempt.lease.grant)))
    want(workspace, attempt, 2.0)
    step(follow(workspace, attempt)[0])
    assert fake_runtime.attempts[attempt.id].launch.job.grant.amounts["cpu"] == 4.0
    assert (in_force(fake_runtime, attempt), has(workspace, attempt)) == (2.0, (2.0, None))


def test_what_the_runtime_refuses_stays(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A grant that cannot be changed stays as it is and is called rigid; the job runs on."""
    attempt = running(workspace)
    followed, said = follow(workspace, attempt)
    fake_runtime.resizable = False
    want(workspace, attempt, 2.0)
    step(followed)
    assert has(workspace, attempt) == (4.0, None)
    assert held_of(workspace, attempt).rigid
    assert said[-1] == "Not resized to 2 cpu (it has 4 cpu): not possible while it runs here"
    step(followed)
    assert now(workspace, attempt).state is AttemptState.RUNNING


def test_a_confirmation_that_did_not_arrive_is_repeated(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """The ledger goes away, and the follower with it, between resize and confirmation: the next follower does both again."""
    attempt = running(workspace)
    want(workspace, attempt, 2.0)
    flaky = FlakyLedger(workspace.ledger)

    def goes_away(_label: str, _grant: Grant) -> None:
        flaky.down = True

    fake_runtime.on_resize = goes_away
    with pytest.raises(LedgerUnavailable):
        step(follow(with_ledger(workspace, flaky), attempt)[0])
    assert (in_force(fake_runtime, attempt), has(workspace, attempt)) == (2.0, (4.0, 2.0))
    step(follow(workspace, attempt)[0])
    assert (in_force(fake_runtime, attempt), has(workspace, attempt)) == (2.0, (2.0, None))


def once(do: Callable[[], object]) -> Callable[[str, Grant], None]:
    """Return a hook of the runtime that does something in the middle of the first resize."""
    left = [do]
    return lambda _label, _grant: left.pop()() if left else None  # type: ignore[func-returns-value]


def test_a_target_that_changes_while_it_is_applied(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """The later target is put in force and confirmed; the earlier one is not."""
    attempt = running(workspace)
    followed, said = follow(workspace, attempt)
    want(workspace, attempt, 2.0)
    fake_runtime.on_resize = once(lambda: want(workspace, attempt, 3.0))
    step(followed)
    assert (in_force(fake_runtime, attempt), has(workspace, attempt)) == (3.0, (3.0, None))
    assert [line for line in said if line.startswith("Resized")] == ["Resized to 3 cpu (was 4 cpu): because 3"]


def test_a_follower_that_lags_behind_does_not_undo_a_later_resize(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """While one follower is slow with a target, another confirms it and the next: the slow one puts the last in force again."""
    attempt = running(workspace)
    want(workspace, attempt, 2.0)
    slow, quick = follow(workspace, attempt)[0], follow(workspace, attempt)[0]

    def meanwhile() -> None:
        step(quick)
        want(workspace, attempt, 3.0)
        step(quick)

    fake_runtime.on_resize = once(meanwhile)
    step(slow)
    assert [grant.amounts["cpu"] for grant in fake_runtime.attempts[attempt.id].grants] == [2.0, 3.0, 2.0, 3.0]
    assert has(workspace, attempt) == (3.0, None)


def test_a_job_that_ends_while_it_is_resized(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """An end in the middle of a resize is an end, not a refusal."""
    attempt = running(workspace)
    followed, said = follow(workspace, attempt)
    want(workspace, attempt, 2.0)
    fake_runtime.on_resize = lambda label, _grant: fake_runtime.end(label)
    step(followed)
    assert not held_of(workspace, attempt).rigid
    step(followed)
    assert now(workspace, attempt).exit is not None
    assert followed.over
    assert not any("esized" in line for line in said)
    assert workspace.ledger.leases() == ()


def test_a_stop_comes_before_a_target(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """What is to stop is not resized any more."""
    attempt = running(workspace)
    followed, _ = follow(workspace, attempt)
    want(workspace, attempt, 2.0)
    workspace.ledger.want_stop(attempt.id, ExitReason.STOPPED)
    step(followed)
    assert fake_runtime.attempts[attempt.id].grants == []
    assert followed.over


def test_a_stop_in_the_middle_of_a_resize(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A stop that is wanted while a target is applied is passed on by the next step."""
    attempt = running(workspace)
    followed, _ = follow(workspace, attempt)
    want(workspace, attempt, 2.0)
    fake_runtime.on_resize = once(lambda: workspace.ledger.want_stop(attempt.id, ExitReason.STOPPED))
    step(followed)
    step(followed)
    assert followed.over
    assert workspace.ledger.leases() == ()


def test_two_followers_at_once(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A trigger and a resumed task that resize at the same moment leave one state, confirmed once."""
    attempt = running(workspace)
    both = threading.Barrier(2, timeout=10)

    def meet(_label: str, _grant: Grant) -> None:
        both.wait()

    for cpu in (2.0, 1.0):
        want(workspace, attempt, cpu)
        fake_runtime.on_resize = meet
        steps = [threading.Thread(target=step, args=[follow(workspace, now(workspace, attempt))[0]]) for _ in range(2)]
        for thread in steps:
            thread.start()
        for thread in steps:
            thread.join()
        fake_runtime.on_resize = lambda _label, _grant: None
        assert (in_force(fake_runtime, attempt), has(workspace, attempt)) == (cpu, (cpu, None))
    assert len(workspace.ledger.history(subject=attempt.id, kind="grant.resized")) == 2


def test_the_reaper_leaves_a_suspects_target_alone(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A live attempt whose follower died keeps its grant and its target; the next follower applies it."""
    attempt = running(workspace)
    want(workspace, attempt, 2.0)
    workspace.ledger.renew([attempt.id], holder="dead", lease_s=-1.0)
    run_round(workspace)
    reap(replace(workspace, timing=replace(workspace.timing, reap_s=0.0)))
    assert has(workspace, attempt) == (4.0, 2.0)
    assert fake_runtime.attempts[attempt.id].grants == []
    step(follow(workspace, attempt)[0])
    assert has(workspace, attempt) == (2.0, None)
