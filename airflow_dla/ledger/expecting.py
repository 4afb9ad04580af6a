"""What is expected to ask for resources, source by source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import delete, select

from airflow_dla.ledger import rows
from airflow_dla.ledger.arrivals import earliest, outstanding
from airflow_dla.ledger.nodes import mark_due
from airflow_dla.ledger.schema import attempts, expected, jobs
from airflow_dla.ledger.transaction import Transaction, batched
from airflow_dla.specs import Expected


def expect(tx: Transaction, source: str, jobs: Sequence[Expected]) -> None:
    """Make these all that a source expects; what is over already is left out."""
    new = {job.id: (job, rows.dump(job.to_mapping())) for job in jobs if _until(job) >= tx.now}
    mine = select(expected.c.id, expected.c.job).where(expected.c.source == source, expected.c.until >= tx.now)
    known = {row.id: row.job for row in tx.connection.execute(mine)}
    changed = {id_ for id_ in {*known, *new} if id_ not in new or known.get(id_) != new[id_][1]}
    for part in batched(changed):
        tx.connection.execute(delete(expected).where(expected.c.source == source, expected.c.id.in_(part)))
    written = [
        {"source": source, "id": id_, "at": job.at, "until": _until(job), "job": text} for id_, (job, text) in new.items() if id_ in changed
    ]
    tx.insert_all(expected, written)
    if changed:
        mark_due(tx, "expected")


def _until(job: Expected) -> float:
    return job.at + job.late_s


def ahead(tx: Transaction, texts: Sequence[str]) -> tuple[Expected, ...]:
    """Return those that have not come, in order of time; given what is still expected, as it was written."""
    found = [rows.expected(text) for text in texts]
    return outstanding(found, _arrivals(tx, found), tx.now)


def _arrivals(tx: Transaction, found: Sequence[Expected]) -> dict[tuple[str, str], list[float]]:
    """Return when jobs asked for the first time that may be some of those expected."""
    soon = [job for job in found if job.dag and earliest(job) <= tx.now]
    came: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for part in batched({job.dag for job in soon}):
        query = select(jobs.c.dag, jobs.c.task, attempts.c.created_at).join(attempts, attempts.c.job == jobs.c.id)
        lately = attempts.c.created_at >= min(map(earliest, soon))
        for row in tx.connection.execute(query.where(attempts.c.number == 1, lately, jobs.c.dag.in_(part))):
            came[row.dag, row.task].append(row.created_at)
    return dict(came)
