"""Tests of following one job, with a fake runtime and a real ledger."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fakes.flaky_ledger import FlakyLedger, with_ledger
from fakes.runtime import FakeRuntime
from fixtures_workspace import job_spec

from airflow_dla.control import Follow, Listener, Timing, Workspace, run_round
from airflow_dla.errors import JobLost, LaunchRefused, LedgerUnavailable, NotReady, PlaceUnavailable
from airflow_dla.ledger import Attempt, Decision, SqlLedger
from airflow_dla.specs import AttemptState, Exit, ExitReason, JobSpec


@dataclass
class Heard:
    """What a listener was told."""

    lines: list[str] = field(default_factory=list)
    ended: list[Attempt] = field(default_factory=list)

    def listener(self) -> Listener:
        """Return the listener that fills this."""
        return Listener(log=self.lines.append, ended=self.ended.append)


def begin(workspace: Workspace, spec: JobSpec | None = None, **more: float) -> tuple[Follow, Heard]:
    """Open an attempt and follow it."""
    heard = Heard()
    return Follow(workspace, workspace.ledger.open_attempt(spec or job_spec()), heard.listener(), **more), heard


def step(follow: Follow, *, now: float | None = None) -> None:
    """Let a round and one step happen."""
    run_round(follow.workspace)
    ledger = follow.workspace.ledger
    follow.step(ledger.attempts([follow.attempt.id])[follow.attempt.id], ledger.now() if now is None else now)


def test_a_job_from_grant_to_end(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """It is launched when granted, its log passed on, its end recorded and its grant freed."""
    follow, heard = begin(workspace)
    step(follow)
    attempt = follow.attempt.id
    assert follow.attempt.state is AttemptState.RUNNING
    fake_runtime.write(attempt, b"epoch 1\nepo")
    step(follow)
    fake_runtime.write(attempt, b"ch 2")
    fake_runtime.end(attempt, metrics={"loss": 0.5})
    step(follow)
    assert follow.over
    assert [line for line in heard.lines if line.startswith("epoch")] == ["epoch 1", "epoch 2"]
    assert heard.ended[0].exit == Exit(reason=ExitReason.SUCCEEDED, metrics={"loss": 0.5})
    assert workspace.ledger.leases() == ()


class Levels(FlakyLedger):
    """Remembers which launches may be forgotten in a power cut."""

    def __init__(self, ledger: SqlLedger) -> None:
        super().__init__(ledger)
        self.near: list[bool] = []

    def begin_launch(self, attempt: str, *, near: bool, **how: Any) -> Attempt:
        """Hand it on."""
        self.near.append(near)
        return self._ledger.begin_launch(attempt, near=near, **how)  # type: ignore[no-any-return]


@pytest.mark.parametrize("far", [True, False])
def test_what_may_outlive_this_machine_is_launched_once_that_is_on_its_disk(workspace: Workspace, *, far: bool) -> None:
    """A process here dies in a power cut together with the ledger, a container of an engine elsewhere does not."""
    levels = Levels(workspace.ledger)
    place = replace(with_ledger(workspace, levels), everywhere=frozenset(workspace.runtimes if far else ()))
    follow, _ = begin(place)
    step(follow)
    assert follow.attempt.state is AttemptState.RUNNING
    assert levels.near == [not far]


def test_standard_error_is_told_apart(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Where a place tells it apart, it is told to those who ask for it, and to the log of those who do not."""
    follow, heard = begin(workspace)
    errors: list[str] = []
    step(follow)
    attempt = follow.attempt.id
    fake_runtime.write(attempt, b"epoch 1\n")
    fake_runtime.write(attempt, b"slow disk\n", error=True)
    step(follow)
    assert heard.lines[-2:] == ["epoch 1", "slow disk"]
    follow.listener = replace(heard.listener(), error=errors.append)
    fake_runtime.write(attempt, b"late\n", error=True)
    fake_runtime.write(attempt, b"epoch 2\n")
    step(follow)
    assert (errors, heard.lines[-1]) == (["late"], "epoch 2")


def test_a_reconnect_goes_on_where_the_log_was_left(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A second follower repeats nothing that the first had passed on and saved."""
    follow, _ = begin(workspace)
    step(follow)
    fake_runtime.write(follow.attempt.id, b"one\n")
    step(follow)
    workspace.ledger.save_offsets({follow.attempt.id: follow.offset})
    heard = Heard()
    again = Follow(workspace, workspace.ledger.open_attempt(job_spec()), heard.listener())
    fake_runtime.write(again.attempt.id, b"two\n")
    step(again)
    assert "one" not in heard.lines
    assert "two" in heard.lines
    assert fake_runtime.submits == [again.attempt.id]


def test_a_lost_attempt_is_tried_again_inside_the_same_try(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A process that disappears costs an attempt, not an Airflow retry."""
    follow, heard = begin(workspace)
    step(follow)
    first = follow.attempt.id
    fake_runtime.lose(first)
    for _ in range(3):
        step(follow)
    assert workspace.ledger.attempts([first])[first].exit is not None
    assert follow.attempt.number == 2
    step(follow)
    fake_runtime.end(follow.attempt.id)
    step(follow)
    assert heard.ended[0].number == 2
    assert any("trying again (1 of 3)" in line for line in heard.lines)


def test_losses_are_not_tried_again_for_ever(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """After infra_retries the loss is told."""
    follow, heard = begin(workspace, job_spec(policy={"infra_retries": 1}))
    for _ in range(12):
        step(follow)
        if follow.over:
            break
        if follow.attempt.id in fake_runtime.attempts:
            fake_runtime.lose(follow.attempt.id)
    assert heard.ended[0].exit is not None
    assert heard.ended[0].exit.reason is ExitReason.LOST
    assert heard.ended[0].number == 2


def test_one_glance_without_an_answer_is_no_loss(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """An exit that is written between two looks is found by the next."""
    follow, heard = begin(workspace)
    step(follow)
    fake_runtime.lose(follow.attempt.id)
    step(follow)
    fake_runtime.attempts[follow.attempt.id].lost = False
    fake_runtime.end(follow.attempt.id)
    step(follow)
    assert heard.ended[0].exit is not None
    assert heard.ended[0].exit.succeeded


@pytest.mark.parametrize(("policy", "reason"), [({"wait_timeout": 5}, ExitReason.TIMED_OUT)])
def test_a_wait_has_an_end(workspace: Workspace, policy: dict[str, float], reason: ExitReason) -> None:
    """A job that is not granted in time ends without ever starting."""
    workspace.ledger.open_attempt(job_spec("hog", request={"cpu": 4}))
    run_round(workspace)
    follow, heard = begin(workspace, job_spec(policy=policy))
    step(follow)
    assert not follow.over
    step(follow, now=follow.attempt.created_at + 6)
    assert heard.ended[0].exit is not None
    assert heard.ended[0].exit.reason is reason
    assert any("Waiting for resources" in line for line in heard.lines)


def test_a_deadline_stops_a_running_job(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """The task's execution_timeout, as an absolute time, ends the job with its own reason."""
    follow, heard = begin(workspace, deadline=100.0)
    step(follow, now=99.0)
    step(follow, now=101.0)
    step(follow, now=102.0)
    assert fake_runtime.cancels[0] == (heard.ended[0].id, ExitReason.TIMED_OUT)
    assert heard.ended[0].exit is not None
    assert heard.ended[0].exit.reason is ExitReason.TIMED_OUT


def test_a_stop_before_the_launch_starts_nothing(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """An attempt stopped while it waits never reaches the runtime."""
    follow, heard = begin(workspace)
    follow.stop(ExitReason.STOPPED)
    step(follow)
    assert heard.ended
    assert fake_runtime.submits == []


def test_a_stop_reaches_the_runtime_though_the_ledger_is_down(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Killing a task stops its job at once; the ledger is told later."""
    follow, _ = begin(workspace)
    step(follow)

    class Down:
        def want_stop(self, attempt: str, reason: ExitReason) -> Attempt:
            raise LedgerUnavailable(attempt)

    broken = Workspace(**{**fields_of(workspace), "ledger": Down()})
    follow.workspace = broken
    with pytest.raises(LedgerUnavailable):
        follow.stop(ExitReason.STOPPED)
    assert fake_runtime.cancels == [(follow.attempt.id, ExitReason.STOPPED)]


def fields_of(workspace: Workspace) -> dict[str, object]:
    """Return a workspace's fields by name."""
    return {name: getattr(workspace, name) for name in Workspace.__dataclass_fields__}


def test_a_job_stopped_under_its_next_try_begins_again(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """When a cleared task's new try takes over before the old one's kill arrives, it starts another attempt."""
    follow, _ = begin(workspace)
    step(follow)
    heard = Heard()
    second_try = Follow(workspace, workspace.ledger.open_attempt(job_spec()), heard.listener(), inherited_until=workspace.ledger.now() + 30)
    follow.stop(ExitReason.STOPPED)
    step(second_try)
    assert not second_try.over
    assert second_try.attempt.number == 2
    step(second_try)
    fake_runtime.end(second_try.attempt.id)
    step(second_try)
    assert heard.ended[0].exit is not None
    assert heard.ended[0].exit.succeeded


def test_a_stop_from_elsewhere_is_final(workspace: Workspace) -> None:
    """What a person stops on the command line does not begin again, though a trigger follows it."""
    follow, heard = begin(workspace)
    step(follow)
    restarted = Follow(workspace, follow.attempt, heard.listener())
    workspace.ledger.want_stop(follow.attempt.id, ExitReason.STOPPED)
    step(restarted)
    assert restarted.over
    assert heard.ended[0].number == 1


def preempt(follow: Follow, why: str = "for d.big (run r), priority 9") -> None:
    """Let a round stop a job for another."""
    decision = Decision(preempted={follow.attempt.id: why})
    follow.workspace.ledger.round(lambda _seen: decision, holder="round", lease_s=60.0, force=True)


def test_a_preempted_job_goes_on_in_the_same_try(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """It is stopped for the reason given, asks again at once with its old age, and runs again; no infra retry is used."""
    follow, heard = begin(workspace, job_spec(policy={"infra_retries": 0, "preemptible": True}))
    step(follow)
    first = follow.attempt
    preempt(follow)
    step(follow)
    assert fake_runtime.cancels == [(first.id, ExitReason.PREEMPTED)]
    assert (follow.attempt.number, follow.attempt.state) == (2, AttemptState.WAITING)
    (waiting,) = workspace.ledger.snapshot().pending
    assert (waiting.id, waiting.created_at) == (follow.attempt.id, first.created_at)
    step(follow)
    fake_runtime.end(follow.attempt.id)
    step(follow)
    assert [(attempt.number, attempt.exit.reason) for attempt in heard.ended if attempt.exit] == [(2, ExitReason.SUCCEEDED)]
    assert any("Preempted: for d.big (run r), priority 9; it has 30 s" in line for line in heard.lines)
    assert any("Attempt 1 made way (asked to stop)" in line for line in heard.lines)


def test_a_job_may_be_preempted_often(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Preemptions are counted by nobody here, and the age is that of the first attempt; a loss in between counts."""
    follow, heard = begin(workspace, job_spec(policy={"infra_retries": 1, "preemptible": True}))
    asked_at = follow.attempt.created_at
    for _ in range(5):
        step(follow)
        preempt(follow)
        step(follow)
    step(follow)
    fake_runtime.lose(follow.attempt.id)
    for _ in range(3):
        step(follow)
    step(follow)
    fake_runtime.end(follow.attempt.id)
    step(follow)
    assert heard.ended[0].number == 7
    assert heard.ended[0].spec.lineage == {"infra_retry": 1, "asked_at": asked_at}


def test_one_that_was_not_launched_makes_way_without_a_trace(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A grant that is taken back before the launch costs nothing: the next attempt waits."""
    follow, _ = begin(workspace, job_spec(policy={"preemptible": True}))
    run_round(workspace)
    preempt(follow)
    ledger = workspace.ledger
    follow.step(ledger.attempts([follow.attempt.id])[follow.attempt.id], ledger.now())
    assert (follow.attempt.number, follow.attempt.state) == (2, AttemptState.WAITING)
    assert fake_runtime.submits == []


def test_a_kill_during_the_grace_ends_the_job(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Who kills a task whose job is being preempted does not see it begin again."""
    follow, heard = begin(workspace, job_spec(policy={"preemptible": True}))
    fake_runtime.obedient = False
    step(follow)
    preempt(follow)
    step(follow)
    follow.stop(ExitReason.STOPPED)
    fake_runtime.end(follow.attempt.id, ExitReason.PREEMPTED)
    step(follow)
    assert heard.ended[0].number == 1


def test_a_stop_from_elsewhere_outranks_a_preemption(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Who stops a job on the command line during its grace does not see it begin again."""
    follow, heard = begin(workspace, job_spec(policy={"preemptible": True}))
    fake_runtime.obedient = False
    step(follow)
    preempt(follow)
    step(follow)
    workspace.ledger.want_stop(follow.attempt.id, ExitReason.STOPPED, why="by ada")
    fake_runtime.end(follow.attempt.id, ExitReason.PREEMPTED)
    step(follow)
    assert follow.over
    assert heard.ended[0].stop is ExitReason.STOPPED


def test_a_wait_after_a_preemption_has_its_own_limit(workspace: Workspace) -> None:
    """The wait_timeout of the second attempt begins with its own wait."""
    follow, heard = begin(workspace, job_spec(policy={"wait_timeout": 5, "preemptible": True}))
    step(follow)
    asked_at = follow.attempt.created_at
    preempt(follow)
    ledger = workspace.ledger
    ledger.open_attempt(job_spec("hog", request={"cpu": 4}, policy={"priority": 9}))
    step(follow, now=asked_at + 6)
    step(follow, now=follow.attempt.created_at + 4)
    assert not follow.over
    step(follow, now=follow.attempt.created_at + 6)
    assert heard.ended[0].exit is not None
    assert heard.ended[0].exit.reason is ExitReason.TIMED_OUT


def test_a_restarted_follower_finds_the_attempt_of_now(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A trigger that begins again with the first attempt repeats none of its log and follows the one that came after it."""
    follow, _ = begin(workspace, job_spec(policy={"preemptible": True}))
    step(follow)
    first = follow.attempt
    fake_runtime.write(first.id, b"epoch 1\n")
    preempt(follow)
    step(follow)
    step(follow)
    heard = Heard()
    again = Follow(workspace, workspace.ledger.attempts([first.id])[first.id], heard.listener())
    step(again)
    assert again.attempt.id == follow.attempt.id
    step(again)
    assert fake_runtime.submits == [first.id, follow.attempt.id]
    assert "epoch 1" not in heard.lines


def test_a_wait_does_not_flood_the_log(workspace: Workspace) -> None:
    """Positions that change with every round are not told each time."""
    workspace.ledger.open_attempt(job_spec("hog", request={"cpu": 4}))
    run_round(workspace)
    ahead = [workspace.ledger.open_attempt(job_spec(f"ahead{index}")) for index in range(5)]
    follow, heard = begin(workspace)
    for attempt in ahead:
        step(follow)
        workspace.ledger.want_stop(attempt.id, ExitReason.STOPPED)
    step(follow)
    assert len([line for line in heard.lines if line.startswith("Waiting")]) == 1


def test_a_launch_that_takes_time_is_asked_for_again(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """While an image is pulled the attempt stays where it is, its progress is told, and the grant is told once."""
    follow, heard = begin(workspace)
    fake_runtime.obstacles = [NotReady("image x: 1 of 2 MB"), NotReady("image x: 2 of 2 MB")]
    step(follow)
    step(follow)
    assert follow.attempt.state is AttemptState.LAUNCHING
    assert follow.eager
    step(follow)
    assert follow.attempt.state is AttemptState.RUNNING
    assert [line for line in heard.lines if line.startswith("Launching")] == [
        "Launching: image x: 1 of 2 MB",
        "Launching: image x: 2 of 2 MB",
    ]
    assert sum(line.startswith("Granted") for line in heard.lines) == 1


def test_a_stop_while_it_is_launched_ends_it(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A job whose image is still pulled can be stopped, and nothing starts."""
    follow, heard = begin(workspace)
    fake_runtime.obstacles = [NotReady("image x: 1 of 2 MB")]
    step(follow)
    follow.stop(ExitReason.STOPPED)
    step(follow)
    assert heard.ended[0].exit.reason is ExitReason.STOPPED
    assert fake_runtime.attempts == {}


def test_a_place_that_refuses_ends_the_job(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """What a place will never run ends at once, with its words and without its grant."""
    follow, heard = begin(workspace)
    fake_runtime.obstacles = [LaunchRefused("place gpu1 allows no image 'evil'")]
    step(follow)
    assert heard.ended[0].exit == Exit(reason=ExitReason.REFUSED, message="place gpu1 allows no image 'evil'")
    assert workspace.ledger.leases() == ()


def test_a_node_that_cannot_start_it(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A fault of the node is a loss: another attempt follows inside the same try."""
    follow, heard = begin(workspace)
    fake_runtime.obstacles = [JobLost("the engine's disk is full; free some on its host")]
    step(follow)
    assert follow.attempt.number == 2
    assert any("the engine's disk is full" in line for line in heard.lines)
    step(follow)
    assert follow.attempt.state is AttemptState.RUNNING
    assert heard.ended == []


def test_a_place_that_is_away_for_a_while(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Nothing is concluded while a place does not answer; when it answers again its node is granted from again."""
    follow, heard = begin(workspace)
    step(follow)
    fake_runtime.break_down(PlaceUnavailable("the engine does not answer"))
    for _ in range(5):
        step(follow)
    assert follow.attempt.state is AttemptState.RUNNING
    assert workspace.ledger.nodes()[0].silent_since is not None
    fake_runtime.break_down(None)
    step(follow)
    assert workspace.ledger.nodes()[0].silent_since is None
    assert heard.lines.count("the engine does not answer") == 1
    assert heard.lines[-1] == "Node fake answers again."


def test_a_place_that_stays_away_is_written_off(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """After five minutes of silence the attempt is lost, and another one waits for its grant."""
    follow, _ = begin(replace(workspace, timing=Timing(silent_s=0.0)))
    step(follow)
    fake_runtime.break_down(PlaceUnavailable("the engine does not answer"))
    step(follow)
    first = workspace.ledger.attempts([f"{follow.attempt.job}.1"])[f"{follow.attempt.job}.1"]
    assert first.exit.reason is ExitReason.LOST
    assert "has not answered" in first.exit.message
    assert follow.attempt.number == 2


def test_a_stop_that_the_place_did_not_hear_is_told_again(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """A stop is in the ledger although the place did not answer; it is passed on when it does."""
    follow, heard = begin(workspace)
    step(follow)
    fake_runtime.break_down(PlaceUnavailable("the engine does not answer"))
    follow.stop(ExitReason.STOPPED)
    fake_runtime.break_down(None)
    follow._stopped_at = float("-inf")
    step(follow)
    assert heard.ended[0].exit.reason is ExitReason.STOPPED
