"""Where jobs run: the executor, the nodes, and this host's own place, tried with a job."""

from __future__ import annotations

import shutil
import sys
import time
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from airflow_dla.cli.checks.check import Check
from airflow_dla.hooks.workspace import executor_classes
from airflow_dla.ledger import NodeRow
from airflow_dla.runtime import Launch, Runtime
from airflow_dla.specs import Entrypoint, ExitReason, Grant, JobFile

#: Seconds that a probe may take to start, and to end when it is told to.
_PROBE_S: Final = 20.0
_LOOK_S: Final = 0.05


def check_executor(option: str) -> Check:
    """Whether local jobs outlive the tasks that start them: a pod takes its processes along."""
    found = executor_classes(option)
    if not any("KubernetesExecutor" in name for name in found):
        return Check("executor", "ok", option)
    fix = "run tasks with jobs in local processes by LocalExecutor or CeleryExecutor (executor= of the task, or [core] executor)"
    message = f"{option}: a task's pod ends when the task is deferred, and its job in a local process with it"
    return Check("executor", "fail" if "KubernetesExecutor" in found[0] else "warn", message, fix)


def check_triggerer(option: str, followers: Collection[tuple[str, str, str]], host: str) -> Check:
    """Whether a triggerer on this host can follow its local jobs.

    Parameters
    ----------
    option : str
        Airflow's ``[core] executor``.
    followers : collection of (id, kind, host)
        Those heard of lately.
    host : str
        Identity of this host.
    """
    if executor_classes(option)[:1] == ["LocalExecutor"]:
        return Check("triggerer", "ok", "runs on this host, as everything does with LocalExecutor")
    if any(kind == "triggerer" and where == host for _, kind, where in followers):
        return Check("triggerer", "ok", "one on this host was heard of within 5 minutes")
    message = "none on this host was heard of within 5 minutes: tasks with jobs in local processes here hold their worker slot"
    return Check("triggerer", "warn", message, "run a triggerer on every host that runs such jobs, or leave it so")


def check_nodes(nodes: Sequence[NodeRow], now: float) -> Check:
    """Whether every node answers those who can reach it."""
    silent = [f"{row.node.name} (for {now - row.silent_since:.0f} s)" for row in nodes if row.silent_since is not None]
    if silent:
        fix = "start the host's worker or triggerer again; jobs of a node that stays silent are declared lost"
        return Check("nodes", "warn", f"no answer from {', '.join(silent)}", fix)
    return Check("nodes", "ok", ", ".join(row.node.name for row in nodes) or "none yet: a host becomes one with its first job")


def check_shared(store: str, nodes: Sequence[NodeRow]) -> Check:
    """Whether every host can see the store."""
    hosts = {row.host.partition("/")[0] for row in nodes if row.host}
    if store.startswith("file://") and len(hosts) > 1:
        fix = "mount the same folder at the same path on each, or use an object store (s3://…)"
        return Check("store shared", "warn", f"{store} is a folder, and jobs run on {', '.join(sorted(hosts))}", fix)
    return Check("store shared", "ok", f"{store} is seen by every host that runs jobs, as far as can be told from here")


def check_place(runtime: Runtime, store: str, root: Path) -> Check:
    """Run a job of a moment in a local process, and say which limits were in force.

    Parameters
    ----------
    runtime : `Runtime`
    store : str
        URL, never used.
    root : path
        Where the runtime keeps its folders; the probe's is removed.
    """
    attempt = f"doctor-{uuid.uuid4().hex[:12]}.1"
    began = time.monotonic()
    try:
        runtime.submit(Launch(_probe(attempt, store)))
        note = _note(runtime, attempt)
        taken = time.monotonic() - began
    finally:
        runtime.cancel(attempt, ExitReason.STOPPED)
        _await_end(runtime, attempt)
        shutil.rmtree(root / attempt, ignore_errors=True)
    if note is None:
        fix = f"look at what this host's processes may do, and whether {root} is writable"
        return Check("place", "fail", f"a probe job in a local process did not start within {_PROBE_S:g} s", fix)
    return _limits(note, taken)


def _limits(note: str, taken: float) -> Check:
    """Say which limits hold; what is only watched or asked for politely is a warning."""
    message = f"a probe job ran after {taken:.1f} s; limits in force: {note or 'none'}"
    if note.startswith("cgroup") and "watched" not in note and "only" not in note:
        return Check("place", "ok", message)
    fix = "let Airflow's processes make control groups (systemd: Delegate=cpu memory), or trust the jobs to keep to what they asked for"
    return Check("place", "warn", message, fix)


def _probe(attempt: str, store: str) -> JobFile:
    return JobFile(
        attempt=attempt,
        nonce=uuid.uuid4().hex,
        entrypoint=Entrypoint(command=(sys.executable, "-c", f"import time; time.sleep({_PROBE_S})")),
        grant=Grant(id=attempt, node="here", amounts={"cpu": 0.5, "memory": 0.25}),
        store=store,
        checkpoint=attempt.partition(".")[0],
        grace_s=0.0,
    )


def _note(runtime: Runtime, attempt: str) -> str | None:
    """Wait until a probe runs; return what is in force, None when it does not."""
    until = time.monotonic() + _PROBE_S
    while time.monotonic() < until:
        status = runtime.status(attempt)
        if status.exit is not None:
            return None
        if status.alive and status.note:
            return status.note
        time.sleep(_LOOK_S)
    return "" if runtime.status(attempt).alive else None


def _await_end(runtime: Runtime, attempt: str) -> None:
    until = time.monotonic() + _PROBE_S
    while runtime.status(attempt).alive and time.monotonic() < until:
        time.sleep(_LOOK_S)
