"""Stops jobs whose task a person marked while nothing of it ran.

A task that is marked while it is scheduled or queued has neither a worker nor a trigger
whose ``on_kill`` could run: only the API server knows. It writes *stop wanted* to the
ledger and, where it is on the job's host, stops the job, in a thread: Airflow holds a
lock on its database while listeners run.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow_dla.specs import JobKey

log = logging.getLogger(__name__)

#: Loaded where a person's mark of a run is carried out, the API server; schedulers tell of every run's end, too.
_SETS_RUN_STATES = "airflow.api_fastapi.core_api.services.public.dag_run"

_STOPPING = ThreadPoolExecutor(1, thread_name_prefix="dla-listener")


@hookimpl
def on_task_instance_failed(previous_state: Any, task_instance: Any, error: Any) -> None:  # noqa: ARG001 - Airflow's signature
    """Stop the job of a task that was marked failed."""
    _marked(previous_state, task_instance)


@hookimpl
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:
    """Stop the job of a task that was marked success."""
    _marked(previous_state, task_instance)


@hookimpl
def on_task_instance_skipped(previous_state: Any, task_instance: Any) -> None:
    """Stop the job of a task that was marked skipped."""
    _marked(previous_state, task_instance)


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:  # noqa: ARG001 - Airflow's signature
    """Stop the jobs of a run that was marked failed: its queued tasks get no call of their own."""
    _run_marked(dag_run)


@hookimpl
def on_dag_run_success(dag_run: Any, msg: str) -> None:  # noqa: ARG001 - Airflow's signature
    """Stop the jobs of a run that was marked success."""
    _run_marked(dag_run)


def marked_by_a_person(previous_state: Any, task_instance: Any) -> bool:
    """Whether this call comes from the API server: only there is the old state None and the object Airflow's model."""
    return previous_state is None and type(task_instance).__module__ == "airflow.models.taskinstance"


def _marked(previous_state: Any, ti: Any) -> None:
    if marked_by_a_person(previous_state, ti):
        _STOPPING.submit(_stop, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)


def _run_marked(dag_run: Any) -> None:
    if _SETS_RUN_STATES in sys.modules:
        _STOPPING.submit(_stop, dag_run.dag_id, dag_run.run_id, None, None)


def _stop(dag: str, run: str, task: str | None, index: int | None) -> None:
    """Stop the live jobs of a run, or of one task of it."""
    try:
        for conn_id in set(connections(dag, task)):
            _stop_in(conn_id, dag, lambda key: key.run == run and task in {None, key.task} and index in {None, key.index})
    except Exception:
        log.exception("The jobs of %s in run %s may live on until the reaper stops them", task or dag, run)


def _stop_in(conn_id: str, dag: str, marked: Callable[[JobKey], bool]) -> None:
    from airflow_dla.control import Listener, following  # noqa: PLC0415 - loaded by every process, needed in one
    from airflow_dla.hooks.workspace import DlaHook, crew_of  # noqa: PLC0415
    from airflow_dla.specs import ExitReason  # noqa: PLC0415

    workspace = DlaHook(conn_id).workspace()
    live = workspace.ledger.jobs(state="live", dag=dag, limit=10_000)
    for attempt in [attempt for attempt in live if marked(attempt.spec.key)]:
        log.info("Stopping %s: its task was marked", attempt.id)
        stopped = workspace.ledger.want_stop(attempt.id, ExitReason.STOPPED)
        if not stopped.ended and stopped.grant and workspace.reached(stopped.grant.node) is not None:
            crew_of(workspace).join_and_stop(following(workspace, stopped, Listener()), ExitReason.STOPPED)


def connections(dag: str, task: str | None) -> Iterator[str]:
    """Return the workspaces that a DAG's tasks name, by the DAG as Airflow stores it."""
    from airflow.models.serialized_dag import SerializedDagModel  # noqa: PLC0415 - only the API server has the database

    stored = SerializedDagModel.get_dag(dag)
    for found in stored.tasks if stored else ():
        if task in {None, found.task_id}:
            conn_id = getattr(found, "dla_conn_id", None) or getattr(found, "partial_kwargs", {}).get("dla_conn_id")
            if conn_id or "dla_conn_id" in getattr(found, "template_fields", ()):
                yield conn_id or "dla_default"
