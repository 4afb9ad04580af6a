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


def simulate(workload: Workload, capacity: Ints, scheduler: Scheduler, *, round_s: float | None = None, restart_s: float = 0.0) -> Outcome:
    """Run jobs to their end.

    Parameters
    ----------
    workload : Workload
    capacity : int array, shape (types,)
        GPUs of each type.
    scheduler : Scheduler
        It sees only jobs that have arrived, and decides when one arrives or ends.
    round_s : float, optional
        Jobs that arrive, and those whose turn it is, wait for the next multiple of it; GPUs that a job
        leaves are handed out at once. Nobody waits for a decision by default.
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
    world = _World(ordered, capacity, restart_s=restart_s, round_s=round_s)
    while world.go_on():
        world.decide(scheduler)
        world.advance()
    return world.outcome(np.argsort(order))


class _World:
    """The state of a simulation; jobs in order of arrival."""

    def __init__(self, jobs: Workload, capacity: Ints, *, restart_s: float, round_s: float | None) -> None:
        count, kinds = jobs.throughput.shape
        self.jobs, self.capacity, self.restart_s, self.round_s = jobs, capacity, restart_s, round_s
        self.now, self.arrived, self.active = 0.0, 0, np.zeros(0, dtype=np.intp)
        self.left, self.finish = jobs.steps.copy(), np.full(count, np.nan)
        self.kind, self.ready = np.full(count, -1), np.zeros(count)
        self.run, self.owed, self.share = np.zeros((count, kinds)), np.zeros((count, kinds)), np.zeros((count, kinds))
        self.restarts, self.present = np.zeros(count, dtype=np.intp), np.zeros(count)
        self.decisions, self.began, self.due = 0, 0.0, np.inf

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
            self.due = min(self.due, self._round(self.now))
        return True

    def decide(self, scheduler: Scheduler) -> None:
        """Ask the scheduler when it is time to."""
        if self.now < self.due:
            return
        self.decisions += 1
        if self.decisions == 1:
            self.began = self.now
        decision = scheduler(self._view(self.active))
        self._apply(self.active, decision)
        self.due = self._round(self.now + decision.review_s)

    def _round(self, time_s: float) -> float:
        """Return when the next round begins, at a time or after it."""
        if self.round_s is None or not np.isfinite(time_s):
            return time_s
        return float(np.ceil(time_s / self.round_s - _DONE)) * self.round_s

    def _view(self, asked: Ints) -> View:
        jobs = self.jobs
        return View(
            now_s=self.now,
            capacity=self.capacity,
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

    def advance(self) -> None:
        """Let time pass until a job ends or arrives, a round begins, or the scheduler wants to look again."""
        running = self.active[self.kind[self.active] >= 0]
        kind = self.kind[running]
        rate = self.jobs.throughput[running, kind]
        start = np.maximum(self.now, self.ready[running])
        ends = start + self.left[running] / rate
        until = min(float(ends.min(initial=np.inf)), self._next_event())
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

    def _next_event(self) -> float:
        arrival = self.jobs.arrival_s
        return min(self.due, float(arrival[self.arrived]) if self.arrived < len(arrival) else np.inf)

    def _finish(self, running: Ints, ended: Bools) -> None:
        done = running[ended | (self.left[running] <= _DONE * self.jobs.steps[running])]
        self.left[done], self.finish[done], self.kind[done] = 0.0, self.now, -1
        if len(done):
            self.active = self.active[np.isnan(self.finish[self.active])]
            self.due = self.now

    def outcome(self, back: Ints) -> Outcome:
        made = self.jobs.steps - self.left
        return Outcome(self.finish[back], self.run[back], made[back], self.restarts[back], self.present[back], self.decisions)
