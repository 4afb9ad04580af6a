"""Placement policies side by side on a placement list: GPUs allocated in the end, and CPU time a seed.

Run ``DLA_DATA=folder python tests/bench/bench_placement.py [--seeds 10]``. The folder holds
``openb/`` (one node list, pod lists); without it a list is generated. One thread, every policy
on the same arrivals, in one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from airflow_dla.allocation.fragmentation import PLACEMENTS, Kinds
from airflow_dla.allocation.one_pass import Nodes, inflated, one_pass, placement_policy
from airflow_dla.allocation.table import Ints
from airflow_dla.cli.placement_lists import read_nodes, read_pods

#: What the lists are known to reach: published for FGD, and the goal, per cent of the GPUs.
ANCHORS = {"default": (95.39, 95.8), "multigpu50": (97.18, 97.4)}

Problem = tuple[str, Nodes, Kinds, Ints]


def problems() -> Iterator[Problem]:
    """Yield the lists that there are, or one that is made here."""
    folder = Path(os.environ.get("DLA_DATA", "../shared/data")) / "openb"
    if not folder.is_dir():
        yield generated()
        return
    nodes, models = read_nodes(str(folder / "openb_node_list_gpu_node.csv"))
    for path in sorted(folder.glob("openb_pod_list_*.csv")):
        yield (path.stem.removeprefix("openb_pod_list_"), nodes, *read_pods(str(path), models))


def generated() -> Problem:
    """Make 200 nodes of 8 GPUs and a list with whole GPUs, gangs, shares and pods without GPUs."""
    draws = np.random.default_rng(1)
    share = np.array([0, 1000, 1000, 1000, 810, 650, 470, 320, 230, 160])
    gpus = np.array([0, 1, 2, 8, 1, 1, 1, 1, 1, 1])
    cpu = np.array([12, 11, 24, 88, 3, 12, 8, 4, 4, 4])
    weight = np.array([13, 45, 1, 1, 13, 4, 11, 5, 4, 3], dtype=float)
    kind = draws.choice(len(share), size=2000, p=weight / weight.sum())
    need = np.column_stack([1000.0 * cpu, 4096.0 * cpu])
    kinds = Kinds(need, gpus, share, np.ones((len(share), 1), dtype=bool), np.bincount(kind, minlength=len(share)).astype(float))
    return "generated", Nodes(np.tile([96_000.0, 393_216.0], (200, 1)), np.full(200, 8), np.zeros(200, dtype=np.intp)), kinds, kind


def row(problem: Problem, policy: str, *, seeds: int) -> str:
    """Measure one policy and write it as a line of the table."""
    name, nodes, kinds, kind = problem
    allocated, fragmented, seconds = [], [], []
    for seed in range(42, 42 + seeds):
        draws = np.random.default_rng(seed)
        arrivals = kind[inflated(kind, kinds, capacity=1000 * int(nodes.gpus.sum()), inflate=1.3, draws=draws)]
        start = time.process_time()
        found = one_pass(nodes, kinds, arrivals, placement_policy(policy, nodes, kinds, draws))
        seconds.append(time.process_time() - start)
        allocated.append(found.gpu_allocation_pct)
        fragmented.append(found.fragmentation_pct)
    spread = statistics.stdev(allocated) if seeds > 1 else 0.0
    published, goal = ANCHORS.get(name, (float("nan"), float("nan")))
    return (
        f"{name:<12} {policy:<9} {statistics.fmean(allocated):>10.2f} {spread:>5.2f} {statistics.fmean(fragmented):>10.2f}"
        f" {statistics.fmean(seconds):>6.2f} {max(seconds):>6.2f} {published:>10.2f} {goal:>6.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 42, 43, ... (default: 10)")
    seeds = parser.parse_args().seeds
    print("list         policy    allocated%    sd fragments%  CPU s    max  FGD publ.   goal")  # noqa: T201
    for problem in problems():
        for policy in reversed(PLACEMENTS):
            print(row(problem, policy, seeds=seeds), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
