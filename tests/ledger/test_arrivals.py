"""Which expected jobs have come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.ledger.arrivals import earliest, outstanding
from airflow_dla.specs import Expected

HOUR = 3600.0


def hourly(hour: int, *, dag: str = "d", late_s: float = 600.0) -> Expected:
    """Return the job of an hour."""
    return Expected(id=f"{dag}@{hour}", amounts={"cpu": 1.0}, at=hour * HOUR, late_s=late_s, run_s=60.0, dag=dag, task="t" if dag else "")


def test_an_arrival_is_that_of_the_nearest_hour():
    """A little early or late."""
    jobs = [hourly(6), hourly(7), hourly(8)]
    assert outstanding(jobs, {("d", "t"): [7 * HOUR - 100]}, 6 * HOUR) == (jobs[0], jobs[2])
    assert outstanding(jobs, {("d", "t"): [6 * HOUR + 500, 7 * HOUR + 1]}, 6 * HOUR + 500) == (jobs[2],)


def test_an_arrival_long_before_is_somebody_else_s():
    """A run that somebody started at half past is not the one of the full hour."""
    jobs = [hourly(6), hourly(7)]
    assert outstanding(jobs, {("d", "t"): [6.5 * HOUR]}, 6 * HOUR) == tuple(jobs)


def test_each_of_several_needs_an_arrival():
    """A mapped task's three jobs, of which two have come."""
    jobs = [Expected(id=f"e{n}", amounts={"cpu": 1.0}, at=0.0, late_s=60.0, run_s=1.0, dag="d", task="t") for n in range(3)]
    assert len(outstanding(jobs, {("d", "t"): [1.0, 2.0]}, 2.0)) == 1


def test_who_is_too_late_is_given_up_and_nobody_s_task_never_comes():
    """What is expected of no task is there until its time is over."""
    nobody = hourly(6, dag="")
    assert outstanding([nobody], {("", ""): [6 * HOUR]}, 6 * HOUR) == (nobody,)
    assert outstanding([nobody, hourly(6)], {}, 6 * HOUR + 601) == ()


@given(st.lists(st.integers(0, 10), unique=True), st.lists(st.floats(0, 11 * HOUR), max_size=8), st.floats(0, 11 * HOUR))
def test_an_arrival_takes_at_most_one_and_none_that_it_is_too_early_for(hours: list[int], times: list[float], now: float):
    """Whatever comes; the answer is in order and does not depend on that of what is expected."""
    jobs = [hourly(hour) for hour in hours]
    left = outstanding(jobs, {("d", "t"): times}, now)
    assert left == outstanding(jobs[::-1], {("d", "t"): times[::-1]}, now) == tuple(sorted(left, key=lambda job: job.at))
    due = [job for job in jobs if job.at + job.late_s >= now]
    assert len(due) - len(left) <= len(times)
    assert all(any(earliest(job) <= time for time in times) for job in due if job not in left)
