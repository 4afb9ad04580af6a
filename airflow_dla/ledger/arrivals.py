"""Which expected jobs have not come yet; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from airflow_dla.specs import Expected

#: A job may come so many seconds before it was expected and still be the one.
EARLY_S: Final = 300.0


def earliest(job: Expected) -> float:
    """Return from when on an arrival counts as this job's, seconds since the epoch."""
    return job.at - max(EARLY_S, job.late_s)


def outstanding(expected: Sequence[Expected], arrivals: Mapping[tuple[str, str], Iterable[float]], now: float) -> tuple[Expected, ...]:
    """Leave out expected jobs that have come or are given up.

    An arrival counts for one expected job of its task: the one it is nearest to, of those
    it is not too early or too late for.

    Parameters
    ----------
    expected : sequence of `Expected`
        In any order.
    arrivals : mapping of (dag, task) to times
        When jobs of each task asked, seconds since the epoch; those that are over count too.
    now : float

    Returns
    -------
    tuple of `Expected`
        In order of time, then id.

    Examples
    --------
    >>> six, seven = (Expected(id=f"d.t@{at}", dag="d", task="t", amounts={"cpu": 1}, at=at, run_s=60.0) for at in (21600.0, 25200.0))
    >>> [job.id for job in outstanding([six, seven], {("d", "t"): [21590.0]}, 21600.0)]
    ['d.t@25200.0']
    """
    came = {job.id for task, times in arrivals.items() for job in _matched([job for job in expected if (job.dag, job.task) == task], times)}
    left = [job for job in expected if job.at + job.late_s >= now and (not job.dag or job.id not in came)]
    return tuple(sorted(left, key=lambda job: (job.at, job.id)))


def _matched(jobs: list[Expected], times: Iterable[float]) -> list[Expected]:
    found: list[Expected] = []
    for time in sorted(times):
        near = [job for job in jobs if job not in found and earliest(job) <= time <= job.at + max(EARLY_S, job.late_s)]
        if near:
            found.append(min(near, key=lambda job: (abs(job.at - time), job.at, job.id)))
    return found
