"""The ends of attempts, and the errors that say them."""

from __future__ import annotations

import pytest

from airflow_dla import errors
from airflow_dla.specs import Exit, ExitReason


@pytest.mark.parametrize("reason", [reason for reason in ExitReason if reason is not ExitReason.SUCCEEDED])
def test_every_failure_has_an_error(reason: ExitReason):
    """It names the job and says what happened."""
    found = Exit(reason=reason, message="it broke").error("digits.train")
    assert isinstance(found, errors.DlaError)
    assert str(found) == "digits.train: it broke"
    assert str(Exit(reason=reason).error("x")) == f"x: {reason.value}"


def test_only_success_succeeds():
    """Everything else is an error."""
    assert [reason for reason in ExitReason if Exit(reason=reason).succeeded] == [ExitReason.SUCCEEDED]


def test_losses_that_are_nobodys_fault_are_tried_again():
    """Within the same Airflow try."""
    assert {reason for reason in ExitReason if reason.infrastructure} == {ExitReason.LOST, ExitReason.PREEMPTED}


def test_an_end_is_readable_whatever_the_program_said():
    """Odd names and numbers of metrics never hide how a job ended."""
    found = Exit.from_mapping(
        {
            "reason": "user_error",
            "message": "loss is nan\0",
            "metrics": {"val loss": 0.5, "nan": float("nan"), "inf": float("inf"), "text": "x", "none": None, "": 1, "a/b": True},
        }
    )
    assert found.metrics == {"val loss": 0.5, "": 1.0, "a/b": 1.0}
    assert found.message == "loss is nan�"


def test_an_end_of_an_unknown_kind_is_refused():
    """With the known ones listed."""
    with pytest.raises(errors.InvalidSpec, match=r"exit\.reason must be one of succeeded, user_error, .*, got str 'vanished'"):
        Exit.from_mapping({"reason": "vanished"})
