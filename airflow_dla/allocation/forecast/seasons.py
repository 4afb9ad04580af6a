r"""Arrivals that no timetable announces: what the hours of the week tell of them.

In a slot of the week that was seen m times with k arrivals, arrivals are Poisson of a rate
that is Gamma distributed about the overall rate before anything is seen, so that their
number is negative binomial,

.. math:: N \sim \mathrm{NB}\Bigl(\alpha_0 + k,\ \frac{\beta_0 + m}{\beta_0 + m + 1}\Bigr),
          \quad \alpha_0 = \beta_0 \bar\lambda,

and the newsvendor's number is expected: the largest that comes with probability of at
least holding / (shortage + holding).

References
----------
Gelman et al.: Bayesian Data Analysis, 3rd edition, section 2.6 (Poisson model, Gamma prior).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from airflow_dla.allocation.forecast.durations import run_quantile
from airflow_dla.allocation.forecast.quantiles import newsvendor, quantile
from airflow_dla.allocation.forecast.schedule import Observed
from airflow_dla.specs import Expected

SLOT_S: Final = 3600.0
WEEK: Final = 168
#: For how many sightings of a slot the overall rate counts.
_PRIOR: Final = 1.0
#: Less history than this says nothing of a day, s.
_LEAST_S: Final = 86_400.0
_MOST: Final = 100


def season(
    past: Sequence[Observed], now: float, *, since: float, shortage: float = 4.0, holding: float = 1.0, slots: int = 2
) -> tuple[Expected, ...]:
    """Return who is expected in the slots ahead although no timetable says so.

    Parameters
    ----------
    past : sequence of `Observed`
        Of everybody, newest first; those of a timetable are left out.
    now : float
        Seconds since the epoch.
    since : float
        From when on `past` is complete.
    shortage, holding : float
        What a second of waiting costs such a job, and a second of idleness the cluster.
    slots : int
        How many hours ahead, the present one included.

    Returns
    -------
    tuple of `Expected`
        In order of time. Nobody of the lowest priority there is: nothing is held for them.
    """
    known = [job for job in past if since <= job.asked_at <= now]
    if now - since < _LEAST_S or not known:
        return ()
    lowest = min(job.priority for job in known)
    unscheduled = [job for job in known if not job.scheduled and job.priority > lowest and job.run_s and job.amounts]
    kinds: defaultdict[tuple[str, int, str, str | None], list[Observed]] = defaultdict(list)
    for job in unscheduled:
        kinds[job.team, job.priority, job.place, job.gpu_type].append(job)
    q = newsvendor(shortage, holding)
    found = [job for kind in kinds.values() for job in _of_kind(kind, now, since=since, q=q, slots=slots)]
    return tuple(sorted(found, key=lambda job: (job.at, job.id)))


def arrivals(count: int, seen: float, rate: float, q: float) -> int:
    """Return how many arrivals to expect in a slot.

    Parameters
    ----------
    count : int
        Arrivals in such slots so far.
    seen : float
        How often such a slot was seen.
    rate : float
        Arrivals in any slot, on average.
    q : float
        The newsvendor's quantile.

    Examples
    --------
    >>> arrivals(0, 4, 0.01, 0.8), arrivals(40, 4, 5.0, 0.8), arrivals(40, 4, 5.0, 0.5)
    (0, 12, 9)
    """
    shape, scale = _PRIOR * rate + count, _PRIOR + seen
    success = scale / (scale + 1)
    probability = success**shape
    total, number = probability, 0
    while total < q and number < _MOST:
        probability *= (shape + number) / (number + 1) * (1 - success)
        number += 1
        total += probability
    return number


def _of_kind(jobs: Sequence[Observed], now: float, *, since: float, q: float, slots: int) -> Iterator[Expected]:
    counts = Counter(_slot(job.asked_at) % WEEK for job in jobs)
    rate = len(jobs) / ((now - since) / SLOT_S)
    like = jobs[0]
    typical = _typical(jobs)
    run_s = run_quantile([job.run_s for job in jobs if job.run_s], 0.5)
    for slot in range(_slot(now), _slot(now) + slots):
        seen = (now - since) / (WEEK * SLOT_S)
        number = arrivals(counts[slot % WEEK], seen, rate, q)
        came = sum(_slot(job.asked_at) == slot for job in jobs)
        for place in range(min(came, number), number):
            yield Expected(
                id=f"{like.team}/{like.priority}/{like.place}/{like.gpu_type or ''}@{slot}.{place}",
                amounts=typical,
                at=(slot + place / number) * SLOT_S,
                late_s=SLOT_S / number,
                run_s=run_s,
                team=like.team,
                priority=like.priority,
                place=like.place,
                gpu_type=like.gpu_type,
            )


def _typical(jobs: Sequence[Observed]) -> Mapping[str, float]:
    resources = {resource for job in jobs for resource in job.amounts}
    medians = {resource: quantile([job.amounts.get(resource, 0.0) for job in jobs], 0.5) for resource in sorted(resources)}
    # Nobody is granted a part of a GPU beyond the first.
    return {resource: float(math.ceil(value)) if resource == "gpu" and value > 1 else value for resource, value in medians.items() if value}


def _slot(seconds: float) -> int:
    return math.floor(seconds / SLOT_S)
