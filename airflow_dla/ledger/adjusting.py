"""Grants that change while they are held: told to their holders, confirmed or refused by them.

What a holder is told costs its node the larger of both until it says what became of it
(`Held.charged`), so that nothing is granted twice while it makes up its mind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from airflow_dla.errors import NotFound
from airflow_dla.ledger import attempts, rows
from airflow_dla.ledger.history import record, record_all
from airflow_dla.ledger.nodes import mark_due
from airflow_dla.ledger.records import Attempt
from airflow_dla.ledger.schema import attempts as attempts_table
from airflow_dla.ledger.schema import demands, grants
from airflow_dla.ledger.transaction import Transaction
from airflow_dla.specs import ExitReason, Grant, Held, JobSpec


def tell(tx: Transaction, targets: Mapping[str, Grant], held: Mapping[str, Held]) -> None:
    """Write what holders shall change their grants to; one that is told already is left alone."""
    news = {id_: target for id_, target in targets.items() if target != (held[id_].target or held[id_].grant)}
    tx.update_all(grants, [{"id": id_, "target": rows.dump(target.to_mapping())} for id_, target in news.items()])
    changes = ((id_, _change(held[id_].grant, target) | {"reason": target.reason}) for id_, target in news.items())
    record_all(tx, "grant.target", changes)


def preempt(tx: Transaction, preempted: Mapping[str, str]) -> None:
    """Want the stop of those that make room; one that was not launched yet ends at once."""
    for id_, why in sorted(preempted.items()):
        attempts.want_stop(tx, id_, ExitReason.PREEMPTED, why=why)


def resized(tx: Transaction, grant: str, *, target: Grant, applied: bool) -> None:
    """Say what became of a target, by compare-and-set."""
    told = rows.dump(target.to_mapping())
    mine = (grants.c.id == grant) & (grants.c.target == told)
    row = tx.connection.execute(select(grants.c.granted).where(mine)).one_or_none()
    if row is None:
        return
    change = _change(rows.grant(row.granted), target)
    if not applied:
        tx.connection.execute(update(grants).where(mine).values(target=None, rigid=True))
        record(tx, "grant.resize_refused", grant, change)
        mark_due(tx, "resize refused")
        return
    tx.connection.execute(update(grants).where(mine).values(granted=told, target=None))
    tx.connection.execute(update(attempts_table).where(attempts_table.c.id == grant).values(granted=told))
    record(tx, "grant.resized", grant, change)
    if any(target.amounts.get(resource, 0.0) < amount for resource, amount in change["before"].items()):
        mark_due(tx, "resized")


def _change(before: Grant, after: Grant) -> dict[str, Any]:
    return {"node": before.node, "before": dict(before.amounts), "after": dict(after.amounts)}


def set_priority(tx: Transaction, job: str, priority: int, *, by: str) -> Attempt:
    """Change the priority of a job's live attempt, and in its spec, from which the next attempt of its try is made."""
    found = attempts.last_attempt(tx, job)
    if found is None or found.ended:
        gone = "its last attempt has ended" if found else "it never ran"
        raise NotFound(f"job {job!r} has no live attempt: {gone}; `airflow dla jobs list --state live` shows those that have")
    old = found.spec.policy.priority
    if old == priority:
        return found
    for table in (demands, grants):
        tx.connection.execute(update(table).where(table.c.id == found.id).values(priority=priority))
    spec = rows.dump(_with_priority(found.spec, priority))
    tx.connection.execute(update(attempts_table).where(attempts_table.c.id == found.id).values(spec=spec))
    record(tx, "attempt.priority", found.id, {"old": old, "new": priority, "by": by})
    mark_due(tx, "priority")
    return attempts.get(tx, found.id)


def _with_priority(spec: JobSpec, priority: int) -> dict[str, Any]:
    written = spec.to_mapping()
    return {**written, "policy": {**written.get("policy", {}), "priority": priority}}
