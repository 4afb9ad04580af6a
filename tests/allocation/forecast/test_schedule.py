"""What a schedule's next jobs are like."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.allocation.forecast import Observed, by_task, learn

DAY = 86_400.0


def past(delays: list[float], runs: list[float] | None = None, **more: Any) -> list[Observed]:
    """Return one job for each day, newest first."""
    runs = runs or [600.0] * len(delays)
    days = range(len(delays), 0, -1)
    return [
        Observed(dag="d", task="t", due=day * DAY, asked_at=day * DAY + delay, run_s=run, amounts={"gpu": 4.0}, **more)
        for day, delay, run in zip(days, delays, runs, strict=True)
    ]


def test_a_job_that_is_always_on_time_is_expected_then():
    """With its amounts, its team and its priority."""
    pattern = learn(past([5.0] * 30, team="vision", priority=7))
    assert pattern is not None
    job = pattern.expect(100 * DAY, "tomorrow")
    assert job.at == pytest.approx(100 * DAY + 5, abs=1)
    assert job.late_s < 1
    assert (job.run_s, dict(job.amounts), job.team, job.priority) == (pytest.approx(600), {"gpu": 4.0}, "vision", 7)
    assert (job.dag, job.task, job.id) == ("d", "t", "d.t@tomorrow")


def test_a_job_that_comes_late_is_expected_from_early_to_late():
    """Room is ready for four of five, and given up when nearly all would have come."""
    pattern = learn(past([60.0 * (n % 20) for n in range(60)]))
    assert pattern is not None
    assert 120 <= pattern.ready_s <= 300
    assert 1020 <= pattern.given_up_s <= 1260


def test_the_dearer_a_shortage_the_sooner_room_is_ready():
    """The newsvendor's quantile of the delay."""
    jobs = past([60.0 * (n % 20) for n in range(60)])
    dear, cheap = learn(jobs, shortage=20.0), learn(jobs, shortage=0.5)
    assert dear is not None
    assert cheap is not None
    assert dear.ready_s < cheap.ready_s


def test_one_day_is_enough_to_expect_something():
    """With a wider window."""
    one, many = learn(past([30.0])), learn(past([30.0] * 30))
    assert one is not None
    assert many is not None
    assert one.given_up_s - one.ready_s > many.given_up_s - many.ready_s


def test_nothing_is_expected_of_what_never_ended_well_or_was_due_at_no_known_time():
    """A failed first run says nothing, nor does one that somebody started."""
    failed = [Observed(dag="d", task="t", due=0.0, asked_at=0.0)]
    manual = [Observed(dag="d", task="t", asked_at=0.0, run_s=60.0, amounts={"cpu": 1.0})]
    assert learn(failed) is None
    assert learn(manual) is None


def test_runs_that_were_caught_up_with_say_nothing_of_delays():
    """A run that was due last week did not come a week late."""
    pattern = learn([*past([30.0] * 20), *past([7 * DAY] * 20)])
    assert pattern is not None
    assert pattern.given_up_s < 600


def test_jobs_are_sorted_by_task():
    """In the order they come."""
    jobs = past([1.0, 2.0])
    assert by_task(jobs) == {("d", "t"): jobs}
