"""When time alone changes the answer, so that a round is due although nothing happened."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.standing import next_urgency
from airflow_dla.specs import Demand, Held

#: While priorities age, rounds are due no oftener than so many times in one step.
_PER_STEP: Final = 10
_SOONEST_S: Final = 1.0


def next_change(held: Sequence[Held], waiting: Sequence[Demand], policy: Policy, now: float) -> float | None:
    """Return when waiting, ageing or a deadline alone may change the answer, seconds since the epoch; None when they do not.

    Parameters
    ----------
    held : sequence of `Held`
    waiting : sequence of `Demand`
        Those that wait once the round is over.
    policy : `Policy`
    now : float
    """
    times = [*_reclaims(waiting, policy), *_urgencies(waiting, now), *_terms(held, policy, now)]
    later = [at for at in times if at > now]
    ageing = _ageing(held, waiting, policy, now)
    return min(later + ([] if ageing is None else [ageing]), default=None)


def _reclaims(waiting: Iterable[Demand], policy: Policy) -> Iterator[float]:
    after = {team.name: team.reclaim_after_s for team in policy.teams if team.reclaim_after_s is not None}
    yield from (demand.created_at + seconds for demand in waiting if (seconds := after.get(demand.team)) is not None)


def _urgencies(waiting: Iterable[Demand], now: float) -> Iterator[float]:
    yield from (at for demand in waiting if demand.deadline is not None and (at := next_urgency(demand, now)) is not None)


def _terms(held: Iterable[Held], policy: Policy, now: float) -> Iterator[float]:
    if policy.strategy == "auction":
        for one in held:
            if one.demand.preemptible:
                yield one.since + (math.floor((now - one.since) / policy.term_s) + 1) * policy.term_s


def _ageing(held: Iterable[Held], waiting: Sequence[Demand], policy: Policy, now: float) -> float | None:
    """Return when a priority next rises, where that could change an order: somebody waits, and not alone."""
    step = policy.ageing_s
    if step is None or not waiting:
        return None
    created = {demand.created_at for demand in waiting} | {one.demand.created_at for one in held}
    if len(created) == 1:
        return None
    rises = min(at + (math.floor(max(0.0, now - at) / step) + 1) * step for at in created)
    return max(rises, now + max(_SOONEST_S, step / _PER_STEP))
