"""What a replay comes to: useful GPU-hours, waits by team, and whether guarantees were kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from airflow_dla.allocation.simulation.replay import Course, Replayed

_HOUR = 3600.0
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamMeasures:
    """What became of one team's jobs, or of all.

    Parameters
    ----------
    team : str
        Empty for all.
    jobs, started, ended, preemptions : int
    wait_mean_s, wait_p50_s, wait_p95_s : float
        From asking to the first grant; a job that was never granted has waited until the end.
    gpu_hours, useful_gpu_hours : float
        Held, and of that spent on progress: what was lost by starting again is not useful.
    below_s, longest_below_s : float
        How long, and how long at a time, it had a demand within its guarantee that waited.
    """

    team: str
    jobs: int = 0
    started: int = 0
    ended: int = 0
    preemptions: int = 0
    wait_mean_s: float = 0.0
    wait_p50_s: float = 0.0
    wait_p95_s: float = 0.0
    gpu_hours: float = 0.0
    useful_gpu_hours: float = 0.0
    below_s: float = 0.0
    longest_below_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a replay comes to.

    Parameters
    ----------
    all : `TeamMeasures`
    teams : tuple of `TeamMeasures`
        By name.
    utilisation : float
        GPU-hours held over those there were.
    in_use : tuple of (float, float)
        GPUs held from a time on, seconds since the epoch: for a plot.
    waiting : tuple of (float, float)
        Jobs that wait from a time on.
    """

    all: TeamMeasures
    teams: tuple[TeamMeasures, ...] = ()
    utilisation: float = 0.0
    in_use: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    waiting: tuple[tuple[float, float], ...] = field(default=(), repr=False)


def measure(replayed: Replayed, guarantees: Mapping[str, Mapping[str, float]] | None = None, *, until: float | None = None) -> Measures:
    """Measure a replay.

    Parameters
    ----------
    guarantees : mapping of team to mapping of resource to float, optional
    until : float, optional
        Count only what lies before, seconds since the epoch; the end of the replay by default.
    """
    over = replayed.over if until is None else until
    teams = sorted({course.job.demand.team for course in replayed.courses})
    by_team = {team: [course for course in replayed.courses if course.job.demand.team == team] for team in teams}
    gpus = sum(node.capacity.get("gpu", 0.0) for node in replayed.nodes)
    whole = _team("", replayed.courses, {}, over)
    span_h = (over - replayed.began) / _HOUR
    return Measures(
        all=whole,
        teams=tuple(_team(team, own, (guarantees or {}).get(team, {}), over) for team, own in by_team.items()),
        utilisation=whole.gpu_hours / (gpus * span_h) if gpus * span_h > 0 else 0.0,
        in_use=_steps([(stay.since, stay.until, stay.grant.amounts.get("gpu", 0.0)) for one in replayed.courses for stay in one.stays]),
        waiting=_steps([(since, to, 1.0) for one in replayed.courses for since, to in waits(one, over)]),
    )


def waits(course: Course, over: float) -> list[tuple[float, float]]:
    """Return when a job waited: before it was granted, and between being stopped and going on."""
    ends = [course.asked_at, *(stay.until for stay in course.stays)]
    begins = [*(stay.since for stay in course.stays), over if course.ended_at is None else course.stays[-1].until]
    return [(end, begin) for end, begin in zip(ends, begins, strict=True) if begin > end]


def _team(team: str, courses: Sequence[Course], guaranteed: Mapping[str, float], over: float) -> TeamMeasures:
    began = [(over if course.granted_at is None else min(course.granted_at, over)) - course.asked_at for course in courses]
    waited = np.maximum(0.0, np.array([wait for wait, course in zip(began, courses, strict=True) if course.asked_at < over] or [0.0]))
    below = _below(courses, guaranteed, over) if guaranteed else []
    return TeamMeasures(
        team=team,
        jobs=len(courses),
        started=sum(course.granted_at is not None and course.granted_at < over for course in courses),
        ended=sum(course.ended_at is not None and course.ended_at <= over for course in courses),
        preemptions=sum(course.preemptions for course in courses),
        wait_mean_s=float(waited.mean()),
        wait_p50_s=float(np.median(waited)),
        wait_p95_s=float(np.quantile(waited, 0.95)),
        gpu_hours=sum(_gpu_s(course, over, useful=False) for course in courses) / _HOUR,
        useful_gpu_hours=sum(_gpu_s(course, over, useful=True) for course in courses) / _HOUR,
        below_s=sum(end - start for start, end in below),
        longest_below_s=max((end - start for start, end in below), default=0.0),
    )


def _gpu_s(course: Course, over: float, *, useful: bool) -> float:
    total = 0.0
    for stay in course.stays:
        lasted = min(stay.until, over) - stay.since - (stay.lost_s if useful else 0.0)
        total += max(0.0, lasted) * stay.grant.amounts.get("gpu", 0.0)
    return total


def _below(courses: Sequence[Course], guaranteed: Mapping[str, float], over: float) -> list[tuple[float, float]]:
    """Return when a team had a demand within its guarantee that waited, as stretches of time."""
    able = [course for course in courses if not (course.reasons and course.reasons[-1][1].never)]
    held = [(stay.since, min(stay.until, over), stay.grant.amounts) for course in able for stay in course.stays]
    asked = [(since, to, course) for course in able for since, to in waits(course, over)]
    times = sorted({at for since, to, _ in [*held, *asked] for at in (since, to) if at <= over})
    stretches: list[tuple[float, float]] = []
    for since, to in pairwise(times):
        used = {name: sum(amounts.get(name, 0.0) for begin, end, amounts in held if begin <= since < end) for name in guaranteed}
        waiting = [course for begin, end, course in asked if begin <= since < end]
        if any(_within(course, used, guaranteed) for course in waiting):
            joined = bool(stretches) and stretches[-1][1] == since
            stretches[-1:] = [(stretches[-1][0], to)] if joined else [*stretches[-1:], (since, to)]
    return stretches


def _within(course: Course, used: Mapping[str, float], guaranteed: Mapping[str, float]) -> bool:
    amounts = course.job.demand.request.amounts
    own = {name: amounts[name].minimum if name in amounts else 0.0 for name in guaranteed}
    return any(own.values()) and all(used[name] + own[name] <= most + _EQUAL for name, most in guaranteed.items())


def _steps(spans: Sequence[tuple[float, float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the sum of what lasts as a step function of time."""
    change: dict[float, float] = {}
    for since, to, amount in spans:
        change[since] = change.get(since, 0.0) + amount
        change[to] = change.get(to, 0.0) - amount
    times = sorted(change)
    return tuple(zip(times, np.cumsum([change[at] for at in times]).tolist(), strict=True))
