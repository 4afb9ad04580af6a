"""Keeps the ledger informed of what Airflow's schedule will bring, from the scheduler.

Only the scheduler may read Airflow's database and is always there. A thread of its own
writes next runs into the ledger when runs of DAGs begin or end, at most once a minute, and
at the latest every ten minutes. Whatever goes wrong there is logged, and stops nothing.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow_dla.control import ComingRun

log = logging.getLogger(__name__)

#: Between two refreshes, s: at least, and at most.
LEAST_S: Final = 60.0
MOST_S: Final = 600.0
#: Runs of one DAG that are looked ahead to, and seconds that may be spent on looking.
_RUNS: Final = 100
_LOOK_S: Final = 20.0


class Foresight:
    """A thread that refreshes now and then.

    Parameters
    ----------
    refresh : function
        Given the ids of DAGs that ran lately.
    least_s, most_s : float
        Between two refreshes, s: however much happens, and although nothing does.
    """

    def __init__(self, refresh: Callable[[Iterable[str]], None], *, least_s: float = LEAST_S, most_s: float = MOST_S) -> None:
        self._refresh, self._least_s, self._most_s = refresh, least_s, most_s
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
        _foresight = Foresight(refresh_workspaces)
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


_workspaces: dict[str, frozenset[str]] = {}


def refresh_workspaces(dags: Iterable[str]) -> None:
    """Write what is expected into the ledgers of the default workspace and of those that these DAGs name."""
    from airflow_dla.control import refresh  # noqa: PLC0415 - loaded by every process, needed in one
    from airflow_dla.errors import NotFound  # noqa: PLC0415
    from airflow_dla.hooks.workspace import DlaHook, open_ledger  # noqa: PLC0415
    from airflow_dla.plugins.listener import connections  # noqa: PLC0415

    for dag in dags:
        if dag not in _workspaces:
            _workspaces[dag] = frozenset(connections(dag, None))
    for conn_id in sorted({DlaHook.default_conn_name}.union(*(_workspaces[dag] for dag in dags))):
        try:
            settings = DlaHook(conn_id).settings()
        except NotFound:
            continue  # nobody has made the default workspace: there is nothing to foresee
        ledger = open_ledger(settings)
        try:
            forecast = refresh(ledger, settings.policy, coming_runs)
        finally:
            ledger.close()
        log.debug("%s: %d jobs expected of schedules, %d of none", conn_id, len(forecast.schedule), len(forecast.season))


def coming_runs(dags: Iterable[str]) -> Iterator[ComingRun]:
    """Return the runs of DAGs that have begun, and those due within a day, as Airflow's database knows them."""
    from airflow.models.dag import DagModel  # noqa: PLC0415 - only the scheduler has the database
    from airflow.models.dagrun import DagRun  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415
    from airflow.utils.state import State  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    from airflow_dla.control import ComingRun  # noqa: PLC0415

    wanted, until = set(dags), time.monotonic() + _LOOK_S
    if not wanted:
        return
    with create_session() as session:
        begun = select(DagRun.dag_id, DagRun.run_id, DagRun.run_after).where(DagRun.state.in_(State.unfinished_dr_states))
        for dag, run, due in session.execute(begun.where(DagRun.dag_id.in_(wanted))):
            yield ComingRun(dag, run, due.timestamp())
        active = select(DagModel).where(DagModel.dag_id.in_(wanted), ~DagModel.is_paused, ~DagModel.is_stale)
        for model in session.scalars(active.order_by(DagModel.next_dagrun_create_after)):
            if model.next_dagrun_create_after is not None and time.monotonic() < until:
                yield from (ComingRun(model.dag_id, f"scheduled__{due.isoformat()}", due.timestamp()) for due in _next(model, session))


def _next(model: Any, session: Any) -> Iterator[datetime]:
    """Return when the next runs of a DAG are due: the one that Airflow has planned, and what its timetable says follows."""
    from airflow.models.serialized_dag import SerializedDagModel  # noqa: PLC0415

    planned, horizon = model.next_dagrun_create_after, datetime.now(UTC) + timedelta(days=1)
    yield planned
    stored = SerializedDagModel.get_dag(model.dag_id, session=session) if model.next_dagrun and planned <= horizon else None
    if stored is None:
        return
    for info in islice(stored.iter_dagrun_infos_between(model.next_dagrun, horizon), _RUNS):
        if planned < info.run_after <= horizon:
            yield info.run_after
