"""Room held back for what is about to arrive and matters more.

A *hold* is a promise to a job that has not come: from its time on, until it is given up,
demands of lower priority may take of the node chosen for it only what they give back in
time, as backfill lets them take what the head of the queue leaves (`backfill`). A hold is
weighed against what it costs: to refuse a demand that would outlast the arrival keeps room
idle from now until then, to admit it makes the expected job wait for the rest of its run.

References
----------
Lifka: The ANL/IBM SP Scheduling System, JSSPP 1995 (EASY), for reservations that others pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from airflow_dla.allocation.forecast.quantiles import newsvendor
from airflow_dla.specs import Expected

#: Beyond so many, whoever is expected is so far off that nothing needs to be kept for it yet.
_MOST: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What is kept for one expected job.

    Parameters
    ----------
    name : str
        For people: ``dag.task``.
    amounts : mapping of resource to float
    at : float
        From when on it may ask, seconds since the epoch; not before now.
    until : float
        When it is expected no more.
    run_s : float
        How long it will keep what it gets.
    priority : int
        Demands of a lower one leave the room.
    place : str
        Name of a place, or ``"any"``.
    gpu_type : str or None
    lead_s : float
        How far ahead of now `at` is.
    patience : float, > 0
        How many seconds a unit may stay idle for each second of waiting that this saves the expected job.
    """

    name: str
    amounts: Mapping[str, float] = field(default_factory=dict)
    at: float
    until: float
    run_s: float
    priority: int
    place: str = "any"
    gpu_type: str | None = None
    lead_s: float = 0.0
    patience: float = 4.0

    def text(self) -> str:
        """Say for whom, and when.

        Examples
        --------
        >>> Hold(name="etl.train", at=21600.0, until=21600.0, run_s=60.0, priority=1).text()
        'etl.train, expected at about 06:00 UTC'
        """
        return f"{self.name}, expected at about {clock(self.at)}"


def clock(seconds: float) -> str:
    """Write the time of day.

    Examples
    --------
    >>> clock(21600.0)
    '06:00 UTC'
    """
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M} UTC"


def holds(
    expected: Iterable[Expected], now: float, *, shortage: float = 4.0, holding: float = 1.0, horizon_s: float = 86_400.0
) -> tuple[Hold, ...]:
    """Return what to hold for expected jobs, soonest first.

    Parameters
    ----------
    expected : iterable of `Expected`
        Those that have not come (`outstanding`).
    now : float
        Seconds since the epoch.
    shortage, holding : float
        What a second of waiting costs an expected job, and a second of idleness the cluster.
    horizon_s : float
        How far ahead anything is held.

    Returns
    -------
    tuple of `Hold`
        Nothing for jobs that are given up, or beyond the horizon, or need nothing; of many, the soonest.
    """
    q = newsvendor(shortage, holding)
    patience = q / (1 - q) if q < 1 else float("inf")
    due = [job for job in expected if job.at <= now + horizon_s and now <= job.at + job.late_s and any(job.amounts.values())]
    soonest = sorted(due, key=lambda job: (job.at, -job.priority, job.id))[:_MOST]
    return tuple(_hold(job, now, patience) for job in soonest)


def _hold(job: Expected, now: float, patience: float) -> Hold:
    return Hold(
        name=f"{job.dag}.{job.task}" if job.dag else f"an unscheduled job of team {job.team}",
        amounts=job.amounts,
        at=max(now, job.at),
        until=job.at + job.late_s,
        run_s=job.run_s,
        priority=job.priority,
        place=job.place,
        gpu_type=job.gpu_type,
        lead_s=max(0.0, job.at - now),
        patience=patience,
    )
