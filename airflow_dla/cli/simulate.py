"""``airflow dla simulate``: what a strategy would have made of a trace of jobs."""

from __future__ import annotations

import re
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from airflow_dla.allocation.simulation import Report, report, scheduler, simulate
from airflow_dla.allocation.table import Floats
from airflow_dla.cli.answer import Answer, listing
from airflow_dla.cli.plots import Chart, Line, write_plot
from airflow_dla.cli.running import command
from airflow_dla.cli.simulate_history import simulate_history
from airflow_dla.cli.simulate_placement import is_placement_list, simulate_placement
from airflow_dla.cli.traces import read_trace
from airflow_dla.errors import InvalidSpec

_HOUR: Final = 3600.0
_PART: Final = re.compile(r"(\d+)\s*[xX]\s*([A-Za-z0-9_.-]+)")


@command
def run(args: Namespace) -> Answer:
    """Simulate a trace on a cluster, place a list of pods on its nodes, or replay our own history."""
    if args.history:
        return simulate_history(args)
    if not (args.trace and args.cluster):
        raise InvalidSpec("name a TRACE and its --cluster, or --history to replay the workspace's own jobs")
    return simulate_placement(args) if is_placement_list(args.trace) else _simulate_trace(args)


def _simulate_trace(args: Namespace) -> Answer:
    cluster = read_cluster(args.cluster)
    strategy = args.strategy or "heterogeneous"
    chosen = scheduler(strategy, args.objective)
    began = time.perf_counter()
    workload = read_trace(Path(args.trace), tuple(cluster), Path(args.throughputs) if args.throughputs else None, speedup=args.speedup)
    capacity = np.array(list(cluster.values()), dtype=np.intp)
    outcome = simulate(workload, capacity, chosen, round_s=args.round_s, restart_s=args.restart_s)
    found = report(workload, capacity, outcome, args.measure)
    document = {
        "strategy": strategy,
        "objective": args.objective if strategy == "heterogeneous" else None,
        "cluster": cluster,
        **_measures(found, jobs=len(workload.steps), decisions=outcome.decisions),
        "wall_s": time.perf_counter() - began,
    }
    if args.plot:
        write_plot(args.plot, [_shares("Completion times", found.jct_s), _shares("Waiting", found.wait_s)])
    return Answer(document, _said(document))


def _shares(title: str, seconds: Floats) -> Chart:
    """Return which part of the jobs took at most so long."""
    hours = np.sort(seconds) / _HOUR
    part = np.arange(1, len(hours) + 1) / len(hours)
    return Chart(title, "hours", "part of the jobs", (Line("jobs", list(zip(hours.tolist(), part.tolist(), strict=True))),))


def read_cluster(text: str) -> dict[str, int]:
    """Read GPUs by type.

    Raises
    ------
    InvalidSpec
        If it breaks the format, has no GPU, or names a type twice.

    Examples
    --------
    >>> read_cluster("8xv100,16xp100")
    {'v100': 8, 'p100': 16}
    """
    cluster: dict[str, int] = {}
    for part in text.split(","):
        found = _PART.fullmatch(part.strip())
        if found is None:
            raise InvalidSpec(f"--cluster must be like 8xv100,16xp100,24xk80, got {part!r} in {text!r}")
        count, kind = int(found[1]), found[2]
        if kind in cluster:
            raise InvalidSpec(f"--cluster must name each GPU type once, got {kind!r} twice in {text!r}")
        cluster[kind] = count
    if not any(cluster.values()):
        raise InvalidSpec(f"--cluster must have at least one GPU, got {text!r}")
    return cluster


def _measures(found: Report, *, jobs: int, decisions: int) -> dict[str, Any]:
    hours = found.jct_s / _HOUR
    return {
        "jobs": jobs,
        "measured": len(hours),
        "avg_jct_h": float(hours.mean()),
        "p50_jct_h": float(np.median(hours)),
        "p90_jct_h": float(np.quantile(hours, 0.9)),
        "avg_wait_h": float(found.wait_s.mean() / _HOUR),
        "makespan_h": found.makespan_s / _HOUR,
        "utilisation": found.utilisation,
        "fairness": {"mean": float(found.fairness.mean()), "max": float(found.fairness.max())},
        "late": found.late,
        "restarts": found.restarts,
        "decisions": decisions,
        "jct_h": hours.tolist(),
    }


def _said(document: Mapping[str, Any]) -> str:
    hours = f"{document['avg_jct_h']:.3f} h on average, {document['p50_jct_h']:.3f} h median, {document['p90_jct_h']:.3f} h at 90 %"
    return listing(
        {
            "strategy": " ".join(filter(None, (document["strategy"], document["objective"]))),
            "jobs": f"{document['jobs']}, of which {document['measured']} are measured",
            "completion": hours,
            "waiting": f"{document['avg_wait_h']:.3f} h on average",
            "makespan": f"{document['makespan_h']:.3f} h",
            "utilisation": f"{document['utilisation']:.1%}",
            "fairness": f"{document['fairness']['mean']:.3f} on average, {document['fairness']['max']:.3f} at worst (1 = an equal share)",
            "late": document["late"] or None,
            "restarts": document["restarts"],
            "took": f"{document['wall_s']:.2f} s, {document['decisions']} decisions",
        }
    )
