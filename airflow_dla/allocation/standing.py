"""How much a job matters now: its priority, what its team may have, and how near its deadline is.

What waits and what runs is measured alike and by the time it was first asked for, so that a
job which was preempted by another never preempts that one in turn: both age at the same pace.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Final

from airflow_dla.specs import Demand

#: Below this slack, in seconds, a deadline begins to count.
HORIZON_S: Final = 3600.0
#: Most that a deadline raises a priority by.
MOST: Final = 6


def urgency(demand: Demand, now: float) -> int:
    r"""Return by how much a deadline raises a priority: by one for every halving of the slack below an hour, at most six.

    The slack is what is left until the deadline once the job has run,
    :math:`s = t_{\mathrm{deadline}} - t - t_{\mathrm{run}}`, and
    :math:`\lfloor \log_2 (3600 / s) \rfloor` is added. It only ever grows.

    Examples
    --------
    >>> from airflow_dla.specs import Request
    >>> job = Demand(id="a", request=Request.from_mapping({"cpu": 1}), deadline=10_000.0, run_s=1_000.0)
    >>> [urgency(job, now) for now in (0.0, 5_400.0, 7_200.0, 8_100.0, 9_500.0)]
    [0, 0, 1, 2, 6]
    """
    if demand.deadline is None:
        return 0
    slack = demand.deadline - now - (demand.run_s or 0.0)
    if slack <= HORIZON_S / 2**MOST:
        return MOST
    return max(0, math.floor(math.log2(HORIZON_S / slack)))


def next_urgency(demand: Demand, now: float) -> float | None:
    """Return when the deadline raises the priority next, seconds since the epoch; None when it does no more."""
    steps = urgency(demand, now)
    if demand.deadline is None or steps >= MOST:
        return None
    return demand.deadline - (demand.run_s or 0.0) - HORIZON_S / 2.0 ** (steps + 1)


def effective(demand: Demand, ceilings: Mapping[str, int], now: float) -> Demand:
    """Return a demand with the priority that counts: within its team's ceiling, raised by its deadline.

    Parameters
    ----------
    ceilings : mapping of team to int
        Highest priority that a team's jobs may have.
    """
    priority = min(demand.priority, ceilings.get(demand.team, demand.priority)) + urgency(demand, now)
    return demand if priority == demand.priority else dataclasses.replace(demand, priority=priority)
