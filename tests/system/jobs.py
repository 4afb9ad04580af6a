"""A job of a system test: its run in Airflow, its rows in the ledger, its processes and the traces it left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from system.airflow_server import AirflowServer
from system.dags.counter import value_after
from system.processes import alive, eventually

from airflow_dla.errors import LedgerUnavailable
from airflow_dla.ledger import Attempt, Ledger, connect
from airflow_dla.specs import JobKey


class JobRun:
    """One run of a DAG with a job in it, driven and observed from outside.

    Parameters
    ----------
    server
        The Airflow it runs in.
    dag
        The DAG's id.
    side
        A folder of this run alone, where its processes leave traces.
    epochs, pace, hold
        How far to count, seconds for each epoch, and whether to wait before the last one for `go`.
    ledger_url
        Of the job's workspace; the embedded one by default.
    """

    def __init__(
        self,
        server: AirflowServer,
        dag: str,
        side: Path,
        *,
        epochs: int = 20,
        pace: float = 0.2,
        hold: bool = True,
        task: str = "job",
        ledger_url: str = "",
        run_id: str | None = None,
    ) -> None:
        self.server, self.dag, self.task_id, self.epochs = server, dag, task, epochs
        self.side = side / task
        self.side.mkdir(parents=True)
        self._ledger_url = ledger_url or f"sqlite:///{server.home}/dla/ledger.db"
        conf = {"side": str(side), "epochs": epochs, "pace": pace, "hold": int(hold)}
        self.run = server.trigger(dag, conf, **({"dag_run_id": run_id} if run_id else {}))

    # --- Airflow ---

    @property
    def task(self) -> dict[str, Any]:
        """The task instance as REST has it."""
        return self.server.task(self.dag, self.run, self.task_id)

    def wait_state(self, *states: str, timeout: float = 90) -> dict[str, Any]:
        """Wait until the task instance is in one of some states."""
        return self.server.wait_task(self.dag, self.run, self.task_id, set(states), timeout=timeout)

    def wait_success(self, timeout: float = 120) -> None:
        """Wait for the run's end, which must be a success."""
        state = self.server.wait(self.dag, self.run, timeout=timeout)
        assert state == "success", self.story()

    def mark(self, state: str) -> None:
        """Mark the task instance."""
        self.server.set_state(self.dag, self.run, self.task_id, state)

    def clear(self) -> None:
        """Clear the task instance."""
        self.server.clear(self.dag, self.run, self.task_id)

    def log(self, try_number: int = 1) -> str:
        """Return a try's log."""
        return self.server.log(self.dag, self.run, self.task_id, try_number)

    def logged_epochs(self, *tries: int) -> list[int]:
        """Return the epochs that the logs of some tries tell of, in order."""
        return [int(found) for number in tries or (1,) for found in re.findall(r"^epoch (\d+) value", self.log(number), re.MULTILINE)]

    @property
    def value(self) -> Any:
        """What the task returned."""
        return self.server.xcoms(self.dag, self.run, self.task_id)["value"][0]

    @property
    def expected(self) -> int:
        """What an uninterrupted run returns."""
        return value_after(self.epochs)

    # --- the ledger ---

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of its workspace."""
        return connect(self._ledger_url)

    @property
    def job(self) -> str:
        """The job's id."""
        return JobKey(dag=self.dag, run=self.run, task=self.task_id).id

    @property
    def attempt(self) -> Attempt | None:
        """The job's last attempt."""
        return self.ledger.last_attempt(self.job)

    def grants(self) -> list[str]:
        """Return the attempts of this job that hold a grant."""
        return [lease.grant.id for lease in self.ledger.leases() if lease.grant.id.startswith(f"{self.job}.")]

    def wait_follower(self, kind: str = "triggerer", timeout: float = 90) -> None:
        """Wait until a process of some kind follows the job; a triggerer does so some time after the task was deferred."""
        self.wait_state("deferred" if kind == "triggerer" else "running", timeout=timeout)
        eventually(lambda: self.follower == kind, timeout=timeout, what=f"a {kind} that follows {self.dag}")

    def wait_for_grant(self, timeout: float = 90) -> None:
        """Wait until the task is deferred and knows why it has no grant yet."""
        self.wait_state("deferred", timeout=timeout)
        eventually(lambda: self.attempt and self.attempt.reason, timeout=timeout, what=f"a reason why {self.dag} waits")

    @property
    def follower(self) -> str | None:
        """What kind of process holds the lease of the last attempt, None when it has expired."""
        lease = self.attempt.lease if self.attempt else None
        if lease is None or lease.expires_at < self.ledger.now():
            return None
        return next((kind for name, kind, _ in self.ledger.followers() if name == lease.holder), None)

    # --- processes and traces ---

    @cached_property
    def folder(self) -> Path:
        """Where the folders of this host's attempts lie."""
        return self.server.home / "dla" / "jobs" / self.ledger.identity()

    def processes(self, number: int | None = None) -> list[int]:
        """Return the living processes of the job, keepers included; of one attempt if asked for."""
        mark = f"{self.folder / self.job}.{'' if number is None else number}".encode()
        return [pid for pid in _everybody() if alive(pid) and _bears(pid, mark, exact=number is not None)]

    def traces(self, name: str) -> list[dict[str, Any]]:
        """Return what the work's processes wrote into a file of traces."""
        path = self.side / name
        return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()] if path.exists() else []

    @property
    def starts(self) -> list[dict[str, Any]]:
        """Every process that began to work: attempt, pid, first epoch, whether it was alone."""
        return self.traces("starts")

    def wait_epoch(self, epoch: int, timeout: float = 90) -> None:
        """Wait until the work has counted so far."""
        eventually(
            lambda: any(line["epoch"] >= epoch for line in self.traces("epochs")), timeout=timeout, what=f"epoch {epoch} of {self.dag}"
        )

    def go(self) -> None:
        """Let the work end."""
        (self.side / "go").touch()

    def wait_gone(self, timeout: float, number: int | None = None) -> None:
        """Wait until no process of the job lives and it holds no grant."""
        eventually(lambda: not self.processes(number), timeout=timeout, what=f"end of the processes of {self.dag}", every=0.1)
        held = (lambda: f"{self.job}.{number}" in self.grants()) if number else self.grants
        eventually(lambda: not held(), timeout=timeout, what=f"release of the grant of {self.dag}", every=0.1)

    def story(self) -> str:
        """Tell what is known, for a failing test."""
        logs = [self.log(number) for number in range(1, self.task["try_number"] + 1)]
        with suppress(LedgerUnavailable):
            logs.append(f"last attempt: {self.attempt}")
        task = {name: self.task[name] for name in ("dag_id", "state", "try_number", "pid", "start_date", "end_date")}
        return "\n---\n".join([json.dumps({"task": task, "starts": self.starts}, indent=1), *logs])

    def end(self) -> None:
        """End the run, whatever it does; nothing of it lives on."""
        self.go()
        if self.server.run(self.dag, self.run)["state"] not in {"success", "failed"}:
            self.server.set_run_state(self.dag, self.run, "failed")
        eventually(lambda: not self.processes(), timeout=30, what=f"end of {self.dag} at the test's end")
        self.ledger.close()


def _everybody() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _bears(pid: int, mark: bytes, *, exact: bool) -> bool:
    """Tell whether a process was started with a folder in its environment or on its command line."""
    for name in ("environ", "cmdline"):
        try:
            words = Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
        except OSError:
            continue
        values = (word.removeprefix(b"DLA_JOB_DIR=") for word in words)
        if any(value == mark if exact else value.startswith(mark) for value in values):
            return True
    return False
