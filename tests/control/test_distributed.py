"""Real processes that train one model together: gathered, granted at once, ended as one, begun again as one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import wait_until
from fixtures_workspace import job_spec

from airflow_dla.allocation import Policy
from airflow_dla.control import Crew, Listener, Timing, Workspace, begun, following, ship_code
from airflow_dla.ledger import Attempt, SqlLedger
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import ExitReason, JobKey, JobSpec, Node

#: Sums each step's numbers over all ranks; by sockets of the standard library, so that it runs anywhere, or by gloo.
TRAIN = """
import json, os, socket, time

def over_sockets(job):
    rank, size = job.rank, job.world_size
    where = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if rank == 0:
        server = socket.create_server(where)
        peers = [server.accept()[0].makefile("rwb", buffering=0) for _ in range(size - 1)]
    else:
        peers = [connected(where).makefile("rwb", buffering=0)]

    def total(value):
        if rank:
            peers[0].write(f"{value}\\n".encode())
            return float(answer(peers[0]))
        found = value + sum(float(answer(peer)) for peer in peers)
        for peer in peers:
            peer.write(f"{found}\\n".encode())
        return found

    return total

def connected(where):
    for _ in range(600):
        try:
            return socket.create_connection(where)
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise TimeoutError(where)

def answer(peer):
    line = peer.readline()
    if not line:
        raise ConnectionError("another rank is gone")
    return line

def over_gloo(job):
    import torch
    import torch.distributed as dist
    dist.init_process_group("gloo")
    assert (dist.get_rank(), dist.get_world_size()) == (job.rank, job.world_size)

    def total(value):
        tensor = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(tensor)
        return float(tensor)

    return total

def train(job):
    total = over_gloo(job) if job.args.get("gloo") else over_sockets(job)
    weight, step = 0.0, 0
    saved = job.checkpoint.load()
    if saved is not None:
        state = json.loads((saved / "state.json").read_text())
        weight, step = state["weight"], state["step"]
    job.log(resumed_at=step, ranks=job.world_size, threads=job.threads)
    with open(os.path.join(job.args["seen"], f"{job.rank}.{os.getpid()}"), "w") as seen:
        seen.write(str(step))
    while step < job.args["steps"]:
        weight += total((job.rank + 1) * (step + 1)) / job.world_size
        step += 1
        if step == job.args.get("fails_at") and job.rank == 1 and saved is None:
            raise ValueError(f"rank 1 gives up at step {step}")
        if step % 5 == 0:
            state = {"weight": weight, "step": step}
            job.checkpoint.save(lambda folder: (folder / "state.json").write_text(json.dumps(state)))
            job.log(step=step, weight=weight)
        time.sleep(job.args["pace_s"])
    (job.outputs["model"].path / "weight.json").write_text(json.dumps(weight))
    return {"weight": weight}
"""


def weight(steps: int, ranks: int) -> float:
    """Return what training ends with."""
    return sum((step + 1) * sum(rank + 1 for rank in range(ranks)) / ranks for step in range(steps))


@pytest.fixture
def here(workspace: Workspace, sqlite_ledger: SqlLedger, tmp_path: Path) -> Workspace:
    """Return a workspace of one node with two CPUs, whose runtime starts processes."""
    sqlite_ledger.remove_node("fake")
    sqlite_ledger.register_node(Node(name="here", capacity={"cpu": 2.0, "memory": 8.0}), host="here")
    runtime = LocalRuntime(tmp_path / "jobs", node="here")
    timing = Timing(poll_s=0.05, eager_s=0.02, renew_s=0.5, reap_s=60.0)
    return replace(workspace, runtimes={"here": runtime}, timing=timing, policy=Policy(min_run_s=0.0, patience_s=0.0))


Spec = Callable[..., JobSpec]


@pytest.fixture
def spec(here: Workspace, tmp_path: Path) -> Spec:
    """Return a function that makes the training job of a name."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "work.py").write_text(TRAIN)
    code = ship_code(here, tmp_path / "code")
    assert code is not None

    def spec_(name: str = "train", how: dict[str, Any] | None = None, *, steps: int = 20, pace_s: float = 0.02, **more: Any) -> JobSpec:
        seen = tmp_path / f"seen-{name}"
        seen.mkdir(exist_ok=True)
        policy = more.pop("policy", {})
        args = {"steps": steps, "pace_s": pace_s, "seen": str(seen), **more}
        given = {"entrypoint": "work:train", "args": args, "outputs": ["model"], "code": code.to_mapping()}
        given |= {"distributed": how, "request": {"cpu": 1, "memory": "512MiB"}, "policy": {"grace": 2, **policy}}
        return begun(job_spec(name, **given), name)

    return spec_


class Followed:
    """A job that a crew follows."""

    def __init__(self, crew: Crew, spec: JobSpec) -> None:
        self.lines: list[str] = []
        self.ended: list[Attempt] = []
        self.follow = following(crew.workspace, crew.workspace.ledger.open_attempt(spec), Listener(self.lines.append, self._end))
        self.crew = crew
        crew.join(self.follow)

    def _end(self, attempt: Attempt) -> None:
        self.ended.append(attempt)

    def says(self, text: str) -> None:
        """Wait for a line that begins so."""
        wait_until(lambda: self.ended or any(line.startswith(text) for line in self.lines), 30)
        assert any(line.startswith(text) for line in self.lines), self.lines

    def end(self) -> Attempt:
        """Wait for the job's end, and see that nothing is left of it."""
        wait_until(lambda: self.ended, 60)
        ledger = self.crew.workspace.ledger
        mine = {self.follow.attempt.job, *(ledger_id(self.follow.attempt.spec.key, number) for number in (1, 2))}
        assert not [lease for lease in ledger.leases() if lease.grant.id.partition(".")[0] in mine]
        for runtime in self.crew.workspace.runtimes.values():
            labels = [label for label in runtime.jobs() if label.partition(".")[0] in mine]
            assert not any(runtime.jobs()[label] for label in labels)
        return self.ended[0]


def ledger_id(key: JobKey, member: int) -> str:
    """Return the id of a member's job."""
    return replace(key, member=member).id


def trained(attempt: Attempt) -> dict[str, float]:
    """Return the metrics of a job that succeeded."""
    assert attempt.exit is not None
    assert attempt.exit.succeeded, attempt.exit
    assert set(attempt.exit.outputs) == {"model"}
    return dict(attempt.exit.metrics)


def pid_of(spec: JobSpec, rank: int) -> int:
    """Return the process of a rank that has begun, the newest."""
    folder = Path(spec.args["seen"])
    wait_until(lambda: [path for path in folder.glob(f"{rank}.*") if path.read_text()], 30)
    return int(max(folder.glob(f"{rank}.*"), key=lambda path: path.stat().st_mtime_ns).suffix[1:])


def test_ranks_of_one_member(here: Workspace, spec: Spec) -> None:
    """Two processes of one grant share its CPUs; only the first one's metrics and outputs count."""
    found = trained(Followed(Crew(here), spec(how={"nproc": 2}, gloo=False)).end())
    assert (found["weight"], found["ranks"], found["threads"]) == (weight(20, 2), 2, 1)


def test_members_train_together_by_gloo(here: Workspace, spec: Spec) -> None:
    """Two members of one process each, granted at once, reduce over gloo as if torchrun had started them."""
    pytest.importorskip("torch")
    job = Followed(Crew(here), spec(how={"nodes": 2}, gloo=True))
    found = trained(job.end())
    assert (found["weight"], found["ranks"]) == (weight(20, 2), 2)
    member = here.ledger.last_attempt(ledger_id(job.follow.attempt.spec.key, 1))
    assert member is not None
    assert member.exit is not None
    assert member.exit.succeeded
    assert (member.exit.outputs, member.exit.metrics) == ({}, {})


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_member_restarts_all_from_the_checkpoint(here: Workspace, spec: Spec, rank: int) -> None:
    """Whichever is killed, all begin again inside the same Airflow try and end as if nothing had happened."""
    job = Followed(Crew(here), asked := spec(how={"nodes": 2, "max_restarts": 1}, steps=40))
    job.says("step 15")
    os.kill(pid_of(asked, rank), signal.SIGKILL)
    last = job.end()
    found = trained(last)
    assert last.number == 2
    assert found["weight"] == weight(40, 2)
    assert found["resumed_at"] >= 10
    assert any("all begin again from the newest checkpoint (1 of 1)" in line for line in job.lines)


def test_a_rank_that_fails_restarts_all(here: Workspace, spec: Spec) -> None:
    """The first error is the one that is told, and a restart goes on from the checkpoint."""
    job = Followed(Crew(here), spec(how={"nodes": 2, "max_restarts": 2}, fails_at=12))
    last = job.end()
    assert last.number == 2
    assert trained(last)["weight"] == weight(20, 2)
    first = here.ledger.attempts([f"{last.job}.1"])[f"{last.job}.1"]
    assert first.exit is not None
    assert (first.exit.reason, first.exit.outputs) == (ExitReason.USER_ERROR, {})
    assert "rank 1 gives up at step 12" in first.exit.message


def test_a_rank_of_one_member_that_fails_is_named(here: Workspace, spec: Spec) -> None:
    """Without restarts the first failure among the processes of one member is the job's end."""
    last = Followed(Crew(here), spec(how={"nproc": 2}, fails_at=3)).end()
    assert last.exit is not None
    assert last.exit.message == "rank 1: ValueError: rank 1 gives up at step 3"


def test_a_follower_that_dies_is_replaced(here: Workspace, spec: Spec) -> None:
    """Another one finds all members in the ledger, starts none twice and hears the end."""
    first = Crew(here)
    job = Followed(first, spec(how={"nodes": 2}, steps=60))
    job.says("step 10")
    first.leave(job.follow)
    wait_until(lambda: not first._follows, 5)
    again = Followed(Crew(replace(here, follower="here:2:next")), job.follow.attempt.spec)
    last = again.end()
    assert (last.number, trained(last)["weight"]) == (1, weight(60, 2))
    assert len(list(Path(last.spec.args["seen"]).iterdir())) == 2


def test_a_stop_ends_all(here: Workspace, spec: Spec) -> None:
    """A person's stop of the job, or of any member, ends every process and nothing begins again."""
    crew = Crew(here)
    for name, member in (("one", 0), ("two", 1)):
        job = Followed(crew, spec(name, how={"nodes": 2, "max_restarts": 3}, steps=1000))
        job.says("step 5")
        stopped = here.ledger.last_attempt(ledger_id(job.follow.attempt.spec.key, member))
        assert stopped is not None
        here.ledger.want_stop(stopped.id, ExitReason.STOPPED)
        last = job.end()
        assert last.exit is not None
        assert (last.number, last.exit.reason) == (1, ExitReason.STOPPED)


def test_a_gang_makes_way_as_a_whole(here: Workspace, spec: Spec) -> None:
    """Preempted for what matters more, both members go on later from the checkpoint, and no restart is used up."""
    crew = Crew(here)
    job = Followed(crew, spec("low", how={"nodes": 2}, steps=60, policy={"preemptible": True, "infra_retries": 0}))
    job.says("step 10")
    high = Followed(crew, spec("high", how={"nproc": 2}, steps=5, policy={"priority": 9}))
    assert trained(high.end())["weight"] == weight(5, 2)
    last = job.end()
    found = trained(last)
    assert (last.number, found["weight"]) == (2, weight(60, 2))
    assert found["resumed_at"] >= 10
    before = here.ledger.attempts([f"{last.job}.1"])[f"{last.job}.1"]
    assert before.exit is not None
    assert before.exit.reason is ExitReason.PREEMPTED


def test_fewer_members_will_do(here: Workspace, spec: Spec) -> None:
    """Where there is no room for two together it trains with one, keeping its age."""
    crew = Crew(here)
    hog = Followed(crew, spec("hog", how={"nproc": 1}, steps=1000))
    hog.says("step 5")
    job = Followed(crew, spec("elastic", how={"nodes": "1-2", "shrink_after": 0.2}))
    last = job.end()
    found = trained(last)
    assert (last.number, found["ranks"], found["weight"]) == (2, 1, weight(20, 1))
    assert last.spec.lineage["asked_at"] < last.created_at
    assert any("no room for 2 members" in line for line in job.lines)
    crew.stop(hog.follow, ExitReason.STOPPED)
    hog.end()
