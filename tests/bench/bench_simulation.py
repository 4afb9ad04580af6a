"""Schedules of job traces: what strategies reach, beside published simulators and what one would write first.

Run ``DLA_DATA=… python tests/bench/bench_simulation.py [--all]``. One thread; each figure is of one
simulation, reading included; ``--all`` adds every objective and order on the same traces.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from airflow_dla.allocation.heterogeneous import Mix, fractions
from airflow_dla.allocation.simulation import report, scheduler, simulate
from airflow_dla.cli.simulate import read_cluster
from airflow_dla.cli.traces import read_trace

FOLDER = Path(os.environ.get("DLA_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "gavel"
PHYSICAL, STREAM = "physical_cluster", "gen_single_lam3600_seed0.trace"
MIXED, EVEN = "8xv100,16xp100,24xk80", "12xv100,12xp100,12xk80"
#: Trace, cluster, options, what to look at, what others reach.
JCT: dict[str, Any] = {"trace": f"{PHYSICAL}/max_min_fairness.trace", "cluster": MIXED}
MAKESPAN: dict[str, Any] = {"trace": f"{PHYSICAL}/minimize_makespan.trace", "cluster": MIXED, "objective": "makespan"}
FLOW: dict[str, Any] = {"trace": STREAM, "cluster": EVEN, "measure": slice(300, 500)}
ROWS = (
    ("makespan h, 100 jobs at once", MAKESPAN, "makespan", "Gavel 17.98, bound 17.708", 17.72),
    ("the same in rounds of 360 s", {**MAKESPAN, "round_s": 360.0}, "makespan", "Gavel 17.98, bound 17.708", 17.72),
    ("avg JCT h, 96 jobs", JCT, "jct", "Gavel 4.06, shortest GPU time 3.49", 3.40),
    ("the same, restarts of 30 s", {**JCT, "restart_s": 30.0}, "jct", "-", 3.48),
    ("avg JCT h, stream", FLOW, "jct", "Gavel 13.74, typed FIFO 13.03", 13.04),
    ("the same, arrivals x 1.6", {**FLOW, "speedup": 1.6}, "jct", "Gavel 14.59, typed FIFO 13.88", 13.6),
)


def measure(
    trace: str,
    cluster: str,
    *,
    strategy: str = "heterogeneous",
    objective: str = "jct",
    speedup: float = 1.0,
    measure: slice = slice(None),
    **given: float,
) -> dict[str, float]:
    """Simulate once, from reading to measures."""
    cpu, wall = time.process_time(), time.perf_counter()
    gpus = read_cluster(cluster)
    work, capacity = read_trace(FOLDER / trace, tuple(gpus), speedup=speedup), np.array(list(gpus.values()))
    outcome = simulate(work, capacity, scheduler(strategy, objective), **given)
    found = report(work, capacity, outcome, measure)
    return {
        "jct": float(found.jct_s.mean() / 3600),
        "makespan": found.makespan_s / 3600,
        "utilisation": found.utilisation,
        "fairness": float(found.fairness.max()),
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
    }


def everything() -> Iterator[str]:
    """Yield a line for each strategy and objective on each trace."""
    ways = [("heterogeneous", name) for name in ("jct", "makespan", "max-min", "finish-time", "cost", "slo")]
    ways += [(name, "") for name in ("fifo", "typed-fifo", "las")]
    for base in (JCT, MAKESPAN):
        for strategy, objective in ways:
            found = measure(**{**base, "strategy": strategy, "objective": objective})
            yield (
                f"{Path(base['trace']).stem:<20} {strategy:<14} {objective:<12} {found['jct']:>8.3f} {found['makespan']:>9.3f}"
                f" {found['utilisation']:>6.1%} {found['fairness']:>8.2f} {found['cpu']:>7.2f}"
            )


def programmes(count: int = 2048) -> Iterator[str]:
    """Yield the time of the programmes for many jobs of few kinds, and of the same job by job."""
    gpus = read_cluster(EVEN)
    kinds = np.unique(read_trace(FOLDER / STREAM, tuple(gpus)).throughput, axis=0)
    rng = np.random.default_rng(0)
    drawn = kinds[rng.integers(len(kinds), size=count)]
    distinct = drawn * rng.uniform(1 - 1e-6, 1 + 1e-6, size=(count, 1))
    for objective in ("max-min", "finish-time"):
        classes, apart = (_best(objective, throughput) for throughput in (drawn, distinct))
        yield f"{objective:<12} {count} jobs of {len(kinds)} kinds {classes:>7.2f} ms, {count} kinds {apart:>7.1f} ms"


def _best(objective: str, throughput: np.ndarray) -> float:
    count, found = len(throughput), []
    for _ in range(5):
        start = time.process_time()
        fractions(objective, Mix(throughput, np.ones(count, dtype=int), np.full(throughput.shape[1], count // 4), np.full(count, 1e5)))
        found.append(time.process_time() - start)
    return 1000 * min(found)


def bound() -> float:
    """Return the least makespan of the 100 jobs, of the programme at the start, h."""
    gpus = read_cluster(MIXED)
    work = read_trace(FOLDER / MAKESPAN["trace"], tuple(gpus))
    return fractions("makespan", Mix(work.throughput, work.gpus, np.array(list(gpus.values())), work.steps)).value / 3600


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every strategy and objective too")
    chosen = parser.parse_args()
    print(f"least makespan of the 100 jobs: {bound():.4f} h\n")  # noqa: T201
    print(f"{'':<32} {'reached':>9} {'goal':>7} {'cpu s':>7} {'wall s':>7}  others")  # noqa: T201
    for title, given, what, others, goal in ROWS:
        found = measure(**given)
        print(f"{title:<32} {found[what]:>9.4f} {goal:>7.2f} {found['cpu']:>7.2f} {found['wall']:>7.2f}  {others}")  # noqa: T201
    print("\nprogrammes, model building included:", *programmes(), sep="\n")  # noqa: T201
    if chosen.all:
        print(f"\n{'trace':<20} {'strategy':<14} {'objective':<12} {'jct h':>8} {'makespan':>9} {'used':>6} {'worst':>8} {'cpu s':>7}")  # noqa: T201
        for line in everything():
            print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
