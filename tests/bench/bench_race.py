"""How many quick deferred jobs meet the race of a deferred resume, with every core busy.

Airflow 3.3 fails a task whose trigger fires before the scheduler has heard of the end of
the process that deferred (apache/airflow#67287, #71580). Our trigger waits for that.

Usage: ``python tests/bench/bench_race.py [JOBS]`` (200 by default; with the repository's
root and ``tests`` on PYTHONPATH). About six seconds a job on two cores.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from system.airflow_server import AirflowServer
from system.processes import busy

ROOT = Path(__file__).parents[2]


def main(jobs: int) -> int:
    """Run that many jobs of 3 to 5 s beside as many busy loops as there are cores; return how many tasks failed or were tried again."""
    with tempfile.TemporaryDirectory(prefix="dla-bench-") as home, busy(os.cpu_count() or 1):
        dags = ROOT / "tests" / "system" / "dags"
        with AirflowServer(Path(home), dags, env={"PYTHONPATH": str(ROOT)}) as server:
            begun = time.monotonic()
            run = server.trigger("many", {"count": jobs})
            state = server.wait("many", run, timeout=60 + 30 * jobs)
            took = time.monotonic() - begun
            naps = [task for task in server.tasks("many", run) if task["task_id"] == "nap"]
    tries = Counter(task["try_number"] for task in naps)
    sys.stdout.write(f"{len(naps)} jobs in {took:.0f} s, run {state}: {dict(Counter(task['state'] for task in naps))}\n")
    sys.stdout.write(f"tries: {dict(tries)} (any beyond the first is the race)\n")
    return len(naps) - tries[1]


if __name__ == "__main__":
    sys.exit(min(1, main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)))
