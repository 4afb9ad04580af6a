"""When jobs end, from how long others of their task ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from airflow_dla.allocation.forecast.quantiles import quantile, recency

#: After so many runs of a task, an older one counts half.
HALF_LIFE: Final = 30.0
#: A job that has outrun all that is known of it goes on for this share of its time.
_OVERRUN: Final = 0.25
_SOON_S: Final = 60.0


def run_quantile(runs: Sequence[float], q: float, *, elapsed_s: float = 0.0) -> float:
    """Return the q-quantile of how long a job runs in all, given that it has run for some time.

    Parameters
    ----------
    runs : sequence of float
        How long earlier ones ran, s, newest first; at least one.
    q : float
        In (0, 1).
    elapsed_s : float
        How long it has run, s; the answer is never less.

    Examples
    --------
    >>> run_quantile([600.0] * 40, 0.9)
    600.0
    >>> run_quantile([600.0] * 40, 0.9, elapsed_s=1000.0)
    1250.0
    """
    beyond = [run for run in runs if run > elapsed_s]
    if not beyond:
        return overrun(elapsed_s)
    return max(quantile(beyond, q, weights=recency(len(beyond), HALF_LIFE)), elapsed_s)


def overrun(elapsed_s: float) -> float:
    """Return how long a job runs in all that has already run longer than anybody expected, s."""
    return elapsed_s + max(_SOON_S, _OVERRUN * elapsed_s)


def expected_end(since: float, run_s: float, now: float) -> float:
    """Return when a job that began at `since` ends; one that is overdue, some time from now.

    Examples
    --------
    >>> expected_end(0.0, 600.0, 100.0), expected_end(0.0, 600.0, 1000.0)
    (600.0, 1250.0)
    """
    return since + run_s if since + run_s > now else since + overrun(now - since)
