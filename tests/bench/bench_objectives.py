"""The objectives over GPU types against HiGHS's dual simplex, job by job: relative difference and largest violation.

Run ``python tests/bench/bench_objectives.py [--quick]``. Our side goes class by class through each
library; where there are more different jobs than the simplex is fast for, it is the interior point
method with crossover. What the ratio of finish times is compared with is a root of the simplex's floors.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.optimize import brentq, linprog
from scipy.sparse import csr_array, hstack, vstack

from airflow_dla.allocation import highs
from airflow_dla.allocation.heterogeneous import OBJECTIVES, Mix, fractions, proportional

LIBRARIES = ("scipy", "highspy") if highs.available() else ("scipy",)
FEW = 40


def draw_mix(seed: int, jobs: int) -> Mix:
    """Draw jobs of a few kinds, or as many kinds as jobs, that have waited; every third has a deadline that can be kept."""
    rng = np.random.default_rng(seed)
    kinds = jobs if jobs > FEW else int(rng.integers(2, 9))
    speed = rng.uniform(0.1, 50.0, (kinds, 3)) * (rng.random((kinds, 3)) < 0.8)
    speed[:, 0] = np.maximum(speed[:, 0], 1.0)
    of, capacity = rng.integers(kinds, size=jobs), rng.integers(4, 9, 3) * max(1, jobs // FEW)
    speed, gpus, steps = speed[of], rng.choice([1, 1, 2, 4], kinds)[of], rng.choice([1e3, 2e4, 5e5], jobs)
    equal = proportional(speed, gpus, capacity, 0.5 / jobs)
    left = np.where(np.arange(jobs) % 3 == 0, steps / np.maximum(equal, 1e-9), np.inf)
    return Mix(
        speed, gpus, capacity, steps, rng.choice([1.0, 2.0, 5.0], jobs), rng.uniform(0.0, 3e4, jobs), None, left, rng.uniform(0.5, 3.0, 3)
    )


def simplex(mix: Mix, gain: np.ndarray, floor: np.ndarray | None, *, lift: bool) -> float:
    """Maximise a sum, or with `lift` the lowest sum of a job, by HiGHS's dual simplex; a column for each job and type."""
    jobs, kinds = mix.throughput.shape
    columns = np.arange(jobs * kinds)
    time_rows = csr_array((np.ones(len(columns)), (columns // kinds, columns)))
    gpu_rows = csr_array((np.repeat(mix.gpus, kinds).astype(float), (columns % kinds, columns)))
    blocks, limit = [time_rows, gpu_rows], [np.ones(jobs), mix.capacity.astype(float)]
    if floor is not None:
        blocks.append(csr_array((-floor.ravel(), (columns // kinds, columns))))
        limit.append(np.zeros(jobs) if lift else -(floor.max(axis=1) > 0).astype(float))
    rows = vstack(blocks)
    upper, cost = (mix.gpus[:, None] <= mix.capacity).ravel().astype(float), -gain.ravel()
    if lift:
        rows = hstack([rows, csr_array(np.concatenate([np.zeros(jobs + kinds), np.ones(jobs)])[:, None])])
        upper, cost = np.append(upper, np.inf), np.append(0.0 * cost, -1.0)
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    return -linprog(
        cost, A_ub=rows, b_ub=np.concatenate(limit), bounds=np.column_stack([np.zeros(len(upper)), upper]), method="highs-ds", options=tight
    ).fun


def reference(objective: str, mix: Mix, near: float) -> float:
    """Return the best value by the simplex; `near` is where the ratio of finish times is sought."""
    able = np.where(mix.gpus[:, None] <= mix.capacity, mix.throughput, 0.0)
    equal = proportional(mix.throughput, mix.gpus, mix.capacity, 1.0 / len(mix.gpus))

    def highest(rate: np.ndarray) -> float:
        bound = rate.max(axis=1).min()
        return bound * simplex(mix, 0 * rate, rate / bound, lift=True)

    if objective == "max-min":
        return highest(able * (mix.gpus / (mix.weight * equal))[:, None])
    if objective == "makespan":
        return 1.0 / highest(able / mix.steps[:, None])
    if objective == "finish-time":
        alone = mix.steps / equal
        low = float(np.max((mix.elapsed_s + mix.steps / able.max(axis=1)) / alone))
        at = lambda ratio: highest(able * ((ratio * alone - mix.elapsed_s) / mix.steps)[:, None]) - 1.0  # noqa: E731
        return low if at(low) >= -1e-12 else brentq(at, low, 2.0 * near, rtol=1e-13, xtol=1e-13)
    gain = able * (mix.weight / mix.steps)[:, None] if objective == "jct" else able * mix.weight[:, None] / mix.price
    floor = able * np.where(np.isfinite(mix.left_s), mix.left_s, 0.0)[:, None] / mix.steps[:, None] if objective == "slo" else None
    scale = gain.max()
    return scale * simplex(mix, gain / scale, floor, lift=False)


def objectives(instances: int, jobs: int | None = None) -> str:
    """Compare every objective, through every library, with the simplex on random instances."""
    worst = {(name, library): 0.0 for name in OBJECTIVES for library in LIBRARIES}
    violated = 0.0
    for seed in range(instances):
        mix = draw_mix(seed, jobs or int(np.random.default_rng(seed).integers(2, FEW)))
        for name in OBJECTIVES:
            answers = {library: fractions(name, mix, library=library) for library in LIBRARIES}
            best = reference(name, mix, answers["scipy"].value)
            for library, found in answers.items():
                worst[name, library] = max(worst[name, library], abs(found.value - best) / abs(best))
                over = np.concatenate([found.x.sum(axis=1) - 1, mix.gpus @ found.x / mix.capacity - 1, -found.x.ravel()])
                done = (mix.throughput * found.x).sum(axis=1) * np.minimum(mix.left_s, 1e30)
                short = 1 - (done / mix.steps)[np.isfinite(mix.left_s)] if name == "slo" else np.zeros(1)
                violated = max(violated, float(over.max()), float(short.max()))
    lines = [f"  {name:<12} {library:<8} largest relative difference {value:.1e}" for (name, library), value in worst.items()]
    kind = f"{instances} instances of {jobs or f'2-{FEW - 1}'} jobs"
    return "\n".join([f"{kind}, shares of time against HiGHS dual simplex; largest violation {violated:.1e}", *lines])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer instances")
    quick = parser.parse_args().quick
    print(objectives(50 if quick else 1000), flush=True)  # noqa: T201
    print("\n" + objectives(2 if quick else 20, jobs=400), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
