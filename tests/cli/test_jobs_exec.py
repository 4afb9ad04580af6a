"""``airflow dla jobs exec``, in jobs that really run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from jobs_here import ended, started

from airflow_dla.control import Workspace
from airflow_dla.ledger import Attempt
from airflow_dla.runtime.local import LocalRuntime

HERE = ("--conn-id", "dla_test")

_WAITS = "import time; print('up', flush=True); time.sleep(60)"


def running(workspace: Workspace, **fields: Any) -> Attempt:
    """Start a job and wait until its program runs."""
    attempt = started(workspace, _WAITS, **fields)
    (runtime,) = workspace.runtimes.values()
    until = time.monotonic() + 20
    while b"up" not in runtime.logs(attempt.id, 0).data:
        assert time.monotonic() < until
        time.sleep(0.02)
    return attempt


def test_a_command_sees_what_the_job_sees(dla: Any, workspace: Workspace) -> None:
    """It runs in the job's folder with the job's environment and within its limits; its status is ours."""
    attempt = running(workspace)
    script = 'pwd; echo $DLA_ATTEMPT $OMP_NUM_THREADS; cat /proc/self/cgroup | grep -c "dla-"; echo err >&2; exit 3'
    found = dla("jobs", "exec", *HERE, attempt.job, "--", "sh", "-c", script)
    (runtime,) = workspace.runtimes.values()
    assert isinstance(runtime, LocalRuntime)
    folder, who, grouped = found.out.splitlines()
    assert (found.status, folder, who) == (3, str(runtime.root / attempt.id / "code"), f"{attempt.id} 1")
    assert bool(int(grouped)) == ("cgroup" in runtime.status(attempt.id).note and "no cgroup" not in runtime.status(attempt.id).note)
    assert found.err.endswith("err\n")
    dla("jobs", "stop", attempt.job, *HERE)


def test_no_secret_is_handed_out(dla: Any, workspace: Workspace, tmp_path: Path) -> None:
    """What the job got as a secret, a command beside it does not get, nor anything of the worker's own environment."""
    os.environ["SOMETHING_OF_THE_WORKER"] = "1"
    try:
        attempt = running(workspace)
        said = dla("jobs", "exec", *HERE, attempt.job, "env").out
        assert "DLA_ATTEMPT=" in said
        assert "SOMETHING_OF_THE_WORKER" not in said
        assert "AIRFLOW" not in said
    finally:
        del os.environ["SOMETHING_OF_THE_WORKER"]
        dla("jobs", "stop", attempt.job, *HERE)


def test_a_command_that_is_not_there(dla: Any, workspace: Workspace) -> None:
    """A shell's own status says so."""
    attempt = running(workspace)
    found = dla("jobs", "exec", *HERE, attempt.job, "no-such-program")
    assert found.status == 127
    assert "no such command" in found.err
    dla("jobs", "stop", attempt.job, *HERE)


def test_a_command_ends_with_its_job(dla: Any, workspace: Workspace) -> None:
    """What is beside a job does not outlast it."""
    attempt = started(workspace, "import time; print('up', flush=True); time.sleep(3)")
    began = time.monotonic()
    found = dla("jobs", "exec", *HERE, attempt.job, "sleep", "50")
    assert found.status == 137
    assert time.monotonic() - began < 20


def test_a_job_that_has_ended(dla: Any, workspace: Workspace) -> None:
    """There is nothing to run a command in; rerun is named."""
    attempt = started(workspace, "pass")
    ended(workspace, attempt)
    found = dla("jobs", "exec", *HERE, attempt.job, "true")
    assert found.status == 1
    assert "rerun" in found.err
