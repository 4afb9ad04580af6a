"""``airflow dla jobs logs | exec | stop`` of jobs in containers of a real engine."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_daemon import Engine
from fixtures_workspace import job_spec

from airflow_dla.cli.jobs_logs import follow
from airflow_dla.cli.reach import Reach
from airflow_dla.control import Workspace, launch, run_round
from airflow_dla.errors import NotReady
from airflow_dla.hooks.workspace import open_workspace
from airflow_dla.ledger import Attempt
from airflow_dla.runtime.docker.runtime import DockerRuntime

HERE = ("--conn-id", "dla_engine")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_url: str, docker_engine: Engine) -> Iterator[Workspace]:
    """Return a workspace whose only place is the engine; its containers are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="dla-jobs-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        place = {"kind": "docker", "url": docker_engine.host, "folder": folder, "capacity": {"cpu": 2, "memory": "1GiB"}}
        extra = {"ledger": sqlite_url, "store": str(tmp_path / "store"), "places": {"gpu1": place}}
        monkeypatch.setenv("AIRFLOW_CONN_DLA_ENGINE", json.dumps({"conn_type": "dla", "extra": extra}))
        found = open_workspace(Reach("dla_engine").settings, "worker")
        yield found
        engine = engine_runtime(found).engine
        for one in engine.listing(found.identity).values():
            engine.remove(one.id, force=True)
        engine.close()


def engine_runtime(workspace: Workspace) -> DockerRuntime:
    """Return the runtime of the only place."""
    (runtime,) = workspace.runtimes.values()
    assert isinstance(runtime, DockerRuntime)
    return runtime


def started(workspace: Workspace, image: str, script: str, **more: Any) -> Attempt:
    """Start a job that runs a script of the shell."""
    request = {"cpu": 0.1, "memory": "32MiB"}
    agent = {"name": "job", "image": image}
    spec = job_spec(entrypoint=["sh", "-c", script], agent=agent, request=request, policy={"grace": 1}, **more)
    attempt = workspace.ledger.open_attempt(spec)
    run_round(workspace)
    until = time.monotonic() + 30
    while True:
        try:
            return launch(workspace, workspace.ledger.attempts([attempt.id])[attempt.id])
        except NotReady:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_logs_exec_and_stop(dla: Any, workspace: Workspace, bare_image: str) -> None:
    """What runs in a container is read, looked into and stopped by the same commands; its log stays when it is gone."""
    attempt = started(workspace, bare_image, "echo up; echo apart >&2; cd /dla; exec sleep 100")
    until = time.monotonic() + 20
    while "up" not in dla("jobs", "logs", *HERE, attempt.job).out:
        assert time.monotonic() < until
    assert sorted(dla("jobs", "logs", *HERE, attempt.job, "--json").document["lines"]) == ["apart", "up"]
    assert dla("jobs", "logs", *HERE, attempt.job, "--stream", "stderr").out == "apart\n"
    assert dla("jobs", "logs", *HERE, attempt.job, "--stream", "stdout").out == "up\n"
    found = dla("jobs", "exec", *HERE, attempt.job, "--", "sh", "-c", "pwd; echo $DLA_ATTEMPT; echo err >&2; exit 9")
    assert (found.status, found.out.split()) == (9, ["/dla/code", attempt.id])
    assert found.err.endswith("err\n")
    stopped = dla("jobs", "stop", *HERE, attempt.job, "--json").document
    assert (stopped["state"], stopped["exit"]["reason"]) == ("ended", "stopped")
    assert workspace.ledger.leases() == ()
    engine_runtime(workspace).collect(attempt.id)
    assert engine_runtime(workspace).engine.listing(workspace.identity) == {}
    assert sorted(dla("jobs", "logs", *HERE, attempt.job, "-f").out.split()) == ["apart", "up"]
    assert "rerun" in dla("jobs", "exec", *HERE, attempt.job, "true").err


def test_following_ends_with_the_job(dla: Any, workspace: Workspace, bare_image: str) -> None:
    """Everything up to the last unfinished line, also of a job that nobody else follows."""
    attempt = started(workspace, bare_image, "for i in 1 2 3; do echo $i; sleep 0.5; done; printf end")
    assert dla("jobs", "logs", "-f", *HERE, attempt.job).out == "1\n2\n3\nend\n"


def test_a_large_log_is_never_held(workspace: Workspace, bare_image: str) -> None:
    """Lines that end where no slice does: every byte is read once, and few at a time."""
    size = 32 << 20
    attempt = started(workspace, bare_image, f"yes {'0123456789' * 99} | head -c {size}")
    runtime = engine_runtime(workspace)
    before, seen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for said in follow(runtime, attempt.id, "nonce", lambda: runtime.status(attempt.id).exit is None):
        seen += said.consumed
    assert seen == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10


def test_rerun_in_its_image(dla: Any, workspace: Workspace, bare_image: str, tmp_path: Path) -> None:
    """The same image again: same output, nothing published, no container left; a shell there finds everything in place."""
    attempt = started(workspace, bare_image, "echo $DLA_ATTEMPT; echo words > $DLA_OUT/model/w", outputs=["model"])
    recorded = finished(workspace, attempt)
    assert recorded.exit is not None
    assert recorded.exit.succeeded, recorded.exit
    found = dla("jobs", "rerun", "--here", "--in-image", "--folder", str(tmp_path / "again"), *HERE, attempt.job, "--json")
    assert found.status == 0, found.err
    assert found.document["same"] == {"model": True}
    assert f"rerun-{attempt.job}.1" in found.err.splitlines()
    assert (Path(found.document["folder"]) / "out" / "model" / "w").read_text() == "words\n"
    shell = dla("jobs", "rerun", "--here", "--in-image", "--shell", "--folder", str(tmp_path / "shell"), *HERE, attempt.job)
    assert (shell.status, shell.out) == (0, "")
    assert "this runs it" in shell.err
    assert all(one.labels.get("dla.job") != f"rerun-{attempt.job}" for one in everything(workspace))


def finished(workspace: Workspace, attempt: Attempt) -> Attempt:
    """Wait for a job's end and record it, as its follower would."""
    until = time.monotonic() + 30
    while (status := engine_runtime(workspace).status(attempt.id)).exit is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    return workspace.ledger.finish(attempt.id, status.exit)


def everything(workspace: Workspace) -> list[Any]:
    """Return all that the engine has, whosever it is."""
    return engine_runtime(workspace).engine._ask_list(running=False)
