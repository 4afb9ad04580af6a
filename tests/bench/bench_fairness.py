"""Max-min and finish-time fairness: our programmes beside the same linear programme given to cvxpy.

Run ``pip install cvxpy airflow-dla[fast]`` and then
``DLA_DATA=… python tests/bench/bench_fairness.py [--jobs 2048] [--seed 0]``. One thread, one process,
the candidates in turns. Jobs are drawn uniformly from the single-GPU rows of
``simulation_throughputs.json``, with a quarter as many GPUs of each type as jobs. Every
time includes the building of the model, from arrays to shares of each job:

* ``cvxpy``: one variable for each job and type, its default solver;
* ``cold``: `fractions`, through scipy and through highspy;
* ``warm``: one job leaves, and a `ClassProgramme` that is kept says what the others get.

A difference is relative to cvxpy's objective, for the warm ones to that of a cold solution
of the jobs that are left.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from airflow_dla.allocation import highs
from airflow_dla.allocation.heterogeneous import ClassProgramme, Mix, fractions, proportional

try:
    import cvxpy
except ImportError:
    sys.exit("this benchmark compares with cvxpy: pip install cvxpy")

DATA = Path(os.environ.get("DLA_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "gavel"
TYPES = ("v100", "p100", "k80")
RUNS = {"cvxpy": 5, "cold": 30, "warm": 60}


def draw(jobs: int, seed: int) -> Mix:
    """Draw jobs of one GPU each."""
    known = json.loads((DATA / "simulation_throughputs.json").read_text())
    names = [name for name in known[TYPES[0]] if literal_eval(name)[1] == 1]
    kinds = np.array([[known[kind][name]["null"] for kind in TYPES] for name in names])
    rng = np.random.default_rng(seed)
    return Mix(
        throughput=kinds[rng.integers(len(kinds), size=jobs)],
        gpus=np.ones(jobs, dtype=np.intp),
        capacity=np.full(len(TYPES), jobs // 4),
        steps=10 ** rng.uniform(3, 6, size=jobs),
    )


def by_cvxpy(objective: str, mix: Mix) -> float:
    """Build and solve the programme job by job; return its value."""
    jobs, kinds = mix.throughput.shape
    equal = proportional(mix.throughput, mix.gpus, mix.capacity, 1.0 / jobs)
    rate = mix.throughput * ((mix.gpus if objective == "max-min" else 1.0) / equal)[:, None]
    x, floor = cvxpy.Variable((jobs, kinds), nonneg=True), cvxpy.Variable()
    limits = [cvxpy.sum(x, axis=1) <= 1, mix.gpus @ x <= mix.capacity, cvxpy.sum(cvxpy.multiply(rate, x), axis=1) >= floor]
    problem = cvxpy.Problem(cvxpy.Maximize(floor), limits)
    problem.solve()
    return float(problem.value if objective == "max-min" else 1.0 / problem.value)


class Leaving:
    """One job after the other leaves; the programme is kept."""

    def __init__(self, objective: str, mix: Mix, library: str) -> None:
        self.kept = ClassProgramme(objective, mix, library=library)
        self.objective, self.mix, self.library = objective, mix, library
        self.count, self.here = self.kept.count.copy(), np.ones(len(mix.gpus), dtype=bool)
        self.leaver = iter(np.random.default_rng(1).permutation(len(mix.gpus)).tolist())
        self.kept.solve()

    def step(self) -> float:
        """Let one job leave, and read the shares of all others."""
        job = next(self.leaver)
        self.here[job] = False
        self.count[self.kept.of[job]] -= 1
        found = self.kept.solve(self.count)
        assert found.x[self.kept.of[self.here]].shape[0] == self.here.sum()
        return found.value

    def cold(self) -> float:
        """Return the value of those who are left, asked anew."""
        return fractions(self.objective, self.mix.at(np.flatnonzero(self.here)), library=self.library).value


def timed(work: Callable[[], float], taken: list[float]) -> float:
    """Run once; note the CPU time in ms."""
    start = time.process_time()
    value = work()
    taken.append(1000 * (time.process_time() - start))
    return value


def cold(objective: str, mix: Mix, library: str) -> float:
    """Check the numbers, build and solve."""
    given = Mix(throughput=mix.throughput, gpus=mix.gpus, capacity=mix.capacity, steps=mix.steps)
    return fractions(objective, given, library=library).value


def compare(objective: str, mix: Mix, libraries: tuple[str, ...]) -> list[str]:
    """Return the lines of one objective: the candidates take turns, so that a busy machine is the same for all."""
    leaving = {library: Leaving(objective, mix, library) for library in libraries}
    work: dict[tuple[str, str], Callable[[], float]] = {("cvxpy", ""): lambda: by_cvxpy(objective, mix)}
    for library in libraries:
        work["cold", library] = lambda library=library: cold(objective, mix, library)
        work["warm", library] = leaving[library].step
    taken: dict[tuple[str, str], list[float]] = {name: [] for name in work}
    value: dict[tuple[str, str], float] = {}
    for turn in range(max(RUNS.values())):
        for name, run in work.items():
            if turn < RUNS[name[0]]:
                value[name] = timed(run, taken[name])
    right = {name: leaving[name[1]].cold() if name[0] == "warm" else value["cvxpy", ""] for name in work}
    least, middle = ({name: how(times) for name, times in taken.items()} for how in (min, statistics.median))
    base = ("cvxpy", "")
    return [
        f"{objective:<12} {' '.join(name):<14} {least[name]:>8.3f} {middle[name]:>8.3f} {least[base] / least[name]:>7.0f}x"
        f" {middle[base] / middle[name]:>7.0f}x {value[name]:>15.10f} {abs(value[name] / right[name] - 1):>10.1e}"
        for name in work
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    mix = draw(chosen.jobs, chosen.seed)
    libraries = ("scipy", "highspy") if highs.available() else ("scipy",)
    print(f"{chosen.jobs} jobs of {len(np.unique(mix.throughput, axis=0))} kinds, {mix.capacity.tolist()} GPUs; CPU ms")  # noqa: T201
    print(f"{'':<27} {'least':>8} {'median':>8} {'least':>8} {'median':>8} {'objective':>15} {'difference':>10}")  # noqa: T201
    for objective in ("max-min", "finish-time"):
        print(*compare(objective, mix, libraries), sep="\n", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
