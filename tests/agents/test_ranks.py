"""The ranks of one member: what each finds, and what the first failure does to the others."""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

import pytest
from fakes.runner import RunJob

from airflow_dla.agents.job import Job
from airflow_dla.agents.protocol import JobFile, JobFolder
from airflow_dla.agents.ranks import variables


def part(**more: Any) -> dict[str, Any]:
    """Return a member of two ranks, the only one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return {"run_id": "job.1", "port": port, "local_world_size": 2, "world_size": 2, **more}


#: What torch 2.13's ``torch.distributed.run`` sets for a rank, but for its own error files.
TOLD = {
    "LOCAL_RANK", "RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE",
    "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS", "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_USE_AGENT_STORE",
}  # fmt: skip


def test_torchruns_variables() -> None:
    """Each name that torchrun sets is set."""
    told = variables({**part(), "node_rank": 1, "nodes": 2, "first_rank": 2, "world_size": 4, "restarts": 1, "max_restarts": 3}, 1)
    assert set(told) == TOLD
    names = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    assert [told[name] for name in names] == ["3", "1", "1", "4", "2", "2", "1"]


def test_a_function_runs_once_for_each_rank(run_job: RunJob) -> None:
    """Every rank has its number; only the first one's metrics, outputs and checkpoints are heard."""
    code = """
    import os
    def main(job):
        assert (job.rank, job.world_size) == (int(os.environ["RANK"]), 2)
        job.log(rank=job.rank)
        job.checkpoint.save(lambda folder: (folder / "x").write_text("1"))
        job.checkpoint.save(lambda folder: (folder / "x").write_text("2"))
        if job.rank == 0:
            (job.outputs["model"].path / "w").write_text("w")
        return {"end": job.rank}
    """
    ran = run_job(code, part=part(), outputs=["model"])
    assert (ran.code, ran.metrics()) == (0, {"rank": 0.0, "end": 0.0})
    kinds = [line["kind"] for line in ran.lines]
    assert (kinds.count("output"), kinds.count("checkpoint"), kinds.count("note")) == (1, 2, 1)
    assert [path.name for path in (ran.folder / "out").rglob("*")] == ["model", "w"]


def test_a_command_runs_once_for_each_rank(run_job: RunJob) -> None:
    """A script that torchrun could start needs nothing of us; metrics are read from what the first prints."""
    script = "import os; print('loss=' + os.environ['RANK'], os.environ['LOCAL_WORLD_SIZE'])"
    ran = run_job(entrypoint=[sys.executable, "-c", script], part=part(first_rank=0), metrics={"loss": r"loss=(\S+)"})
    assert (ran.code, ran.metrics()) == (0, {"loss": 0.0})
    assert sorted(ran.log.split(b"\n"))[-2:] == [b"loss=0 2", b"loss=1 2"] or b"loss=1 2" in ran.log


def test_the_first_failure_ends_the_others(run_job: RunJob) -> None:
    """A rank that would wait for ever is ended, and the failed one's own word is the last."""
    code = """
    import time
    def main(job):
        if job.rank == 1:
            raise ValueError("no data")
        time.sleep(60)
    """
    began = time.monotonic()
    ran = run_job(code, part=part())
    assert (ran.code, ran.error()["message"]) == (1, "rank 1: ValueError: no data")
    assert time.monotonic() - began < 20


def test_a_killed_rank_is_told_apart(run_job: RunJob) -> None:
    """The runner ends by the signal that ended the rank, whatever the others say then."""
    code = """
    import os, signal, time
    def main(job):
        if job.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    """
    ran = run_job(code, part=part())
    assert ran.code == -9
    assert (ran.error()["reason"], ran.error()["message"]) == ("killed", "rank 1: was killed by SIGKILL")


def test_a_port_that_is_taken_is_a_loss(run_job: RunJob) -> None:
    """The next attempt has another port: nobody's fault."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ran = run_job("def main(job): pass", part=part(port=port, local_world_size=1, world_size=1))
    assert (ran.code, ran.error()["reason"]) == (1, "lost")
    assert f"port {port}, where the ranks are to meet, is taken" in ran.error()["message"]


@pytest.mark.parametrize(("cpus", "ranks", "threads"), [(4.0, 2, 2), (1.0, 2, 1), (2.5, 2, 1), (2.5, 1, 3)])
def test_ranks_share_the_threads(tmp_path: Any, cpus: float, ranks: int, threads: int) -> None:
    """Each computes with its part of the granted CPUs."""
    given = {"attempt": "j.1", "nonce": "n", "entrypoint": "a:b", "grant": {"amounts": {"cpu": cpus}}, "store": "", "checkpoint": "j"}
    (tmp_path / "job.json").write_text(json.dumps({**given, "part": part(local_world_size=ranks)}))
    folder = JobFolder(tmp_path, rank=1)
    job = Job(JobFile.read(folder.job), folder, lambda *_, **__: None)
    assert (job.threads, job.rank, job.world_size) == (threads, 1, 2)
