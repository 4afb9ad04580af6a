"""What ran before: who asked for what when, got what, and used how much of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, Select, select

from airflow_dla.ledger import rows
from airflow_dla.ledger.records import PastRun
from airflow_dla.ledger.schema import attempts, history, jobs
from airflow_dla.ledger.transaction import Transaction, batched
from airflow_dla.specs import Exit, JobPolicy

#: What Airflow calls a run that the DAG's own timetable made; backfills and assets are somebody's or something's wish.
_TIMETABLES = "scheduled"

_COLUMNS = ("id", "spec", "team", "granted", "exit", "created_at", "granted_at", "running_at", "ended_at")


def past_runs(tx: Transaction, *, since: float, dag: str | None, task: str | None, team: str | None, limit: int) -> tuple[PastRun, ...]:
    """Return attempts that were asked for since a time, live ones too, newest first."""
    found = tx.connection.execute(_query(since, dag=dag, task=task, team=team).limit(limit)).all()
    resizes = _resizes(tx, (row.id for row in found if row.granted_at is not None))
    return tuple(_past_run(row, resizes[row.id], tx.now) for row in found)


def _query(since: float, *, dag: str | None, task: str | None, team: str | None) -> Select[Any]:
    query = select(*(attempts.c[name] for name in _COLUMNS), jobs.c.dag, jobs.c.run, jobs.c.task).join(jobs, jobs.c.id == attempts.c.job)
    for column, wanted in ((jobs.c.dag, dag), (jobs.c.task, task), (attempts.c.team, team)):
        if wanted is not None:
            query = query.where(column == wanted)
    return query.where(attempts.c.created_at >= since).order_by(attempts.c.created_at.desc(), attempts.c.id)


def _resizes(tx: Transaction, ids: Iterable[str]) -> defaultdict[str, list[tuple[float, dict[str, float]]]]:
    """Return, by attempt, when its grant changed and what it was until then; oldest first."""
    found: defaultdict[str, list[tuple[float, dict[str, float]]]] = defaultdict(list)
    for part in batched(ids):
        query = select(history.c.subject, history.c.at, history.c.data).where(
            history.c.subject.in_(part), history.c.kind == "grant.resized"
        )
        for row in tx.connection.execute(query.order_by(history.c.id)):
            found[row.subject].append((row.at, json.loads(row.data)["before"]))
    return found


def _past_run(row: Row[Any], resizes: list[tuple[float, dict[str, float]]], now: float) -> PastRun:
    spec = json.loads(row.spec)
    grant = None if row.granted is None else rows.grant(row.granted)
    until = now if row.ended_at is None else row.ended_at
    held = _held_s(row.granted_at, [*resizes, (until, dict(grant.amounts))]) if grant is not None else {}
    return PastRun(
        attempt=row.id,
        dag=row.dag,
        run=row.run,
        task=row.task,
        agent=spec["agent"]["name"],
        verb=spec.get("verb", "job"),
        team=row.team,
        priority=spec.get("policy", {}).get("priority", JobPolicy().priority),
        scheduled=spec.get("lineage", {}).get("run_type") == _TIMETABLES,
        request=rows.request(rows.dump(spec["request"])),
        created_at=row.created_at,
        granted_at=row.granted_at,
        running_at=row.running_at,
        ended_at=row.ended_at,
        grant=grant,
        gpu_s=held.get("gpu", 0.0),
        cpu_s=held.get("cpu", 0.0),
        exit=None if row.exit is None else Exit.from_mapping(json.loads(row.exit)),
        place=spec.get("policy", {}).get("place", JobPolicy().place),
    )


def _held_s(since: float, stretches: Iterable[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Sum amounts times seconds over stretches, each given by its end and what was held in it.

    Examples
    --------
    >>> _held_s(0.0, [(10.0, {"cpu": 2.0}), (15.0, {"cpu": 4.0})])
    {'cpu': 40.0}
    """
    total: defaultdict[str, float] = defaultdict(float)
    for until, amounts in stretches:
        for resource, amount in amounts.items():
            total[resource] += amount * (until - since)
        since = until
    return dict(total)
