"""Looks ahead once, in a process of its own: what Airflow's database says of next runs goes into the ledgers."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import select

from airflow_dla.control import ComingRun, refresh
from airflow_dla.errors import LedgerVersion, NotFound
from airflow_dla.hooks.workspace import DlaHook, open_ledger
from airflow_dla.plugins.listener import connections

log = logging.getLogger(__name__)

#: Runs of one DAG that are looked ahead to, and seconds that may be spent on looking.
_RUNS: Final = 100
_LOOK_S: Final = 20.0


def refresh_workspaces(dags: Iterable[str]) -> None:
    """Write what is expected into the ledgers of the default workspace and of those that these DAGs name."""
    named = {conn_id for dag in dags for conn_id in connections(dag, None)}
    for conn_id in sorted({DlaHook.default_conn_name, *named}):
        try:
            settings = DlaHook(conn_id).settings()
            ledger = open_ledger(settings)
            try:
                refresh(ledger, settings.policy, coming_runs)
            finally:
                ledger.close()
        except (NotFound, LedgerVersion) as error:
            # Nothing has run there yet, so there is nothing to foresee.
            log.debug("%s: %s", conn_id, error)


def coming_runs(dags: Iterable[str]) -> Iterator[ComingRun]:
    """Return the runs of DAGs that have begun, and those due within a day, as Airflow's database knows them."""
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
    planned, horizon = model.next_dagrun_create_after, datetime.now(UTC) + timedelta(days=1)
    yield planned
    stored = SerializedDagModel.get_dag(model.dag_id, session=session) if model.next_dagrun and planned <= horizon else None
    if stored is None:
        return
    for info in islice(stored.iter_dagrun_infos_between(model.next_dagrun, horizon), _RUNS):
        if planned < info.run_after <= horizon:
            yield info.run_after


if __name__ == "__main__":
    os.nice(10)
    refresh_workspaces(sys.argv[1:])
