"""Training on two ranks over gloo: through a job of ours beside bare torchrun, on the same machine.

    python tests/bench/bench_distributed.py [ROUNDS [STEPS]]

The same script, seed, threads and CPUs on both sides, taken in turn. Compared are the steps
per second that rank 0 measures between its first and its last step, its CPU time, which
others on the machine disturb less, and the time from the start of the whole to its end.
Ours are two members of one process each (``torchrun(nodes=2)``) and one of two
(``torchrun(nproc=2)``), whose grants allow what bare may use, every CPU of the host; and two
members held to half of the CPUs each, which shows what such a limit costs a program that
now and then has more threads to run than that.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from fixtures_workspace import job_spec  # noqa: E402 - the path is set above

from airflow_dla.artifacts import Store  # noqa: E402
from airflow_dla.control import Crew, Listener, Workspace, begun, following, ship_code  # noqa: E402
from airflow_dla.ledger import Attempt, connect  # noqa: E402
from airflow_dla.registry import LedgerRegistry  # noqa: E402
from airflow_dla.runtime.local import LocalRuntime  # noqa: E402
from airflow_dla.specs import Node  # noqa: E402

THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

TRAIN = """
import json, os, sys, time
import torch
import torch.distributed as dist

steps, result = int(sys.argv[1]), sys.argv[2]
torch.manual_seed(7)
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
model = torch.nn.parallel.DistributedDataParallel(
    torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
torch.manual_seed(rank)
inputs, labels = torch.randn(1024, 256), torch.randint(0, 10, (1024,))

def step(number):
    rows = slice(number * 64 % 1024, number * 64 % 1024 + 64)
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
    loss.backward()
    optimizer.step()
    return loss

for number in range(20):
    step(number)
dist.barrier()
began, used = time.perf_counter(), time.process_time()
for number in range(steps):
    loss = step(number)
took, used = time.perf_counter() - began, time.process_time() - used
if rank == 0:
    with open(result, "w") as file:
        json.dump({"rate": steps / took, "cpu": used / steps, "loss": float(loss.detach())}, file)
dist.destroy_process_group()
"""


def main() -> None:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    with tempfile.TemporaryDirectory() as folder:
        found = compared(Path(folder), rounds, steps)
    bare = found["bare torchrun"]
    for name, runs in found.items():
        ratios = [run["rate"] / other["rate"] for run, other in zip(runs, bare, strict=True)]
        rate, cpu, wall = (statistics.median(run[kind] for run in runs) for kind in ("rate", "cpu", "wall"))
        speed = f"{rate:7.1f} steps/s, {statistics.median(ratios):.3f} x bare (best against best {best(runs) / best(bare):.3f})"
        print(f"{name:15} {speed}, CPU {cpu * 1e3:5.2f} ms a step, from start to end {wall:5.2f} s")  # noqa: T201
    losses = {run["loss"] for runs in found.values() for run in runs}
    print(f"last loss            {', '.join(f'{loss:.9f}' for loss in losses)}")  # noqa: T201


def best(runs: list[dict[str, float]]) -> float:
    """Return the steps per second of the run that was disturbed least."""
    return max(run["rate"] for run in runs)


def compared(folder: Path, rounds: int, steps: int) -> dict[str, list[dict[str, float]]]:
    """Run each in turn, in another order every round."""
    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text(TRAIN)
    workspace, cpus = workspace_in(folder), float(len(os.sched_getaffinity(0)))
    runs = {
        "bare torchrun": lambda _: bare(folder, steps),
        "ours, nodes=2": lambda number: ours(workspace, folder, f"nodes{number}", steps, {"nodes": 2}, cpus=cpus),
        "ours, nproc=2": lambda number: ours(workspace, folder, f"nproc{number}", steps, {"nproc": 2}, cpus=cpus),
        "ours, half each": lambda number: ours(workspace, folder, f"half{number}", steps, {"nodes": 2}, cpus=cpus / 2),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            runs[name](number)
            wall = time.perf_counter() - began
            found[name].append({**json.loads((folder / "result").read_text()), "wall": wall})
    return found


def bare(folder: Path, steps: int) -> None:
    """Run it as torchrun does, with the variables for speed that our jobs get."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc-per-node=2"]
    env = {**os.environ, **THREADS, "OMP_WAIT_POLICY": "PASSIVE"}
    script = [str(folder / "code" / "train.py"), str(steps), str(folder / "result")]
    subprocess.run([sys.executable, *words, *script], check=True, env=env)


def workspace_in(folder: Path) -> Workspace:
    """Make a workspace of this host with a ledger in a file."""
    ledger = connect(f"sqlite:///{folder}/ledger.db")
    ledger.upgrade()
    room = {"cpu": 2.0 * len(os.sched_getaffinity(0)), "memory": 16.0}
    ledger.register_node(Node(name="here", capacity=room), host="here")
    return Workspace(
        name="bench",
        identity=ledger.identity(),
        ledger=ledger,
        store=Store(f"{folder}/store"),
        registry=LedgerRegistry(ledger),
        runtimes={"here": LocalRuntime(folder / "jobs", node="here")},
        follower="here:1:bench",
        host="here",
        kind="worker",
    )


def ours(workspace: Workspace, folder: Path, name: str, steps: int, how: dict[str, Any], *, cpus: float) -> None:
    """Run it as a job, each member with a grant of so many CPUs."""
    ended: list[Attempt] = []
    code = ship_code(workspace, folder / "code")
    assert code is not None
    spec = job_spec(
        name, entrypoint=["python", "train.py", str(steps), str(folder / "result")], code=code.to_mapping(),
        agent={"name": "bench", "env": THREADS}, distributed=how, request={"cpu": cpus, "memory": "2GiB"},
    )  # fmt: skip
    attempt = workspace.ledger.open_attempt(begun(spec, name))
    crew = Crew(workspace)
    crew.join(following(workspace, attempt, Listener(ended=ended.append)))
    while not ended:
        time.sleep(0.02)
    assert ended[0].exit is not None
    assert ended[0].exit.succeeded, ended[0].exit


if __name__ == "__main__":
    main()
