"""What a simulation starts from: jobs that arrive, and GPUs of several types."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from airflow_dla.allocation.table import Floats, Ints
from airflow_dla.errors import InvalidSpec


@dataclass(frozen=True, slots=True)
class Workload:
    """Jobs, each a row; a job is a gang that takes all its GPUs of one type at once, or none.

    Parameters
    ----------
    arrival_s : float array, shape (jobs,)
        When a job becomes known, with its steps; >= 0.
    gpus : int array, shape (jobs,)
        GPUs that it takes while it runs, >= 1.
    steps : float array, shape (jobs,)
        Steps to make, > 0.
    throughput : float array, shape (jobs, types)
        Steps per second on so many GPUs of a type; 0 where it cannot run.
    weight : float array, shape (jobs,)
        What a job matters, > 0.
    deadline_s : float array, shape (jobs,)
        When it should be done; infinite without a deadline.

    Raises
    ------
    InvalidSpec
        If a number breaks its rule; says which job.
    """

    arrival_s: Floats
    gpus: Ints
    steps: Floats
    throughput: Floats
    weight: Floats
    deadline_s: Floats

    def __post_init__(self) -> None:
        _every("arrival_s", self.arrival_s, np.isfinite(self.arrival_s) & (self.arrival_s >= 0), ">= 0 and finite")
        _every("gpus", self.gpus, self.gpus >= 1, ">= 1")
        _every("steps", self.steps, np.isfinite(self.steps) & (self.steps > 0), "> 0 and finite")
        _every("weight", self.weight, np.isfinite(self.weight) & (self.weight > 0), "> 0 and finite")
        _every("deadline_s", self.deadline_s, ~np.isnan(self.deadline_s), "a time")
        rates = np.isfinite(self.throughput) & (self.throughput >= 0)
        _every("throughput", self.throughput.min(axis=1, initial=np.inf), rates.all(axis=1), ">= 0 and finite")

    def check_fits(self, capacity: Ints) -> None:
        """Refuse a job that no type can ever run.

        Raises
        ------
        InvalidSpec
            If there is no GPU at all, or a job's gang is larger than every type on which it makes steps.
        """
        if capacity.sum() <= 0 or (capacity < 0).any():
            raise InvalidSpec(f"a cluster must have a GPU, got {capacity.tolist()} by type")
        runs = (self.throughput > 0) & (self.gpus[:, None] <= capacity)
        lost = np.flatnonzero(~runs.any(axis=1))
        if len(lost):
            job = int(lost[0])
            raise InvalidSpec(
                f"job {job} can never run: it takes {self.gpus[job]} GPUs of one type, the cluster has {capacity.tolist()} by type,"
                f" and its steps per second there are {self.throughput[job].tolist()}"
            )

    def ordered(self) -> tuple[Self, Ints]:
        """Return the jobs by arrival and content, so that their order in a file means nothing, and where each was."""
        keys = [self.deadline_s, self.weight, *self.throughput.T, self.steps, self.gpus, self.arrival_s]
        order = np.lexsort(keys)
        return type(self)(*(getattr(self, part.name)[order] for part in fields(self))), order


def _every(name: str, given: Floats | Ints, kept: Any, rule: str) -> None:
    if not kept.all():
        job = int(np.flatnonzero(~kept)[0])
        raise InvalidSpec(f"{name} must be {rule}, got {given[job]} (job {job})")
