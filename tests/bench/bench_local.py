"""What a local attempt costs: a job that does nothing beside a bare process, and one look at its status.

    python tests/bench/bench_local.py [RUNS]

Wall times depend on the load of the machine; the ratios and the CPU times do not.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from contracts.runtime import ended, job_file  # noqa: E402 - the path is set above

from airflow_dla.artifacts import Store  # noqa: E402
from airflow_dla.runtime import Launch  # noqa: E402
from airflow_dla.runtime.local import LocalRuntime  # noqa: E402
from airflow_dla.specs import ExitReason  # noqa: E402

NOTHING = [sys.executable, "-c", "pass"]


def main() -> None:
    """Print the figures."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as folder:
        local = LocalRuntime(Path(folder) / "jobs", node="laptop")
        store = Store(f"{folder}/store")
        bare = measured(lambda _: subprocess.run(NOTHING, check=True), runs)
        nothing = measured(lambda number: attempt(local, f"job.{number + 1}", NOTHING), runs)
        writing = ["sh", "-c", 'echo x > "$0"/x', "{outputs.model}"]
        output = measured(lambda number: attempt(local, f"out.{number + 1}", writing, outputs=("model",), store=store.url), runs)
        print(f"bare subprocess.run       wall {bare[0] * 1e3:6.0f} ms")  # noqa: T201
        for name, (wall, submit) in (("job that does nothing", nothing), ("job with one output", output)):
            print(f"{name:25} wall {wall * 1e3:6.0f} ms, submit {submit * 1e3:.0f} ms, {wall / bare[0]:.1f} times bare")  # noqa: T201
        local.submit(Launch(job=job_file("run.1", ["sleep", "60"])))
        print(f"status of a running job   {cpu_of(lambda: local.status('run.1')) * 1e6:.0f} µs CPU")  # noqa: T201
        print(f"status of an ended job    {cpu_of(lambda: local.status('job.1')) * 1e6:.0f} µs CPU")  # noqa: T201
        print(f"keeper                    {keeper(local, 'run.1')}")  # noqa: T201
        local.cancel("run.1", ExitReason.STOPPED)
        ended(local, "run.1")


def attempt(local: LocalRuntime, label: str, command: list[str], **fields: object) -> float:
    """Run an attempt to its end; return the seconds that submit took."""
    began = time.perf_counter()
    local.submit(Launch(job=job_file(label, command, **fields)))
    submitted = time.perf_counter() - began
    assert ended(local, label).succeeded
    return submitted


def measured(call: Callable[[int], object], runs: int) -> tuple[float, float]:
    """Return the median wall seconds of a call, and of what it returned."""
    walls, returned = [], []
    for number in range(runs):
        began = time.perf_counter()
        found = call(number)
        walls.append(time.perf_counter() - began)
        returned.append(found if isinstance(found, float) else 0.0)
    return statistics.median(walls), statistics.median(returned)


def cpu_of(call: Callable[[], object], times: int = 2_000) -> float:
    """Return the CPU seconds of one call."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


def keeper(local: LocalRuntime, label: str) -> str:
    """Return what a keeper that waits costs."""
    pid = json.loads((local.root / label / "keeper.json").read_text())["pid"]
    before = _ticks(pid)
    time.sleep(3.0)
    used_s = (_ticks(pid) - before) / os.sysconf("SC_CLK_TCK")
    rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4 // 1024
    return f"{rss} MiB resident, {used_s / 3.0 * 100:.2f} % of a CPU"


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


if __name__ == "__main__":
    main()
