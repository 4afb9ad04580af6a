"""CPU time of an allocation round: the solve on arrays, and `plan` with its objects and reasons.

Run ``python tests/bench/bench_allocation.py [--quick]``. One thread; best of several
repetitions; beside it what one would write first: scipy's ``linprog`` as it comes, on the
same separable problem, and a loop that serves demand after demand.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csc_array

from airflow_dla.allocation import Policy, plan
from airflow_dla.allocation.solve import solve
from airflow_dla.allocation.table import read_cluster, read_demands
from airflow_dla.specs import Demand, Node, Range, Request

NOW = 1e9
#: CPUs of the largest host that hands out ids; a larger node of this benchmark hands out none.
LARGEST_HOST = 1024
#: Milliseconds of CPU: the solve, and the plan, by number of demands.
TARGETS = {100: (1, 2), 1_000: (5, 10), 10_000: (20, 100), 100_000: (100, 1_000)}


def demands(count: int, *, seed: int = 1) -> list[Demand]:
    """Make demands on CPU, memory and disk, half of them ranges, of five priorities and four teams."""
    rng = random.Random(seed)
    return [_demand(rng, index) for index in range(count)]


def _demand(rng: random.Random, index: int) -> Demand:
    amounts = {}
    for resource, most in (("cpu", 8), ("memory", 32), ("disk", 100)):
        low = rng.randint(1, most)
        amounts[resource] = Range(float(low), float(low * rng.choice([1, 2])))
    return Demand(
        id=f"job-{index:06d}.1",
        request=Request(amounts),
        priority=rng.randint(0, 4),
        weight=rng.choice([1.0, 2.0]),
        team=f"team-{index % 4}",
        created_at=NOW - rng.randint(0, 3600),
    )


def cluster(pending: Sequence[Demand], nodes: int, *, fill: float) -> list[Node]:
    """Make equal nodes that hold `fill` of all that is wanted."""
    total = {name: sum(demand.request.amounts[name].wanted for demand in pending) for name in ("cpu", "memory", "disk")}
    capacity = {name: fill * amount / nodes for name, amount in total.items()}
    ids = tuple(range(int(capacity["cpu"]))) if capacity["cpu"] <= LARGEST_HOST else ()
    return [Node(name=f"n{index:03d}", capacity=capacity, cpu_ids=ids) for index in range(nodes)]


def gpu_demands(count: int, *, seed: int = 1) -> list[Demand]:
    """Make demands on shares of a GPU, whole ones and several, with ranges of CPU and memory beside them."""
    rng = random.Random(seed)
    found = demands(count, seed=seed)
    gpus = [rng.choice([0.25, 0.5, 1.0, 1.0, 2.0, 4.0]) for _ in found]
    return [
        replace(demand, request=Request({"gpu": Range(gpu, gpu), **{name: demand.request.amounts[name] for name in ("cpu", "memory")}}))
        for demand, gpu in zip(found, gpus, strict=True)
    ]


def gpu_cluster(nodes: int) -> list[Node]:
    """Make equal nodes of 8 GPUs, 64 CPUs and 256 GiB that hand out ids."""
    capacity = {"gpu": 8.0, "cpu": 64.0, "memory": 256.0}
    gpus = tuple(f"GPU-{index}" for index in range(8))
    return [Node(name=f"n{index:03d}", capacity=capacity, cpu_ids=tuple(range(64)), gpu_ids=gpus) for index in range(nodes)]


def best(work: Callable[[], object], *, seconds: float) -> float:
    """Return the least CPU time of several runs, ms."""
    found, until = [], time.process_time() + seconds
    while not found or time.process_time() < until:
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1000 * min(found)


def plain_linprog(pending: Sequence[Demand], nodes: Sequence[Node]) -> None:
    """Share one node out by scipy's defaults: no minima in question, no reasons, no ids."""
    low = np.array([[found.minimum for found in demand.request.amounts.values()] for demand in pending])
    high = np.array([[found.wanted for found in demand.request.amounts.values()] for demand in pending])
    size, resources = low.shape
    column = np.arange(size * resources)
    rows = csc_array((np.ones(len(column)), (column % resources, column)), shape=(resources, len(column)))
    limit = np.array([sum(node.capacity[name] for node in nodes) for name in ("cpu", "memory", "disk")])
    weight = np.repeat([demand.weight for demand in pending], resources)
    linprog(-weight, A_ub=rows, b_ub=limit, bounds=np.column_stack([np.zeros(len(column)), high.ravel()]))


def plain_loop(pending: Sequence[Demand], nodes: Sequence[Node]) -> None:
    """Give each demand its minimum on the fullest node that fits, one after the other."""
    free = [dict(node.capacity) for node in nodes]
    for demand in sorted(pending, key=lambda demand: (-demand.priority, demand.created_at, demand.id)):
        amounts = demand.request.amounts
        fitting = [node for node in free if all(node[name] >= found.minimum for name, found in amounts.items())]
        if fitting:
            node = min(fitting, key=lambda node: sum(node.values()))
            for name, found in amounts.items():
                node[name] -= found.minimum


def row(count: int, nodes: int, *, fill: float, shedding: str, seconds: float) -> str:
    """Measure one size and write it as a line of the table."""
    pending = demands(count)
    there = cluster(pending, nodes, fill=fill)
    policy = Policy(shedding=shedding)
    asked = read_demands(pending, policy)
    offered = read_cluster(there, [], asked, policy)
    solving = best(lambda: solve(asked, offered, policy), seconds=seconds)
    planning = best(lambda: plan(there, [], pending, policy, NOW), seconds=seconds)
    lp = best(lambda: plain_linprog(pending, there), seconds=seconds) if nodes == 1 else float("nan")
    loop = best(lambda: plain_loop(pending, there), seconds=seconds)
    goal = TARGETS[count]
    return (
        f"{count:>7} {nodes:>5} {fill:>5.0%} {shedding:<14} {solving:>8.2f} {goal[0]:>5} {planning:>9.2f} {goal[1]:>5}"
        f" {lp:>9.1f} {loop:>8.1f} {lp / solving:>8.1f} {loop / solving:>6.1f}"
    )


def gpu_row(count: int, nodes: int, *, seconds: float) -> str:
    """Measure demands that are seated on GPUs one by one and write it as a line of the table."""
    pending, there, policy = gpu_demands(count), gpu_cluster(nodes), Policy()
    asked = read_demands(pending, policy)
    offered = read_cluster(there, [], asked, policy)
    solving = best(lambda: solve(asked, offered, policy), seconds=seconds)
    planning = best(lambda: plan(there, [], pending, policy, NOW), seconds=seconds)
    return f"{count:>7} {nodes:>5}   GPU {'ids, strict':<14} {solving:>8.2f} {'':>5} {planning:>9.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each")
    quick = parser.parse_args().quick
    print("CPU ms        nodes  fill shedding          solve  goal      plan  goal   linprog     loop  linprog/solve loop/solve")  # noqa: T201
    print(gpu_row(100, 10, seconds=0.0 if quick else 0.3), flush=True)  # noqa: T201
    for count in TARGETS:
        for nodes in (1, max(4, count // 100)):
            for fill, shedding in ((1.2, "strict"), (0.5, "strict"), (0.8, "proportional"), (0.8, "water-filling")):
                print(row(count, nodes, fill=fill, shedding=shedding, seconds=0.0 if quick else 0.3), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
