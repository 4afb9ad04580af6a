"""Who comes although no timetable says so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.allocation.forecast import Observed, season
from airflow_dla.allocation.forecast.seasons import SLOT_S, WEEK, arrivals

MONDAY_NINE = 9.0 * SLOT_S


def job(week: int, minute: float, *, priority: int = 5, scheduled: bool = False) -> Observed:
    """Return a job that somebody started on a Monday after nine."""
    at = week * WEEK * SLOT_S + MONDAY_NINE + 60 * minute
    return Observed(dag="d", task="t", asked_at=at, run_s=1200.0, amounts={"gpu": 2.0}, priority=priority, scheduled=scheduled)


BACKGROUND = [job(week, 30, priority=0) for week in range(4)]
MONDAYS = [job(week, minute) for week in range(4) for minute in (5, 10, 20)]


def test_who_comes_every_monday_at_nine_is_expected_there():
    """About as many as came, with what they usually hold, and for as long."""
    now = 4 * WEEK * SLOT_S + MONDAY_NINE - 1800
    found = season([*MONDAYS, *BACKGROUND], now, since=0.0)
    ahead = [one for one in found if one.at >= 4 * WEEK * SLOT_S + MONDAY_NINE]
    assert 2 <= len(ahead) <= 5
    assert all((one.priority, dict(one.amounts), one.dag) == (5, {"gpu": 2.0}, "") for one in ahead)
    assert not [one for one in found if one not in ahead]


def test_those_who_have_come_already_are_expected_no_more():
    """In the present hour only the rest is."""
    start = 4 * WEEK * SLOT_S + MONDAY_NINE
    history = [*MONDAYS, *BACKGROUND]
    before = len(season(history, start + 60, since=0.0, slots=1))
    come = [job(4, minute) for minute in (0.1, 0.2)]
    assert len(season([*come, *history], start + 60, since=0.0, slots=1)) <= before - 1


def test_nobody_of_the_lowest_priority_or_of_a_timetable_is():
    """Nothing could be held for the first, and the second are known better."""
    now = 4 * WEEK * SLOT_S + MONDAY_NINE
    assert season(BACKGROUND, now, since=0.0) == ()
    assert season([*BACKGROUND, *(job(week, 5, scheduled=True) for week in range(4))], now, since=0.0) == ()


def test_an_hour_of_history_says_nothing_of_a_week():
    """At least a day is needed."""
    assert season(MONDAYS[:3], MONDAY_NINE + 3600, since=MONDAY_NINE) == ()


@given(st.integers(0, 50), st.floats(0, 50), st.floats(0, 20), st.floats(0.05, 0.9), st.floats(0, 0.09))
def test_more_are_expected_the_dearer_a_shortage(count: int, seen: float, rate: float, q: float, more: float):
    """And the more there were."""
    assert arrivals(count, seen, rate, q) <= arrivals(count, seen, rate, q + more)
    assert arrivals(count, seen, rate, q) <= arrivals(count + 1, seen, rate, q)
