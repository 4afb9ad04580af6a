"""Keeps the ledger informed of what Airflow's schedule will bring, from the scheduler.

Only the scheduler may read Airflow's database and is always there. When runs of DAGs begin
or end, at most every two minutes and at the latest every ten, a process of its own
(`airflow_dla.plugins.looking_ahead`) writes next runs into the ledger. A thread starts it
and waits for it, no more: the scheduler forks its workers, and a thread that were just then
importing a module would leave them a lock that nobody ever opens. Whatever goes wrong is
logged, and stops nothing.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)

#: Between two refreshes, s: at least, and at most.
LEAST_S: Final = 120.0
MOST_S: Final = 600.0
#: The scheduler may begin in peace for so many seconds, and one refresh may take so many.
_PEACE_S: Final = 15.0
_PROCESS_S: Final = 60.0


class Foresight:
    """A thread that refreshes now and then.

    Parameters
    ----------
    refresh : function
        Given the ids of DAGs that ran lately.
    least_s, most_s : float
        Between two refreshes, s: however much happens, and although nothing does.
    peace_s : float
        Before the first one, s.
    """

    def __init__(
        self, refresh: Callable[[Iterable[str]], None], *, least_s: float = LEAST_S, most_s: float = MOST_S, peace_s: float = _PEACE_S
    ) -> None:
        self._refresh, self._least_s, self._most_s, self._peace_s = refresh, least_s, most_s, peace_s
        self._happened, self._over = threading.Event(), threading.Event()
        self._dags: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="dla-foresight", daemon=True)

    def start(self) -> None:
        """Begin, with a first refresh."""
        self._happened.set()
        self._thread.start()

    def note(self, dag: str) -> None:
        """Say that something happened to a DAG; returns at once."""
        self._dags.add(dag)
        self._happened.set()

    def stop(self) -> None:
        """End; a refresh under way is not waited for."""
        self._over.set()
        self._happened.set()

    def _run(self) -> None:
        self._over.wait(self._peace_s)
        while not self._over.is_set():
            self._happened.wait(self._most_s)
            self._happened.clear()
            if self._over.is_set():
                return
            try:
                self._refresh(tuple(self._dags))
            except Exception:
                log.exception("What is expected could not be refreshed; trying again in %.0f s at the earliest", self._least_s)
            self._over.wait(self._least_s)


def look_ahead(dags: Iterable[str]) -> None:
    """Refresh in a process of its own, and wait for it for a minute.

    Raises
    ------
    subprocess.SubprocessError
        If it failed, or took longer and was killed.
    """
    # As in the API server, connections are looked up in Airflow's database.
    environ = {**os.environ, "_AIRFLOW_PROCESS_CONTEXT": "server"}
    command = [sys.executable, "-m", "airflow_dla.plugins.looking_ahead", *dags]
    subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, timeout=_PROCESS_S, check=True)  # noqa: S603 - our own module


_foresight: Foresight | None = None
_SCHEDULER: Final = "airflow.jobs.scheduler_job_runner"


def in_scheduler(component: Any) -> bool:
    """Whether this comes from the scheduler: it tells of its job before that has a type, so its own module must be loaded.

    The API server loads that too, but has no job.
    """
    return type(component).__name__ == "Job" and _SCHEDULER in sys.modules


@hookimpl
def on_starting(component: Any) -> None:
    """Begin where the scheduler begins."""
    global _foresight  # noqa: PLW0603 - there is one scheduler in a process
    if _foresight is None and in_scheduler(component):
        _foresight = Foresight(look_ahead)
        _foresight.start()


@hookimpl
def before_stopping(component: Any) -> None:
    """End where the scheduler ends."""
    if _foresight is not None and in_scheduler(component):
        _foresight.stop()


@hookimpl
def on_dag_run_running(dag_run: Any, msg: str) -> None:  # noqa: ARG001 - Airflow's signature
    """Look again: the run's jobs come, and its DAG has another next run."""
    _note(dag_run)


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:  # noqa: ARG001 - Airflow's signature
    """Look again: the run's jobs have been."""
    _note(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:  # noqa: ARG001 - Airflow's signature
    """Look again: the run's jobs come no more."""
    _note(dag_run)


def _note(dag_run: Any) -> None:
    if _foresight is not None:
        _foresight.note(dag_run.dag_id)
