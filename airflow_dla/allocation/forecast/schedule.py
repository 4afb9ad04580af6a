"""When a task's next jobs come and what they will need, from its earlier runs.

The moment to be ready is a newsvendor's: to be late costs the shortage, to be early the
holding, so that room is held from the quantile holding / (shortage + holding) of the delay
on. It is given up when nearly all of them would have come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from airflow_dla.allocation.forecast.durations import HALF_LIFE, run_quantile
from airflow_dla.allocation.forecast.quantiles import newsvendor, quantile, recency
from airflow_dla.specs import Expected

#: Delays shorter than this are about equal, s: what is added before they are compared by factors.
_GRAIN_S: Final = 300.0
#: Spread of delays, in logarithms of grains, that is expected before any is observed.
_SPREAD: Final = 0.2
#: A job that nearly all others would have beaten is expected no more, and none for longer than this, s.
_GIVEN_UP: Final = 0.95
_LONGEST_S: Final = 3600.0
#: A run that began later than this was caught up with, or ran again: it says nothing of delays, s.
_CAUGHT_UP_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One past job, as far as it tells of the next.

    Parameters
    ----------
    dag, task : str
    due : float or None
        When its run was due, seconds since the epoch; None when nobody knows.
    asked_at : float
    run_s : float or None
        How long it ran, s; None when it has not ended well.
    amounts : mapping of resource to float
        What it held.
    team : str
    priority : int
    place : str
    gpu_type : str or None
    scheduled : bool
        Whether its run came from a timetable.
    """

    dag: str
    task: str
    due: float | None = None
    asked_at: float
    run_s: float | None = None
    amounts: Mapping[str, float] = field(default_factory=dict)
    team: str = "default"
    priority: int = 0
    place: str = "any"
    gpu_type: str | None = None
    scheduled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What the next job of a task is expected to be like.

    Parameters
    ----------
    like : `Observed`
        The last one.
    ready_s, given_up_s : float
        From when until when it may come, s after its run was due.
    run_s : float
        How long it will hold what it gets: half of them are done before.
    runs : int
        How many runs that was learnt from.
    """

    like: Observed
    ready_s: float
    given_up_s: float
    run_s: float
    runs: int

    def expect(self, due: float, run: str, place: int = 0) -> Expected:
        """Return the job of a run that is due at a time, seconds since the epoch; of several, the one in this place."""
        like = self.like
        return Expected(
            id=f"{like.dag}.{like.task}@{run}" + (f"#{place}" if place else ""),
            amounts=like.amounts,
            at=due + self.ready_s,
            late_s=self.given_up_s - self.ready_s,
            run_s=self.run_s,
            dag=like.dag,
            task=like.task,
            team=like.team,
            priority=like.priority,
            place=like.place,
            gpu_type=like.gpu_type,
        )


def learn(past: Sequence[Observed], *, shortage: float = 4.0, holding: float = 1.0) -> Pattern | None:
    """Learn from the jobs of one task.

    Parameters
    ----------
    past : sequence of `Observed`
        Newest first.
    shortage, holding : float
        What a second of waiting costs the job, and a second of idleness the cluster.

    Returns
    -------
    `Pattern`, or None when none of them ended well or none was due at a known time.

    Examples
    --------
    >>> past = [Observed(dag="etl", task="train", due=0.0, asked_at=60.0, run_s=600.0, amounts={"gpu": 4})] * 30
    >>> expected = learn(past).expect(86_400.0, "tomorrow")
    >>> round(expected.at), round(expected.late_s), round(expected.run_s)
    (86460, 0, 600)
    """
    runs = [job.run_s for job in past if job.run_s]
    delays = [max(0.0, job.asked_at - job.due) for job in past if job.due is not None and job.asked_at - job.due < _CAUGHT_UP_S]
    if not runs or not delays:
        return None
    like = next(job for job in past if job.run_s)
    ready, given_up = (_delay(delays, q) for q in (1 - newsvendor(shortage, holding), _GIVEN_UP))
    given_up = min(max(ready, given_up), ready + _LONGEST_S)
    return Pattern(like=like, ready_s=ready, given_up_s=given_up, run_s=run_quantile(runs, 0.5), runs=len(runs))


def _delay(delays: Sequence[float], q: float) -> float:
    q = min(max(q, 0.01), 0.99)
    grains = [delay + _GRAIN_S for delay in delays]
    return quantile(grains, q, weights=recency(len(grains), HALF_LIFE), spread=_SPREAD) - _GRAIN_S


def by_task(past: Iterable[Observed]) -> dict[tuple[str, str], list[Observed]]:
    """Sort past jobs by (dag, task), in the order they come."""
    found: dict[tuple[str, str], list[Observed]] = {}
    for job in past:
        found.setdefault((job.dag, job.task), []).append(job)
    return found
