"""Strategies side by side: how good, and at what CPU time.

Run ``python tests/bench/bench_strategies.py [--quick] [--limit-s 10]``. One thread; four tables:

* the closed forms against HiGHS's simplex on random instances: relative difference of the
  objective, and the largest violation of a capacity relative to it;
* `price` against HiGHS's integer programme with a time limit, on several nodes that hold so many
  bundles each: value reached relative to the bound, and to one another;
* clearing prices against the same linear programme given to scipy as it comes;
* `plan()` by strategy.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from bench_allocation import NOW, cluster, demands
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from airflow_dla.allocation import STRATEGIES, Policy, plan
from airflow_dla.allocation.lp import objective
from airflow_dla.allocation.market import clear
from airflow_dla.allocation.packing import Room, pack
from airflow_dla.allocation.price import choose
from airflow_dla.specs import Demand, Node, Range, Request

RESOURCES = ("cpu", "memory", "disk")


def measured(work: Callable[[], object], *, runs: int = 3) -> float:
    """Return the least CPU time of a few runs, ms."""
    found = []
    for _ in range(runs):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1000 * min(found)


def equality(instances: int) -> str:
    """Compare every strategy's strict shedding with HiGHS's dual simplex on random one-node instances."""
    worst, violated = dict.fromkeys(STRATEGIES, 0.0), 0.0
    for seed in range(instances):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(2, 40))
        low = rng.uniform(0.0, 5.0, (count, 3))
        high = low + rng.uniform(0.0, 5.0, (count, 3)) * (rng.random((count, 3)) < 0.7)
        weight = rng.uniform(0.1, 4.0, count)
        room = low.sum(axis=0) * rng.uniform(0.6, 2.0, 3)
        asked = [
            Demand(
                id=f"d{row:02d}",
                request=Request({name: Range(*ends) for name, *ends in zip(RESOURCES, low[row], high[row], strict=True)}),
                weight=float(weight[row]),
            )
            for row in range(count)
        ]
        node = Node(name="n", capacity=dict(zip(RESOURCES, room.tolist(), strict=True)))
        for strategy in STRATEGIES:
            answer = plan([node], [], asked, Policy(strategy=strategy), NOW)
            rows = np.array([row for row in range(count) if f"d{row:02d}" in answer.grants], dtype=np.intp)
            if not len(rows):
                continue
            got = np.array([[answer.grants[f"d{row:02d}"].amounts[name] for name in RESOURCES] for row in rows])
            columns = np.arange(got.size)
            limits = csr_array((np.ones(got.size), (columns % 3, columns)), shape=(3, got.size))
            bounds = np.column_stack([low[rows].ravel(), high[rows].ravel()])
            found = linprog(
                np.repeat(-weight[rows], 3), A_ub=limits, b_ub=np.maximum(room, low[rows].sum(axis=0)), bounds=bounds, method="highs-ds"
            )
            best = objective(np.ones(3), weight[rows], found.x.reshape(got.shape), high[rows])
            reached = objective(np.ones(3), weight[rows], got, high[rows])
            worst[strategy] = max(worst[strategy], abs(reached - best) / max(1.0, abs(best)))
            violated = max(violated, float(((got.sum(axis=0) - room) / room).max()))
    lines = [f"  {strategy:<10} largest relative difference {value:.1e}" for strategy, value in worst.items()]
    return "\n".join([f"{instances} instances, objective against HiGHS dual simplex; largest violation {violated:.1e}", *lines])


def packing_row(count: int, nodes: int, seed: int, *, limit_s: float) -> str:
    """Pack bundles greedily, as the strategy does, and by HiGHS."""
    rng = np.random.default_rng(seed)
    value, size = rng.choice([1.0, 2.0, 4.0], count), rng.uniform(0.05, 1.0, (count, 4))
    free = rng.choice([1.0, 2.0], (nodes, 1)) * np.ones((nodes, 4))
    free *= 0.7 * size.sum(axis=0).mean() / free.sum(axis=0).mean()
    room = Room(size, free, np.ones((count, nodes), dtype=bool), np.arange(nodes))

    def by_price() -> tuple[np.ndarray, float]:
        found = clear(value, size, free.sum(axis=0))
        return choose(room, value, np.argsort(-value / (size @ found.price), kind="stable"), found)

    found = clear(value, size, free.sum(axis=0))
    greedy = pack(room, value, np.argsort(-value / (size @ found.price), kind="stable"), found.price, enough=0.0)
    start = time.process_time()
    where, bound = by_price()
    pricing = 1000 * (time.process_time() - start)
    start = time.process_time()
    whole, proven = by_integers(room, value, limit_s)
    solving = 1000 * (time.process_time() - start)
    bound, reached = min(bound, proven), float(value[where >= 0].sum())
    held, simple = (where >= 0).sum() / nodes, value[greedy >= 0].sum()
    return (
        f"{count:>5} x {nodes:<3} {seed:>4} {held:>6.1f} {simple / bound:>8.4f} {reached / bound:>8.4f} {whole / bound:>8.4f}"
        f" {reached / whole if whole else float('inf'):>10.4f} {pricing:>8.0f} {solving:>8.0f} {solving / pricing:>6.1f}"
    )


def by_integers(room: Room, value: np.ndarray, limit_s: float) -> tuple[float, float]:
    """Pack by HiGHS's integer programme; return the value reached and the bound proven."""
    count, nodes, resources = len(value), *room.free.shape
    columns = np.arange(count * nodes)
    rows, at = columns // nodes, columns % nodes
    once = csr_array((np.ones(len(columns)), (rows, columns)), shape=(count, len(columns)))
    place = (at[:, None] * resources + np.arange(resources)).ravel()
    hold = csr_array((room.size[rows].ravel(), (place, np.repeat(columns, resources))), shape=(nodes * resources, len(columns)))
    found = milp(
        -value[rows],
        integrality=np.ones(len(columns), dtype=np.intp),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, ub=1.0), LinearConstraint(hold, ub=room.free.ravel())],
        options={"time_limit": limit_s, "mip_rel_gap": 1e-3},
    )
    return (-float(found.fun) if found.x is not None else 0.0), (
        -float(found.mip_dual_bound) if found.mip_dual_bound is not None else np.inf
    )


def market_row(count: int) -> str:
    """Find clearing prices for bids on four resources, and the same by scipy as it comes."""
    rng = np.random.default_rng(count)
    value, bundle = rng.uniform(0.5, 5.0, count), rng.uniform(0.1, 2.0, (count, 4))
    supply = 0.7 * bundle.sum(axis=0)
    clearing = measured(lambda: clear(value, bundle, supply))
    found = clear(value, bundle, supply)
    if count > 10_000:
        return f"{count:>7} {clearing:>9.1f} {'':>9}"
    solving = measured(lambda: linprog(-value, A_ub=bundle.T, b_ub=supply, bounds=(0, 1)), runs=1)
    best = -linprog(-value, A_ub=bundle.T, b_ub=supply, bounds=(0, 1)).fun
    return f"{count:>7} {clearing:>9.1f} {solving:>9.1f} {solving / clearing:>6.1f} {abs(found.value - best) / best:>10.1e}"


def plan_row(count: int, nodes: int) -> str:
    """Measure `plan()` by strategy, half of what is wanted being there."""
    pending = demands(count)
    there = cluster(pending, nodes, fill=0.5)
    found = [measured(partial(plan, there, [], pending, Policy(strategy=strategy), NOW), runs=2) for strategy in STRATEGIES]
    return f"{count:>7} {nodes:>5} " + " ".join(f"{value:>9.1f}" for value in found)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer instances and shorter limits")
    parser.add_argument("--limit-s", type=float, default=10.0, help="wall time of each integer programme")
    chosen = parser.parse_args()
    quick = chosen.quick
    print(equality(50 if quick else 1000), flush=True)  # noqa: T201
    print("\nvalue of bound, and CPU ms held   greedy    price     milp price/milp    price     milp  ratio")  # noqa: T201
    for count, nodes in ((40, 2), (100, 5), (200, 10), (400, 10), (40, 8), (100, 20), (200, 40)):
        for seed in range(1 if quick else 3):
            print(packing_row(count, nodes, seed, limit_s=2.0 if quick else chosen.limit_s), flush=True)  # noqa: T201
    print("\n   bids     clear  linprog  ratio difference  (CPU ms)")  # noqa: T201
    for count in (100, 1_000, 10_000, 100_000):
        print(market_row(count), flush=True)  # noqa: T201
    print("\nplan(), CPU ms   " + " ".join(f"{strategy:>9}" for strategy in STRATEGIES))  # noqa: T201
    for count, nodes in ((100, 1), (1_000, 1), (1_000, 10), (10_000, 1)):
        print(plan_row(count, nodes), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
