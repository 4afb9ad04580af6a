"""When jobs end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.allocation.forecast import expected_end, run_quantile

runs = st.lists(st.floats(1, 1e5), min_size=1, max_size=40)


@given(runs, st.floats(0.05, 0.95), st.floats(0, 2e5), st.floats(0, 1e5))
def test_who_has_run_longer_ends_later(past: list[float], q: float, elapsed: float, more: float):
    """The end never lies in the past."""
    assert run_quantile(past, q, elapsed_s=elapsed) >= elapsed
    assert run_quantile(past, q, elapsed_s=elapsed + more) >= elapsed + more


@given(st.floats(0, 1e6), st.floats(1, 1e5), st.floats(0, 1e5))
def test_an_overdue_job_ends_some_time_from_now(since: float, run_s: float, elapsed: float):
    """By a share of its age, and at least a minute."""
    now = since + elapsed
    end = expected_end(since, run_s, now)
    assert end > now
    assert end == since + run_s or end >= now + 59.9
