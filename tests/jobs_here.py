"""Jobs that really run on this host, started and ended as their followers would."""

from __future__ import annotations

import sys
import time

from fixtures_workspace import job_spec

from airflow_dla.control import Workspace, launch, run_round
from airflow_dla.ledger import Attempt


def started(workspace: Workspace, code: str, task: str = "t") -> Attempt:
    """Start a job that runs some Python."""
    request = {"cpu": 0.1, "memory": "64MiB"}
    spec = job_spec(task, entrypoint=[sys.executable, "-c", code], request=request, policy={"grace": 1})
    attempt = workspace.ledger.open_attempt(spec)
    run_round(workspace)
    return launch(workspace, workspace.ledger.attempts([attempt.id])[attempt.id])


def ended(workspace: Workspace, attempt: Attempt) -> Attempt:
    """Wait for a job's end and record it, as its follower would."""
    runtime = next(iter(workspace.runtimes.values()))
    until = time.monotonic() + 20
    while (status := runtime.status(attempt.id)).exit is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    return workspace.ledger.finish(attempt.id, status.exit)
