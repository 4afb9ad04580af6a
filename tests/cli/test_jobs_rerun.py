"""``airflow dla jobs rerun --here``, of jobs that really ran."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from fixtures_workspace import job_spec
from jobs_here import ended

from airflow_dla.cli.reach import Reach
from airflow_dla.control import Workspace, launch, run_round
from airflow_dla.ledger import Attempt
from airflow_dla.specs import JobSpec

HERE = ("--conn-id", "dla_test")

_TRAIN = """
import os, random

def main(job):
    words = (job.inputs["data"].path / "a.txt").read_text()
    for step in range(3):
        job.log(step=step, loss=random.random() / (step + 1))
    (job.outputs["model"].path / "w").write_text(f"{words} {random.random()} {job.args['lr']} {sorted({'a', 'b', 'c'})}")
    job.checkpoint.save(lambda folder: (folder / "c").write_text("x"))
    print("token", os.environ.get("TOKEN"))
    return {"accuracy": random.random()}
"""


def recorded(workspace: Workspace, tmp_path: Path, **more: Any) -> Attempt:
    """Run a small training to its end, as its follower would; return its attempt."""
    for name, text in (("work.py", more.pop("code", _TRAIN)), ("a.txt", "words")):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(textwrap.dedent(text))
    code, data = (workspace.store.publish(tmp_path / name, kind=kind) for name, kind in (("work.py", "code"), ("a.txt", "dataset")))
    fields: dict[str, Any] = {
        "entrypoint": "work:main", "request": {"cpu": 0.5, "memory": "128MiB"}, "policy": {"grace": 1}, "seed": 7, "args": {"lr": 0.5},
        "code": code.to_mapping(), "inputs": {"data": data.to_mapping()}, "outputs": ["model"], **more,
    }  # fmt: skip
    return run(workspace, job_spec(**fields))


def run(workspace: Workspace, spec: JobSpec) -> Attempt:
    """Run a job to its end and record it."""
    attempt = workspace.ledger.open_attempt(spec)
    run_round(workspace)
    found: Attempt = ended(workspace, launch(workspace, workspace.ledger.attempts([attempt.id])[attempt.id], {"TOKEN": "secret"}))
    return found


def stored(workspace: Workspace) -> set[str]:
    """Return what the store holds."""
    return {str(path) for path in Path(workspace.store.url.removeprefix("file://")).rglob("*")}


def test_the_same_comes_of_it_and_nothing_is_published(dla: Any, workspace: Workspace, tmp_path: Path) -> None:
    """Same code, inputs, seed and args: same metrics, same digest; ledger, store and grants are as they were."""
    attempt = recorded(workspace, tmp_path)
    assert attempt.exit is not None
    assert attempt.exit.succeeded, attempt.exit
    before, jobs = stored(workspace), workspace.ledger.jobs()
    found = dla("jobs", "rerun", attempt.job, "--here", "--folder", str(tmp_path / "again"), *HERE, "--json")
    assert found.status == 0, found.err
    said = found.document
    assert said["exit"]["metrics"] == dict(attempt.exit.metrics)
    assert said["exit"]["outputs"]["model"]["digest"] == attempt.exit.outputs["model"].digest
    assert said["same"] == {"model": True, "loss": True, "accuracy": True}
    assert "token None" in found.err
    assert (stored(workspace), workspace.ledger.jobs(), workspace.ledger.leases()) == (before, jobs, ())
    folder = Path(said["folder"])
    assert folder.parent == tmp_path / "again"
    assert (folder / "out" / "model" / "w").read_text().startswith("words ")
    assert not (folder / "in").exists()


def test_another_argument(dla: Any, workspace: Workspace, tmp_path: Path) -> None:
    """What is set is the job's, all else as it was; what differs is told, and all is kept when that is asked for."""
    attempt = recorded(workspace, tmp_path)
    again = ("--folder", str(tmp_path / "again"), "--keep", "--set", "lr=0.1")
    found = dla("jobs", "rerun", attempt.id, "--here", *again, *HERE)
    assert found.status == 0
    assert "step 1: loss=" in found.out
    assert "as recorded  all but model" in found.err
    (folder,) = (tmp_path / "again").iterdir()
    assert " 0.1 " in (folder / "out" / "model" / "w").read_text()
    assert (folder / "in" / "data" / "a.txt").exists()
    assert (folder / "code" / "work.py").exists()


def test_a_failure_is_its_status_and_is_kept(dla: Any, workspace: Workspace, tmp_path: Path) -> None:
    """The traceback is shown, the status is not 0, and everything is left to look at."""
    attempt = recorded(workspace, tmp_path, code="def main(job):\n    raise ValueError('boom')")
    found = dla("jobs", "rerun", attempt.job, "--here", "--attempt", "1", "--folder", str(tmp_path / "again"), *HERE)
    assert found.status == 1
    assert "ValueError: boom" in found.out
    assert "user_error" in found.err
    (folder,) = (tmp_path / "again").iterdir()
    assert (folder / "code" / "work.py").exists()


def test_secrets_only_when_asked_for(dla: Any, workspace: Workspace, tmp_path: Path) -> None:
    """Without the option it is told that they are missing."""
    (tmp_path / "token").write_text("hush")
    agent = {"name": "job", "secrets": {"TOKEN": f"file:{tmp_path / 'token'}"}}
    attempt = recorded(workspace, tmp_path, agent=agent)
    without = dla("jobs", "rerun", attempt.job, "--here", *HERE)
    assert "token None" in without.out
    assert "without its secrets TOKEN" in without.err
    assert "token hush" in dla("jobs", "rerun", attempt.job, "--here", "--with-secrets", *HERE).out


def test_a_shell_where_the_job_would_run(dla: Any, workspace: Workspace, tmp_path: Path) -> None:
    """Inputs and code are in place, and the job can be run from there by the line that is told."""
    attempt = recorded(workspace, tmp_path)
    os.environ["SHELL"] = str(tmp_path / "shell")
    (tmp_path / "shell").write_text(
        f"#!/bin/sh\nls; cat ../in/data/a.txt; {sys.executable} {Path('airflow_dla/agents').absolute()} run $DLA_JOB_DIR; exit 5\n"
    )
    (tmp_path / "shell").chmod(0o755)
    found = dla("jobs", "rerun", attempt.job, "--here", "--shell", "--folder", str(tmp_path / "again"), *HERE)
    assert found.status == 5, found.err
    assert found.out.startswith("work.py\nwords")
    assert '"accuracy"' in found.out
    assert "this runs it" in found.err


def test_a_folder_that_is_not_empty(dla: Any, workspace: Workspace, tmp_path: Path) -> None:
    """Nothing of anybody's is overwritten."""
    attempt = recorded(workspace, tmp_path)
    found = dla("jobs", "rerun", attempt.job, "--here", "--folder", str(tmp_path), *HERE)
    assert found.status == 1
    assert "not empty" in found.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_us(reach: Reach, workspace: Workspace, tmp_path: Path, number: signal.Signals) -> None:
    """A command that is interrupted leaves nothing running."""
    attempt = recorded(
        workspace,
        tmp_path,
        code="def main(job):\n    import time\n    if job.args.get('wait'): time.sleep(60)\n    open('../out/model/w', 'w').write('x')",
    )
    program = (
        "from argparse import Namespace as N; from airflow_dla.cli.jobs_rerun import rerun\n"
        f"rerun(N(conn_id={reach.conn_id!r}, job={attempt.job!r}, attempt=None, folder={str(tmp_path / 'again')!r}, keep=False, "
        "set=[('wait', True)], with_secrets=False, shell=False, in_image=False, json=False))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as child:
        until = time.monotonic() + 30
        while not list((tmp_path).glob("again/*/metrics.jsonl")) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        child.send_signal(number)
        assert child.wait(20) == 130
    (folder,) = (tmp_path / "again").iterdir()
    assert (folder / "exit.json").exists()
