"""Deadlines kept by foresight: daily DAGs over a Poisson background, with and without holding room for them.

Run ``python tests/bench/bench_prediction.py [--seeds 20] [--days 30] [--jobs 2]``.

The workload of a seed: 12 daily DAGs at hours of their own, one job each of 4 or 8 GPUs,
10 to 60 minutes in the median, lognormal with sigma 0.3, priority 10; two of them ask up
to 20 minutes late, the others within a minute. Beneath them come jobs of priority 0 as a
Poisson process that loads 32 GPUs (4 nodes of 8) by 70 %: 1 to 8 GPUs, of 40 tasks whose
medians are lognormal around one hour. Nothing is preemptible.

A DAG's deadline is twice its median run after it asked (``policy.deadline``).

Both arms call the real `plan` at every event, with backfill from the same learnt run
times; one of them also holds room for what is expected. All that is learnt is learnt from
the jobs that have ended in the same simulation, so that the first day knows nothing.
*Reserved but unused* are GPU hours that were free, and refused to a job that would have
fitted, because they were kept for an expected job or for the head of the queue.
"""

from __future__ import annotations

import argparse
import heapq
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from airflow_dla.allocation import Plan, Policy, plan
from airflow_dla.allocation.forecast import Observed, Pattern, expected_end, holds, learn, run_quantile
from airflow_dla.ledger.arrivals import outstanding
from airflow_dla.specs import Demand, Expected, Grant, Node, Request

DAY, HOUR, MINUTE = 86_400.0, 3600.0, 60.0
NODES, GPUS = 4, 8
LOAD = 0.7
SIZES, SHARES = (1, 2, 4, 8), (0.4, 0.3, 0.2, 0.1)
#: Runs of a task that are learnt from.
MEMORY = 60


@dataclass(frozen=True, slots=True)
class Job:
    """One job that will ask at a time; `due` and `deadline_s` are those of the daily ones."""

    task: str
    asked_at: float
    run_s: float
    gpus: int
    priority: int = 0
    due: float | None = None
    deadline_s: float | None = None


@dataclass(slots=True)
class Result:
    """What came of one arm of one seed."""

    misses: int = 0
    unavoidable: int = 0
    daily: int = 0
    wait_s: list[float] = field(default_factory=list)
    background_wait_s: list[float] = field(default_factory=list)
    reserved_s: float = 0.0
    used_s: float = 0.0
    span_s: float = 0.0

    @property
    def reserved(self) -> float:
        """Share of all GPU time that was kept and not used."""
        return self.reserved_s / (self.span_s * NODES * GPUS)


def workload(rng: np.random.Generator, days: int) -> list[Job]:
    """Draw the jobs of so many days, in order of time."""
    return sorted([*_daily(rng, days), *_background(rng, days)], key=lambda job: job.asked_at)


def _daily(rng: np.random.Generator, days: int) -> list[Job]:
    found = []
    for dag in range(12):
        hour, median, gpus = rng.uniform(0, 24) * HOUR, rng.uniform(10, 60) * MINUTE, int(rng.choice([4, 8]))
        for day in range(days):
            due = day * DAY + hour
            late = rng.uniform(0, 20 * MINUTE if dag < 2 else MINUTE)
            run = median * float(np.exp(rng.normal(0, 0.3)))
            found.append(Job(f"daily-{dag:02d}", due + late, run, gpus, 10, due, 2 * median))
    return found


def _background(rng: np.random.Generator, days: int) -> list[Job]:
    medians = HOUR * np.exp(rng.normal(0, 0.7, size=40))
    mean_run = float(medians.mean() * np.exp(0.3**2 / 2))
    rate = LOAD * NODES * GPUS / (float(np.dot(SIZES, SHARES)) * mean_run)
    found, now = [], 0.0
    while (now := now + rng.exponential(1 / rate)) < days * DAY:
        task = int(rng.integers(40))
        run = float(medians[task] * np.exp(rng.normal(0, 0.3)))
        found.append(Job(f"ad-hoc-{task:02d}", now, run, int(rng.choice(SIZES, p=SHARES))))
    return found


class World:
    """One arm of the simulation."""

    def __init__(self, jobs: list[Job], days: int, *, foresee: bool, costs: tuple[float, float]) -> None:
        self.jobs, self.days, self.foresee, self.costs = jobs, days, foresee, costs
        self.nodes = [Node(name=f"n{index}", capacity={"gpu": GPUS}) for index in range(NODES)]
        self.live: dict[str, tuple[Grant, float]] = {}
        self.runs: dict[str, float] = {}
        self.pending: dict[str, Demand] = {}
        self.past: dict[str, list[Observed]] = defaultdict(list)
        self.came: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.patterns: dict[str, Pattern] = {}
        self.dues = sorted((job.due, job.task) for job in jobs if job.due is not None)
        self.result, self.kept_gpus = Result(), 0.0

    def run(self) -> Result:
        """Let everything happen, in order of time."""
        events = [(job.asked_at, 0, index) for index, job in enumerate(self.jobs)]
        heapq.heapify(events)
        then = 0.0
        while events:
            now, kind, index = heapq.heappop(events)
            self.result.reserved_s += self.kept_gpus * (min(now, self.days * DAY) - min(then, self.days * DAY))
            then = now
            if kind == 0:
                self._ask(index, now)
            elif kind == 1:
                self._end(index, now)
            answer, again_at = self._round(now)
            for name in answer.grants:
                heapq.heappush(events, (now + self.jobs[int(name)].run_s, 1, int(name)))
            if again_at is not None:
                heapq.heappush(events, (again_at, 2, -1))
        self.result.span_s = self.days * DAY
        return self.result

    def _ask(self, index: int, now: float) -> None:
        job = self.jobs[index]
        self.came["d", job.task] = [*self.came["d", job.task][-3:], now]
        name = f"{index:06d}"
        self.pending[name] = Demand(
            id=name,
            request=Request.from_mapping({"gpu": job.gpus}),
            priority=job.priority,
            created_at=now,
            run_s=self._expected_s(job.task),
        )

    def _expected_s(self, task: str) -> float | None:
        runs = [found.run_s for found in self.past[task] if found.run_s]
        return run_quantile(runs, 0.5) if runs else None

    def _end(self, index: int, now: float) -> None:
        job = self.jobs[index]
        _, since = self.live.pop(f"{index:06d}")
        seen = Observed(
            dag="d",
            task=job.task,
            due=job.due,
            asked_at=job.asked_at,
            run_s=now - since,
            amounts={"gpu": float(job.gpus)},
            priority=job.priority,
        )
        self.past[job.task] = [seen, *self.past[job.task]][:MEMORY]
        if job.due is not None:
            found = learn(self.past[job.task], shortage=self.costs[0], holding=self.costs[1])
            assert found is not None
            self.patterns[job.task] = found
        if job.asked_at < self.days * DAY:
            self._count(job, since, now)

    def _count(self, job: Job, since: float, now: float) -> None:
        self.result.used_s += job.run_s * job.gpus
        if job.deadline_s is None:
            self.result.background_wait_s.append(since - job.asked_at)
            return
        self.result.daily += 1
        self.result.misses += now > job.asked_at + job.deadline_s
        self.result.unavoidable += job.run_s > job.deadline_s
        self.result.wait_s.append(since - job.asked_at)

    def _expected(self, now: float) -> tuple[Expected, ...]:
        soon = [(due, task) for due, task in self.dues if now - HOUR <= due <= now + DAY / 2 and task in self.patterns]
        return outstanding([self.patterns[task].expect(due, f"{due:.0f}") for due, task in soon], self.came, now)

    def _round(self, now: float) -> tuple[Plan, float | None]:
        kept = holds(self._expected(now), now, shortage=self.costs[0], holding=self.costs[1]) if self.foresee else ()
        ends = {name: expected_end(since, self.runs[name], now) for name, (_, since) in self.live.items() if name in self.runs}
        runs = {name: demand.run_s for name, demand in self.pending.items() if demand.run_s}
        policy = Policy(ends=ends, runs=runs, holds=kept)
        answer = plan(self.nodes, [grant for grant, _ in self.live.values()], list(self.pending.values()), policy, now)
        for name, grant in answer.grants.items():
            self.live[name] = (grant, now)
            demand = self.pending.pop(name)
            if demand.run_s:
                self.runs[name] = demand.run_s
        self.kept_gpus = self._kept(answer)
        again = (
            min((hold.until + 1 for hold in kept), default=None) if any(r.binding == "expected" for r in answer.waiting.values()) else None
        )
        return answer, again

    def _kept(self, answer: Plan) -> float:
        """GPUs that are free and kept from somebody who would fit."""
        used: dict[str, float] = defaultdict(float)
        for grant, _ in self.live.values():
            used[grant.node] += grant.amounts["gpu"]
        free = [GPUS - used[node.name] for node in self.nodes]
        refused = [name for name, reason in answer.waiting.items() if reason.binding in {"expected", "queue"}]
        sizes = [self.pending[name].request.amounts["gpu"].minimum for name in refused]
        fitting = [size for size in sizes if size <= max(free)]
        return min(sum(free), sum(fitting))


def arms(seed: int, days: int, costs: tuple[float, float]) -> tuple[int, Result, Result]:
    """Simulate a seed without and with foresight."""
    jobs = workload(np.random.default_rng(seed), days)
    without, with_ = (World(jobs, days, foresee=foresee, costs=costs).run() for foresee in (False, True))
    return seed, without, with_


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--shortage", type=float, default=4.0, help="cost of a second that an expected job waits")
    parser.add_argument("--holding", type=float, default=1.0, help="cost of a second that is kept idle for it")
    args = parser.parse_args()
    print(HEADER)  # noqa: T201
    rows = []
    seeds = range(1, args.seeds + 1)
    costs = (args.shortage, args.holding)
    with ProcessPoolExecutor(args.jobs) as pool:
        for seed, without, with_ in pool.map(arms, seeds, [args.days] * len(seeds), [costs] * len(seeds)):
            rows.append((without, with_))
            print(f"{seed:>4} {line(without, with_)}", flush=True)  # noqa: T201
    print(summary(rows))  # noqa: T201


HEADER = (
    "                deadlines missed          reserved, unused        wait of daily, min    wait of others, min   GPU h done\n"
    "seed  daily  anyway  without  with     without   with   more       without    with       without    with      without -> with"
)


def line(a: Result, b: Result) -> str:
    """Write one seed."""
    waits = [(np.mean(a.wait_s), np.mean(b.wait_s)), (np.mean(a.background_wait_s), np.mean(b.background_wait_s))]
    shown = "  ".join(f"{before / 60:>12.1f} {after / 60:>7.1f}" for before, after in waits)
    return (
        f"{a.daily:>6} {a.unavoidable:>7} {a.misses:>8} {b.misses:>5} "
        f"{a.reserved:>11.2%} {b.reserved:>6.2%} {b.reserved - a.reserved:>+6.2%} {shown} "
        f"{a.used_s / HOUR:>12.0f} -> {b.used_s / HOUR:.0f}"
    )


def summary(rows: Sequence[tuple[Result, Result]]) -> str:
    """Write mean and spread over seeds."""
    changes = [b.misses / a.misses - 1 for a, b in rows if a.misses]
    more = [b.reserved - a.reserved for a, b in rows]
    before, after = (sum(arm.misses for arm in side) for side in zip(*rows, strict=True))
    return (
        f"deadline misses {before} -> {after}: {after / before - 1:+.1%} in all; by seed {spread(changes)}\n"
        f"reserved but unused, of all capacity: by seed {spread(more)}"
    )


def spread(values: Sequence[float]) -> str:
    """Write mean, standard deviation, least and most."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):+.2%} (standard deviation {deviation:.2%}, {min(values):+.2%} to {max(values):+.2%})"


if __name__ == "__main__":
    main()
