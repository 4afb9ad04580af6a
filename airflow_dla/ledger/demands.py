"""Demands and the grants they become: added, renewed, freed.

A demand's row lives while it waits, a grant's row while it is held; both have the id
of the attempt they belong to, if they belong to one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import case, delete, select, update

from airflow_dla.ledger import rows
from airflow_dla.ledger.history import record_all
from airflow_dla.ledger.nodes import mark_due
from airflow_dla.ledger.records import Lease
from airflow_dla.ledger.schema import attempts, demands, grants
from airflow_dla.ledger.transaction import Transaction, batched
from airflow_dla.specs import Demand


def add(tx: Transaction, demand: Demand, *, job: bool) -> None:
    """Write a new demand; its time is the database's unless it has waited before (`created_at`)."""
    tx.insert_all(demands, [{**rows.demand_values(replace(demand, created_at=demand.created_at or tx.now)), "job": job}])
    mark_due(tx, "demand")


def free(tx: Transaction, ids: Iterable[str], *, job: bool = True) -> None:
    """Free grants and cancel demands, and make the next round due when there were any."""
    changed = 0
    for part in batched(ids):
        mine = grants.c.id.in_(part) & grants.c.job.is_(job)
        held = tx.connection.execute(select(grants.c.id, grants.c.node).where(mine)).all()
        if held:
            tx.delete_all(grants, [row.id for row in held])
            record_all(tx, "grant.released", ((row.id, {"node": row.node}) for row in held))
        cancelled = tx.connection.execute(delete(demands).where(demands.c.id.in_(part), demands.c.job.is_(job))).rowcount
        changed += len(held) + cancelled
    if changed:
        mark_due(tx, "freed")


def renew(tx: Transaction, ids: Sequence[str], *, holder: str, lease_s: float) -> frozenset[str]:
    """Renew leases; one that changes hands gets the next fencing token."""
    held: set[str] = set()
    for part in batched(ids):
        passed_on = case((grants.c.holder == holder, grants.c.token), else_=grants.c.token + 1)
        renewed = {"holder": holder, "token": passed_on, "expires_at": tx.now + lease_s, "suspect": False}
        tx.connection.execute(update(grants).where(grants.c.id.in_(part)).values(**renewed))
        found = tx.connection.execute(select(grants.c.id).where(grants.c.id.in_(part), grants.c.holder == holder)).scalars().all()
        tx.connection.execute(update(attempts).where(attempts.c.id.in_(found)).values(unfollowed_s=0.0, followed_at=tx.now))
        held.update(found)
    return frozenset(held)


def leases(tx: Transaction) -> tuple[Lease, ...]:
    """Return every live lease, oldest grant first."""
    query = select(grants).order_by(grants.c.granted_at, grants.c.id)
    return tuple(rows.lease(row) for row in tx.connection.execute(query))
