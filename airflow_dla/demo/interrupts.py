"""An end before the end: what runs is stopped, and the run does not go on later by itself."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Final

from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_dla.control import Listener, Workspace, following
from airflow_dla.hooks.workspace import crew_of
from airflow_dla.specs import ExitReason

#: Seconds a job gets to obey, beyond its own grace.
_PATIENCE_S: Final = 10.0


class Interrupts:
    """Notices Ctrl-C and SIGTERM also where Airflow has handlers of its own, or takes the exception for a task's."""

    def __init__(self) -> None:
        self.seen = False

    def watch(self) -> None:
        """Take the signals over; Airflow's task runner takes SIGTERM whenever it starts a task."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt


def stop_run(workspace: Workspace, dag: str, run: str) -> None:
    """Stop the jobs of a run and mark it failed, so that no scheduler of this home goes on with it."""
    live = [attempt for attempt in workspace.ledger.jobs(state="live", dag=dag) if attempt.spec.key.run == run]
    for attempt in live:
        over = threading.Event()
        listener = Listener(ended=lambda _attempt, over=over: over.set())  # type: ignore[misc]
        crew_of(workspace).join_and_stop(following(workspace, attempt, listener), ExitReason.STOPPED)
        over.wait(attempt.spec.policy.grace_s + _PATIENCE_S)
    with create_session() as session:
        found = session.scalar(select(DagRun).where(DagRun.dag_id == dag, DagRun.run_id == run))
        stored = DBDagBag().get_dag_for_run(found, session=session) if found is not None else None
        if stored is not None:
            set_dag_run_state_to_failed(dag=stored, run_id=run, commit=True, session=session)
