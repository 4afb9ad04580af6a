"""What a step costs beyond its work: our operator beside Airflow's own, in one Airflow, one task at a time.

Usage: ``python tests/bench/bench_overhead.py [RUNS]`` (7 by default; with the repository's
root and ``tests`` on PYTHONPATH). Times are those of Airflow: from the moment the task is
begun to its end, less what it was told to sleep; medians. A short deferred job also pays
for the end of its first hop: its event must not come before the scheduler knows of that.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from system.airflow_server import AirflowServer

ROOT = Path(__file__).parents[2]

#: Seconds that each task's work takes.
WORK_S: Mapping[str, float] = {
    "bash": 0.0,
    "dla_sync": 0.0,
    "dla_quick": 0.0,
    "airflow_deferred": 20.0,
    "dla_deferred": 20.0,
    "dla_deferred_short": 4.0,
}


def main(runs: int) -> None:
    """Run each kind of task that often, one after the other, and write medians."""
    with tempfile.TemporaryDirectory(prefix="dla-bench-") as home:
        dags = ROOT / "tests" / "bench" / "dags"
        with AirflowServer(Path(home), dags, env={"PYTHONPATH": str(ROOT)}) as server:
            measured = [one(server) for _ in range(runs)]
    sys.stdout.write(f"{runs} runs on {home}; seconds beyond the work, median (least to most)\n")
    for name in WORK_S:
        found = [run[name] for run in measured]
        sys.stdout.write(f"{name:20} {statistics.median(found):6.2f} ({min(found):.2f} to {max(found):.2f})\n")


def one(server: AirflowServer) -> dict[str, float]:
    """Run the DAG once; return the overhead of each task."""
    run = server.trigger("overhead")
    if server.wait("overhead", run, timeout=300) != "success":
        raise RuntimeError(f"run {run} did not succeed: {server.tasks('overhead', run)}")
    tasks = {task["task_id"]: task for task in server.tasks("overhead", run)}
    if again := [name for name, task in tasks.items() if task["try_number"] > 1]:
        sys.stdout.write(f"needed another try, so its time is that try's alone: {', '.join(again)}\n")
    return {name: seconds(tasks[name]) - work for name, work in WORK_S.items()}


def seconds(task: Mapping[str, Any]) -> float:
    """Return a task's time from its process's start to its end, hops and waits included."""
    return (datetime.fromisoformat(task["end_date"]) - datetime.fromisoformat(task["start_date"])).total_seconds()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
