"""The simulation itself: jobs arrive, a scheduler decides, time passes until something happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.simulation.view import Decision, Scheduler, View
from airflow_dla.allocation.simulation.workload import Workload
from airflow_dla.allocation.table import Bools, Floats, Ints
from airflow_dla.errors import InvalidSpec, SolverFailed

_DONE = 1e-9


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to n jobs on T types.

    Parameters
    ----------
    finish_s : float array, shape (n,)
        In the order of the workload.
    run_s : float array, shape (n, T)
        How long each job held GPUs of each type, restarts included.
    made : float array, shape (n,)
        Steps that it made.
    restarts : int array, shape (n,)
        How often it was started again.
    present_s : float array, shape (n,)
        Integral over its life of the number of jobs present.
    decisions : int
    """

    finish_s: Floats
    run_s: Floats
    made: Floats
    restarts: Ints
    present_s: Floats
    decisions: int


def simulate(
    workload: Workload, capacity: Ints, scheduler: Scheduler, *, round_s: float | None = None, restart_s: float = 0.0
) -> Outcome:
    """Run jobs to their end.

    Parameters
    ----------
    workload : Workload
    capacity : int array, shape (types,)
        GPUs of each type.
    scheduler : Scheduler
        It sees only jobs that have arrived, and decides when one arrives or ends.
    round_s : float, optional
        Running jobs are stopped or moved only at multiples of it; GPUs that become free in between
        go to jobs that wait. Whenever something happens by default.
    restart_s : float
        How long a job that ran before makes no steps after it is started again or moved.

    Raises
    ------
    InvalidSpec
        If a job can never run, or a number breaks its rule.
    SolverFailed
        If the scheduler runs nobody although jobs wait and nothing else will happen.
    """
    if round_s is not None and not (np.isfinite(round_s) and round_s > 0):
        raise InvalidSpec(f"round_s must be > 0 and finite, got {round_s:g}; leave it out to decide at every event")
    if not (np.isfinite(restart_s) and restart_s >= 0):
        raise InvalidSpec(f"restart_s must be >= 0 and finite, got {restart_s:g}")
    workload.check_fits(capacity)
    ordered, order = workload.ordered()
    world = _World(ordered, capacity, restart_s)
    while world.go_on():
        world.decide(scheduler, round_s)
        world.advance(scheduler.review_s, round_s)
    return world.outcome(np.argsort(order))


class _World:
    """The state of a simulation; jobs in order of arrival."""

    def __init__(self, jobs: Workload, capacity: Ints, restart_s: float) -> None:
        count, kinds = jobs.throughput.shape
        self.jobs, self.capacity, self.restart_s = jobs, capacity, restart_s
        self.now, self.arrived, self.active = 0.0, 0, np.zeros(0, dtype=np.intp)
        self.left, self.finish = jobs.steps.copy(), np.full(count, np.nan)
        self.kind, self.ready = np.full(count, -1), np.zeros(count)
        self.run, self.owed, self.share = np.zeros((count, kinds)), np.zeros((count, kinds)), np.zeros((count, kinds))
        self.restarts, self.present = np.zeros(count, dtype=np.intp), np.zeros(count)
        self.decisions, self.began = 0, 0.0

    def go_on(self) -> bool:
        """Let arrive whoever is due; while nobody is there, the next one is."""
        arrival = self.jobs.arrival_s
        if len(self.active) == 0:
            if self.arrived == len(arrival):
                return False
            self.now = max(self.now, float(arrival[self.arrived]))
        due = int(np.searchsorted(arrival, self.now, side="right"))
        if due > self.arrived:
            self.active = np.concatenate([self.active, np.arange(self.arrived, due)])
            self.arrived = due
        return True

    def decide(self, scheduler: Scheduler, round_s: float | None) -> None:
        """Ask the scheduler; between rounds about those who wait and the GPUs that are free."""
        asked, capacity = self.active, self.capacity
        if round_s is not None and not self._at_round(round_s):
            held = self.active[self.kind[self.active] >= 0]
            asked = self.active[self.kind[self.active] < 0]
            used = np.bincount(self.kind[held], weights=self.jobs.gpus[held], minlength=len(capacity))
            capacity = np.asarray(capacity - used.astype(np.intp))
            asked = asked[((self.jobs.gpus[asked, None] <= capacity) & (self.jobs.throughput[asked] > 0)).any(axis=1)]
        if len(asked) == 0:
            return
        self.decisions += 1
        self._apply(asked, scheduler.decide(self._view(asked, capacity)))

    def _at_round(self, round_s: float) -> bool:
        return abs(self.now / round_s - round(self.now / round_s)) * round_s <= _DONE * max(1.0, self.now)

    def _view(self, asked: Ints, capacity: Ints) -> View:
        jobs = self.jobs
        if not self.decisions > 1:
            self.began = self.now
        return View(
            now_s=self.now,
            capacity=capacity,
            present=len(self.active),
            arrival_s=jobs.arrival_s[asked],
            deadline_s=jobs.deadline_s[asked],
            weight=jobs.weight[asked],
            gpus=jobs.gpus[asked],
            throughput=jobs.throughput[asked],
            steps=jobs.steps[asked],
            left=self.left[asked],
            kind=self.kind[asked],
            run_s=self.run[asked].sum(axis=1),
            owed_s=self.owed[asked],
            restart_s=self.restart_s,
            gap_s=(self.now - self.began) / max(1, self.decisions - 1),
        )

    def _apply(self, asked: Ints, decision: Decision) -> None:
        changed = (decision.kind != self.kind[asked]) & (decision.kind >= 0)
        again = asked[changed & (self.run[asked] > 0).any(axis=1)]
        self.restarts[again] += 1
        self.ready[asked[changed]] = self.now
        self.ready[again] = self.now + self.restart_s
        self.kind[asked] = decision.kind
        if decision.share is not None:
            self.share[asked] = decision.share

    def advance(self, review_s: float | None, round_s: float | None) -> None:
        """Let time pass until a job ends or arrives, a round begins, or the scheduler wants to look again."""
        running = self.active[self.kind[self.active] >= 0]
        kind = self.kind[running]
        rate = self.jobs.throughput[running, kind]
        start = np.maximum(self.now, self.ready[running])
        ends = start + self.left[running] / rate
        until = min(float(ends.min(initial=np.inf)), self._next_event(review_s, round_s))
        if not np.isfinite(until):
            raise SolverFailed(f"the scheduler runs none of {len(self.active)} jobs at {self.now:g} s, and nothing else will happen")
        passed = until - self.now
        self.left[running] -= rate * np.maximum(0.0, until - start)
        self.run[running, kind] += passed
        self.owed[self.active] += self.share[self.active] * passed
        self.owed[running, kind] -= passed
        self.present[self.active] += len(self.active) * passed
        self.now = until
        self._finish(running, ends <= until)

    def _next_event(self, review_s: float | None, round_s: float | None) -> float:
        arrival = self.jobs.arrival_s
        until = float(arrival[self.arrived]) if self.arrived < len(arrival) else np.inf
        if round_s is not None:
            boundary = (round(self.now / round_s) if self._at_round(round_s) else np.floor(self.now / round_s)) + 1
            return min(until, boundary * round_s)
        return until if review_s is None else min(until, self.now + review_s)

    def _finish(self, running: Ints, ended: Bools) -> None:
        done = running[ended | (self.left[running] <= _DONE * self.jobs.steps[running])]
        self.left[done], self.finish[done], self.kind[done] = 0.0, self.now, -1
        self.active = self.active[np.isnan(self.finish[self.active])]

    def outcome(self, back: Ints) -> Outcome:
        made = self.jobs.steps - self.left
        return Outcome(self.finish[back], self.run[back], made[back], self.restarts[back], self.present[back], self.decisions)
