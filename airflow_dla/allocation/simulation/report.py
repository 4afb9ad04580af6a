"""What a simulation comes to, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.heterogeneous import proportional
from airflow_dla.allocation.simulation.run import Outcome
from airflow_dla.allocation.simulation.workload import Workload
from airflow_dla.allocation.table import Floats, Ints
from airflow_dla.errors import InvalidSpec


@dataclass(frozen=True, slots=True)
class Report:
    """Measures of a simulation; averages are over the measured jobs, in order of arrival.

    Parameters
    ----------
    jct_s : float array, shape (measured,)
        From arrival to end.
    wait_s : float array, shape (measured,)
        The part of it without GPUs.
    fairness : float array, shape (measured,)
        Its completion time over its run time alone on a 1/n share of every type, n = jobs present,
        averaged over its life; 1 is as good as a cluster divided equally.
    makespan_s : float
        From the first arrival to the last end, of all jobs.
    utilisation : float
        GPU time held over GPU time there was, until the last end.
    restarts : int
        Of all jobs.
    late : int
        Measured jobs that ended after their deadline.
    """

    jct_s: Floats
    wait_s: Floats
    fairness: Floats
    makespan_s: float
    utilisation: float
    restarts: int
    late: int


def report(workload: Workload, capacity: Ints, outcome: Outcome, measured: slice = slice(None)) -> Report:
    """Measure an outcome.

    Parameters
    ----------
    measured : slice
        Of the jobs in order of arrival.

    Raises
    ------
    InvalidSpec
        If no job is measured.
    """
    chosen = np.argsort(workload.arrival_s, kind="stable")[measured]
    if len(chosen) == 0:
        raise InvalidSpec(f"no job is measured: {measured.start}:{measured.stop} of {len(workload.steps)} jobs")
    jct = outcome.finish_s - workload.arrival_s
    present = outcome.present_s / np.maximum(jct, 1e-300)
    alone = workload.steps / proportional(workload.throughput, workload.gpus, capacity, 1.0 / present)
    span = float(outcome.finish_s.max() - workload.arrival_s.min())
    return Report(
        jct_s=jct[chosen],
        wait_s=np.maximum(0.0, jct - outcome.run_s.sum(axis=1))[chosen],
        fairness=(jct / alone)[chosen],
        makespan_s=span,
        utilisation=float((outcome.run_s.sum(axis=1) * workload.gpus).sum() / (capacity.sum() * span)),
        restarts=int(outcome.restarts.sum()),
        late=int((outcome.finish_s > workload.deadline_s)[chosen].sum()),
    )
