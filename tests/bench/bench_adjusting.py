"""What changing live grants costs beside the plan, CPU time of one thread, in one process.

``python tests/bench/bench_adjusting.py`` prints milliseconds: `plan`, `adjust` after it, and
what was decided. Nothing helps in the first rows: live grants are not preemptible, matter as
much or more, or do not suffice; in the last ones a part of the queue matters more.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from airflow_dla.allocation import Policy, adjust, plan
from airflow_dla.allocation.rounds import situated
from airflow_dla.specs import Demand, Grant, Held, Node, Request

NOW = 5_000.0
REPEATS = 5
CASES = (
    ("rigid", 10_000, 200, 20),
    ("equal", 10_000, 200, 20),
    ("higher", 10_000, 200, 20),
    ("higher", 10_000, 1_000, 50),
    ("elastic", 1_000, 1_000, 50),
    ("one urgent", 1_000, 1_000, 50),
    ("some urgent", 1_000, 1_000, 50),
)

_Found = TypeVar("_Found")


def problem(kind: str, waiting: int, live: int, nodes: int) -> tuple[list[Node], list[Held], list[Demand]]:
    """Make nodes that are full, and a queue."""
    rng = random.Random(1)
    cluster = [Node(name=f"n{index}", capacity={"cpu": 4.0 * live / nodes, "memory": 64.0 * live / nodes}) for index in range(nodes)]
    held = [_runs(f"h{index}", f"n{index % nodes}", kind) for index in range(live)]
    urgent = {"one urgent": 1, "some urgent": 16}.get(kind, 0)
    asked = [Request.from_mapping({"cpu": rng.choice([1, 2, 4, 8]), "memory": rng.choice([1, 2, 4])}) for _ in range(waiting)]
    pending = [
        Demand(id=f"p{index}", request=request, priority=9 if index < urgent else 0, created_at=1_000.0 + index * 0.01)
        for index, request in enumerate(asked)
    ]
    return cluster, held, pending


def _runs(name: str, node: str, kind: str) -> Held:
    cpu = "2-4" if kind == "elastic" else "4"
    request = Request.from_mapping({"cpu": cpu, "memory": 2})
    demand = Demand(id=name, request=request, priority=5 if kind in {"higher", "elastic"} else 0, preemptible=kind != "rigid")
    return Held(demand=demand, grant=Grant(id=name, node=node, amounts={"cpu": 4.0, "memory": 2.0}))


def best(work: Callable[[], _Found]) -> tuple[float, _Found]:
    """Return the least CPU time of several runs, ms, and what the last one found."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        found = work()
        times.append(time.process_time() - began)
    return 1_000.0 * min(times), found


def row(kind: str, waiting: int, live: int, nodes: int) -> str:
    """Measure one case and write its line."""
    cluster, held, pending = problem(kind, waiting, live, nodes)
    policy = situated(Policy(), held, pending, NOW)
    charged = [one.charged() for one in held]
    planned, answer = best(lambda: plan(cluster, charged, pending, policy, NOW))
    adjusted, found = best(lambda: adjust(cluster, held, pending, answer, policy, NOW))
    counts = f"{len(found.preempted):>5} {len(found.targets):>7} {len(found.coming):>4}"
    return f"{kind:>12} {waiting:>8} {live:>6} {planned:>8.1f} {adjusted:>10.1f} {counts}"


def main() -> None:
    """Print the table."""
    print(f"{'live grants':>12} {'waiting':>8} {'live':>6} {'plan ms':>8} {'adjust ms':>10} {'stop':>5} {'change':>7} {'for':>4}")  # noqa: T201
    for case in CASES:
        print(row(*case), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
