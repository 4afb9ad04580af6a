"""Tests of who used how much."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.control import usage
from airflow_dla.ledger import PastRun
from airflow_dla.specs import Exit, ExitReason, Grant, Request

HOUR = 3600.0


def run(team: str, **more: Any) -> PastRun:
    """Return an attempt that held two GPUs and four CPUs for an hour, after waiting for half a minute."""
    fields = {
        "attempt": "a.1", "dag": "d", "run": "r", "task": "t", "agent": "digits", "verb": "train", "team": team, "priority": 0,
        "scheduled": True, "request": Request.from_mapping({"cpu": 4, "gpu": 2}), "created_at": 0.0, "granted_at": 30.0, "running_at": 31.0,
        "ended_at": 30.0 + HOUR, "grant": Grant(id="a.1", node="n", amounts={"cpu": 4.0, "gpu": 2.0, "memory": 8.0}),
        "gpu_s": 2 * HOUR, "cpu_s": 4 * HOUR,
    }  # fmt: skip
    return PastRun(**{**fields, **more})


def test_hours_cost_and_waits_by_team() -> None:
    """The team with the most GPU-hours first."""
    rows = usage([run("a"), run("b"), run("b", granted_at=None, ended_at=None, gpu_s=0.0, cpu_s=0.0)], by="team", costs={}, now=1e6)
    assert [(row.name, row.jobs, row.gpu_hours, row.cpu_hours, row.wait_mean_s) for row in rows] == [
        ("a", 1, 2.0, 4.0, 30.0),
        ("b", 2, 2.0, 4.0, 30.0),
    ]


def test_cost_follows_what_was_held() -> None:
    """GPUs and CPUs as they were resized, memory as it was held last."""
    (row,) = usage([run("a", gpu_s=HOUR)], by="team", costs={"gpu": 2.0, "memory": 0.5}, now=1e6)
    assert row.cost == pytest.approx(2.0 * 1 + 0.5 * 8)


def test_a_live_job_counts_until_now() -> None:
    """Its memory, too."""
    (row,) = usage([run("a", ended_at=None)], by="dag", costs={"memory": 1.0}, now=30.0 + 2 * HOUR)
    assert row.cost == pytest.approx(16.0)


def test_idle_is_told_where_it_was_measured() -> None:
    """Unknown is not zero."""
    measured = run("a", exit=Exit(reason=ExitReason.SUCCEEDED, peaks={"cpu_s": HOUR}))
    (row,) = usage([measured, run("a")], by="model", costs={}, now=1e6)
    assert (row.name, row.cpu_hours_used, row.cpu_hours_idle, row.gpu_hours_used) == ("digits", 1.0, 3.0, None)


def test_what_never_was_granted_costs_nothing() -> None:
    """It has no wait either."""
    (row,) = usage([run("a", granted_at=None, grant=None, gpu_s=0.0, cpu_s=0.0)], by="team", costs={"gpu": 1.0}, now=1e6)
    assert (row.cost, row.wait_mean_s, row.wait_p95_s) == (0.0, None, None)
