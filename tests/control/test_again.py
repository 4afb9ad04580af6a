"""Tests of whether another attempt is due, and what it takes along."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures_workspace import job_spec

from airflow_dla.control.again import keeping_place, next_spec, said_of_next
from airflow_dla.ledger import Attempt
from airflow_dla.specs import AttemptState, Exit, ExitReason


def ended(reason: ExitReason, *, stop: ExitReason | None = None, retries: int = 3, **lineage: float) -> Attempt:
    """Return an attempt that ended."""
    spec = job_spec(policy={"infra_retries": retries}, lineage=lineage)
    given = {"created_at": 100.0, "exit": Exit(reason=reason), "stop": stop, "stop_why": "for d.big"}
    return Attempt(id="j.1", job="j", number=1, spec=spec, state=AttemptState.ENDED, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", sorted(set(ExitReason) - {ExitReason.LOST, ExitReason.PREEMPTED}))
def test_most_ends_are_final(reason: ExitReason) -> None:
    """A success, a user's error, a kill, a limit and a person's stop are not tried again."""
    assert next_spec(ended(reason), inherited=False) is None


def test_losses_are_counted_and_preemptions_are_not() -> None:
    """A loss uses up an infra retry; a preemption does not, however many there were."""
    lost = next_spec(ended(ExitReason.LOST, infra_retry=1), inherited=False)
    preempted = next_spec(ended(ExitReason.PREEMPTED, stop=ExitReason.PREEMPTED, infra_retry=1, retries=0), inherited=False)
    assert lost is not None
    assert preempted is not None
    assert (lost.lineage["infra_retry"], preempted.lineage["infra_retry"]) == (2, 1)
    assert next_spec(ended(ExitReason.LOST, infra_retry=3), inherited=False) is None


@pytest.mark.parametrize("reason", [ExitReason.LOST, ExitReason.PREEMPTED])
def test_the_place_in_the_queue_is_kept(reason: ExitReason) -> None:
    """The next attempt is as old as the first one."""
    second = next_spec(ended(reason), inherited=False)
    assert second is not None
    assert second.lineage["asked_at"] == 100.0
    third = next_spec(replace(ended(reason), spec=second, created_at=200.0), inherited=False)
    assert third is not None
    assert third.lineage["asked_at"] == 100.0


@pytest.mark.parametrize("stop", [ExitReason.STOPPED, ExitReason.TIMED_OUT])
@pytest.mark.parametrize("reason", [ExitReason.LOST, ExitReason.PREEMPTED])
def test_a_persons_stop_wins(reason: ExitReason, stop: ExitReason) -> None:
    """What a person stopped does not begin again because it was preempted or got lost at the same moment."""
    assert next_spec(ended(reason, stop=stop), inherited=False) is None


def test_a_loss_while_it_was_preempted_is_a_loss() -> None:
    """A process that disappears during its grace counts as lost."""
    again = next_spec(ended(ExitReason.LOST, stop=ExitReason.PREEMPTED), inherited=False)
    assert again is not None
    assert again.lineage["infra_retry"] == 1


def test_the_kill_of_the_try_before_is_none_of_this_one() -> None:
    """A stop that was inherited begins again, and counts."""
    again = next_spec(ended(ExitReason.STOPPED, stop=ExitReason.STOPPED), inherited=True)
    assert again is not None
    assert again.lineage["infra_retry"] == 1
    assert next_spec(ended(ExitReason.STOPPED, stop=ExitReason.STOPPED, retries=0), inherited=True) is None


def test_the_task_log_says_for_whom() -> None:
    """A preemption names what it made way for; a loss says what happened and how often it may."""
    preempted = ended(ExitReason.PREEMPTED, stop=ExitReason.PREEMPTED)
    lost = replace(ended(ExitReason.LOST), stop_why="")
    assert "made way (for d.big)" in said_of_next(preempted, preempted.spec)
    assert said_of_next(lost, job_spec(lineage={"infra_retry": 1})) == "Attempt 1 ended: lost; trying again (1 of 3)."


@pytest.mark.parametrize(
    ("last", "asked_at"),
    [
        (None, None),
        (ended(ExitReason.PREEMPTED, max_tries=2), 100.0),
        (ended(ExitReason.LOST, max_tries=2, asked_at=50.0), 50.0),
        (ended(ExitReason.PREEMPTED, max_tries=1), None),
        (ended(ExitReason.PREEMPTED, stop=ExitReason.STOPPED, max_tries=2), None),
        (ended(ExitReason.USER_ERROR, max_tries=2), None),
    ],
)
def test_a_retry_keeps_the_place_of_what_nobody_went_on_with(last: Attempt | None, asked_at: float | None) -> None:
    """A worker that died with its job costs no age; a user's error, a stop or a cleared task ask anew."""
    assert keeping_place(job_spec(lineage={"max_tries": 2}), last).lineage.get("asked_at") == asked_at
