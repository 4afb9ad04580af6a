"""``airflow dla simulate PODS.csv``: how well a placement list packs into a cluster."""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from airflow_dla.allocation.fragmentation import PLACEMENTS
from airflow_dla.allocation.one_pass import OnePass, inflated, one_pass, placement_policy
from airflow_dla.allocation.residuals import WHOLE
from airflow_dla.cli.answer import Answer, table
from airflow_dla.cli.placement_lists import read_nodes, read_pods
from airflow_dla.cli.plots import Chart, Line, write_plot
from airflow_dla.errors import InvalidSpec

#: The first seed; the others follow it.
FIRST_SEED: Final = 42


@dataclass(frozen=True, slots=True)
class _Seed:
    """One seed's pass."""

    seed: int
    arrivals: int
    found: OnePass
    wall_s: float

    def document(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "gpu_allocation_pct": self.found.gpu_allocation_pct,
            "fragmentation_pct": self.found.fragmentation_pct,
            "placed": self.arrivals - self.found.dropped,
            "dropped": self.found.dropped,
            "wall_s": self.wall_s,
        }


def is_placement_list(path: str) -> bool:
    """Tell a placement list from a job trace.

    Examples
    --------
    >>> is_placement_list("pods.csv"), is_placement_list("jobs.trace")
    (True, False)
    """
    return path.lower().endswith(".csv")


def simulate_placement(args: Namespace) -> Answer:
    """Place a list in one pass for each seed, and say how much of the GPUs is allocated in the end.

    Parameters
    ----------
    args : namespace
        `trace`, the list; `cluster`, the nodes; `inflate`, `seeds`, `placement`: see ``airflow dla simulate --help``.
    """
    started = time.perf_counter()
    if args.seeds < 1:
        raise InvalidSpec(f"--seeds must be >= 1, got {args.seeds}")
    if not args.cluster:
        raise InvalidSpec("a placement list needs --cluster NODES.csv")
    if args.placement not in PLACEMENTS:
        raise InvalidSpec(f"--placement must be one of {', '.join(PLACEMENTS)}, got {args.placement!r}")
    nodes, models = read_nodes(args.cluster)
    kinds, kind = read_pods(args.trace, models)

    def run(seed: int) -> _Seed:
        begun = time.perf_counter()
        draws = np.random.default_rng(seed)
        order = inflated(kind, kinds, capacity=WHOLE * int(nodes.gpus.sum()), inflate=args.inflate, draws=draws)
        found = one_pass(nodes, kinds, kind[order], placement_policy(args.placement, nodes, kinds, draws))
        return _Seed(seed, len(order), found, time.perf_counter() - begun)

    runs = [run(FIRST_SEED + turn) for turn in range(args.seeds)]
    document = _document(args.placement, runs) | {"wall_s": time.perf_counter() - started}
    if args.plot:
        write_plot(
            args.plot, [_by_seed("GPUs allocated", "gpu_allocation_pct", runs), _by_seed("GPUs fragmented", "fragmentation_pct", runs)]
        )
    return Answer(document, _text(document))


def _by_seed(title: str, measure: str, runs: Sequence[_Seed]) -> Chart:
    points = [(float(run.seed), float(getattr(run.found, measure))) for run in runs]
    return Chart(title, "seed", "%", (Line("all GPUs = 100 %", points),))


def _document(placement: str, runs: Sequence[_Seed]) -> dict[str, Any]:
    allocated = [run.found.gpu_allocation_pct for run in runs]
    return {
        "placement": placement,
        "gpu_allocation_pct": statistics.fmean(allocated),
        "gpu_allocation_sd": statistics.stdev(allocated) if len(runs) > 1 else 0.0,
        "fragmentation_pct": statistics.fmean(run.found.fragmentation_pct for run in runs),
        "seeds": [run.document() for run in runs],
    }


def _text(document: dict[str, Any]) -> str:
    header = ["SEED", "GPUS ALLOCATED", "FRAGMENTED", "PLACED", "DROPPED", "SECONDS"]
    rows = [_line(seed["seed"], seed, seed["placed"], seed["dropped"]) for seed in document["seeds"]]
    return table(header, [*rows, _line("mean", document, None, None)])


def _line(name: object, found: dict[str, Any], placed: object, dropped: object) -> list[object]:
    return [name, f"{found['gpu_allocation_pct']:.2f} %", f"{found['fragmentation_pct']:.2f} %", placed, dropped, f"{found['wall_s']:.2f}"]
