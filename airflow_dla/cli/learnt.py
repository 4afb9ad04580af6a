"""What a round would have been told to expect of a job: what the runs of its task that had ended before came to."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

#: How many of the latest runs of a task count.
_LATEST: Final = 30


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that is over.

    Parameters
    ----------
    task : str
        What it is a run of.
    asked_at, ended_at : float
        Seconds since the epoch.
    run_s : float
        How long it held what it had.
    """

    task: str
    asked_at: float
    ended_at: float
    run_s: float


def expected_runs(runs: Iterable[Ran]) -> list[float | None]:
    """Return for each run the median of the latest runs of its task that had ended when it asked; None for the first.

    Examples
    --------
    >>> expected_runs([Ran("t", 0.0, 60.0, 60.0), Ran("t", 50.0, 90.0, 40.0), Ran("t", 100.0, 130.0, 30.0)])
    [None, None, 50.0]
    """
    known = list(runs)
    ended: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run in known:
        ended[run.task].append((run.ended_at, run.run_s))
    for past in ended.values():
        past.sort()
    return [_median(ended[run.task], run.asked_at) for run in known]


def _median(past: Sequence[tuple[float, float]], at: float) -> float | None:
    count = bisect_right(past, (at, float("inf")))
    before = [run_s for _, run_s in past[max(0, count - _LATEST) : count]]
    return median(before) if before else None
