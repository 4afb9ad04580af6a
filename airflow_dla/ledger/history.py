"""The append-only history, pins, and the roots of garbage collection.

Nothing here updates or deletes a line of the history; triggers in the database refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import delete, select

from airflow_dla.ledger import rows
from airflow_dla.ledger.records import Event, Roots
from airflow_dla.ledger.schema import attempts, history, jobs, model_versions, pins
from airflow_dla.ledger.transaction import Transaction
from airflow_dla.specs import ArtifactRef, AttemptState, ExitReason, JobSpec, ModelRef


def record(tx: Transaction, kind: str, subject: str, data: Mapping[str, Any]) -> None:
    """Append one event."""
    record_all(tx, kind, [(subject, data)])


def record_all(tx: Transaction, kind: str, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Append events of one kind, (subject, data) each, in one statement."""
    lines = [{"at": tx.now, "kind": kind, "subject": subject, "data": rows.dump(data)} for subject, data in events]
    tx.insert_all(history, lines)


def events(tx: Transaction, *, subject: str | None, kind: str | None, limit: int) -> tuple[Event, ...]:
    """Return events, newest first."""
    query = select(history).order_by(history.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(history.c.subject == subject)
    if kind is not None:
        query = query.where(history.c.kind == kind)
    return tuple(rows.event(row) for row in tx.connection.execute(query))


def pin(tx: Transaction, digest: str, name: str | None) -> None:
    """Keep an artifact under a name, or no longer."""
    known = tx.connection.execute(select(pins.c.name).where(pins.c.digest == digest)).scalar_one_or_none()
    if name == known:
        return
    if name is None:
        tx.connection.execute(delete(pins).where(pins.c.digest == digest))
        record(tx, "artifact.unpinned", digest, {"name": known})
        return
    tx.upsert(pins, digest=digest, name=name, pinned_at=tx.now)
    record(tx, "artifact.pinned", digest, {"name": name})


def roots(tx: Transaction, *, younger_than_s: float) -> Roots:
    """Return what garbage collection must keep; of several reasons the strongest is named."""
    kept = dict(_young(tx, tx.now - younger_than_s))
    kept |= {row.digest: f"model {row.model}@{row.number}" for row in tx.connection.execute(select(model_versions))}
    kept |= {row.digest: f"pin {row.name}" for row in tx.connection.execute(select(pins))}
    return Roots(digests=kept, checkpoints=_unfinished(tx))


def _young(tx: Transaction, since: float) -> Iterator[tuple[str, str]]:
    """Yield what live attempts read and what young ones read and wrote."""
    live = attempts.c.state != AttemptState.ENDED.value
    query = select(attempts.c.job, attempts.c.spec, attempts.c.exit).where(live | (attempts.c.ended_at >= since))
    for row in tx.connection.execute(query):
        for digest in _read(rows.job_spec(row.spec)):
            yield digest, f"input of job {row.job}"
        for output in json.loads(row.exit or "{}").get("outputs", {}).values():
            yield output["digest"], f"job {row.job}"


def _read(spec: JobSpec) -> Iterator[str]:
    for reference in (spec.code, *spec.inputs.values()):
        if isinstance(reference, (ArtifactRef, ModelRef)) and reference.digest:
            yield reference.digest


def _unfinished(tx: Transaction) -> frozenset[str]:
    last = (attempts.c.job == jobs.c.id) & (attempts.c.number == jobs.c.last)
    succeeded = attempts.c.exit_reason == ExitReason.SUCCEEDED.value
    query = select(jobs.c.id).join(attempts, last).where(succeeded.isnot(True))
    return frozenset(tx.connection.execute(query).scalars())
