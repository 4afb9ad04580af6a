"""What a scheduler is shown, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from airflow_dla.allocation.table import Floats, Ints

#: Turns last so long where shares of time are realised by taking turns.
TURN_S: Final = 360.0


@dataclass(frozen=True, slots=True)
class View:
    """The jobs that have arrived and are not done, and the GPUs they may use; n jobs, T types.

    Parameters
    ----------
    now_s : float
    capacity : int array, shape (T,)
        GPUs there are.
    arrival_s, deadline_s, weight : float array, shape (n,)
        In order of arrival.
    gpus : int array, shape (n,)
    throughput : float array, shape (n, T)
        Steps per second.
    steps, left : float array, shape (n,)
        Steps in all, and those that are left.
    kind : int array, shape (n,)
        The type a job runs on, -1 where it waits.
    run_s : float array, shape (n,)
        How long it has run.
    owed_s : float array, shape (n, T)
        Time on each type that its shares promised, less what it got.
    restart_s : float
        What a start of a job that ran before costs it.
    gap_s : float
        Time between decisions, on average so far.
    """

    now_s: float
    capacity: Ints
    arrival_s: Floats
    deadline_s: Floats
    weight: Floats
    gpus: Ints
    throughput: Floats
    steps: Floats
    left: Floats
    kind: Ints
    run_s: Floats
    owed_s: Floats
    restart_s: float
    gap_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Who runs where.

    Parameters
    ----------
    kind : int array, shape (n,)
        The type for each job of the view, -1 to wait.
    share : float array, shape (n, T), optional
        The share of time that each job should get on each type, where the scheduler takes turns.
    review_s : float, optional
        Decide again after so long even if nothing happens, to take turns; never by default.
    """

    kind: Ints
    share: Floats | None = None
    review_s: float = np.inf


#: A way to decide: the same view gives the same decision.
Scheduler = Callable[[View], Decision]
