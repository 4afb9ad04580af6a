"""Admission: demands that belong to no job are written, decided about, answered and released, many at once.

Whoever comes while nobody runs a round runs it, for all whose demands are there; the others
wait for its end and read their answers. What is written meanwhile waits for no lock, so that
commits share their trips to the disk.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import insert, select

from airflow_dla.errors import InvalidSpec
from airflow_dla.ledger import rounds, rows
from airflow_dla.ledger.database import Database
from airflow_dla.ledger.demands import free
from airflow_dla.ledger.nodes import mark_due
from airflow_dla.ledger.records import Answer, Decision, Lease, Round
from airflow_dla.ledger.schema import demands, grants
from airflow_dla.ledger.transaction import Transaction
from airflow_dla.specs import Demand

_WAITS: Final = select(demands.c.id, demands.c.reason)
_HOLDS: Final = select(grants.c.id, *(grants.c[name] for name in ("granted", "holder", "token", "expires_at", "suspect", "target")))

# In PostgreSQL one statement each: it commits by itself and holds no lock that another waits for.
_COLUMNS: Final = ", ".join(("job", *rows.DEMAND_COLUMNS))
_REQUEST: Final = f"""
WITH woken AS (INSERT INTO dla_wakes (why) VALUES ('demand'))
INSERT INTO dla_demands ({_COLUMNS}) SELECT {_COLUMNS} FROM json_populate_recordset(NULL::dla_demands, %s::json) AS given
WHERE NOT EXISTS (SELECT FROM dla_grants WHERE dla_grants.id = given.id) ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own names
_RELEASE: Final = """
WITH gone AS (DELETE FROM dla_grants WHERE id = ANY(%(ids)s) AND NOT job RETURNING id, node),
     cancelled AS (DELETE FROM dla_demands WHERE id = ANY(%(ids)s) AND NOT job RETURNING id),
     told AS (INSERT INTO dla_history (at, kind, subject, data)
              SELECT extract(epoch FROM clock_timestamp()), 'grant.released', id, json_build_object('node', node) FROM gone),
     woken AS (INSERT INTO dla_wakes (why) SELECT 'freed' WHERE EXISTS (SELECT FROM gone) OR EXISTS (SELECT FROM cancelled))
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM cancelled)
"""


def admit(
    database: Database, wanted: Sequence[Demand], decide: rounds.Decide, *, holder: str, lease_s: float, waiting: Collection[str]
) -> dict[str, Answer]:
    """Write demands, let a round decide about them, one's own or another's, and return the answers."""
    ids = {*waiting, *(demand.id for demand in wanted)}
    # Whoever only asks again, when nothing is due, takes no lock.
    if not wanted and (known := database.read(lambda tx: None if rounds.due(tx) else answers(tx, ids))) is not None:
        return known

    def take_part(tx: Transaction) -> dict[str, Answer]:
        request(tx, wanted)
        while not tx.leads:
            found = _answers(*tx.aside(ids, _WAITS, _HOLDS))
            if None not in found.values():
                return found
            tx.begin()
        if not wanted and not rounds.due(tx):
            return answers(tx, ids)
        _, decision = rounds.settle(tx, decide, holder=holder, lease_s=lease_s)
        return _told(tx, ids, decision, holder=holder, lease_s=lease_s)

    return database.turn(take_part)


def _told(tx: Transaction, ids: Collection[str], decision: Decision, *, holder: str, lease_s: float) -> dict[str, Answer]:
    """Return the answers that a decision has just given, and read the others."""
    granted = [decision.grants[id_] for id_ in ids if id_ in decision.grants]
    given: dict[str, Answer] = {one.id: Lease(grant=one, holder=holder, token=1, expires_at=tx.now + lease_s) for one in granted}
    given |= {id_: decision.reasons[id_] for id_ in ids if id_ in decision.reasons and id_ not in given}
    rest = {id_ for id_ in ids if id_ not in given}
    return {**given, **(answers(tx, rest) if rest else {})}


def run_round(database: Database, decide: rounds.Decide, *, holder: str, lease_s: float, force: bool) -> Round:
    """Run one allocation round, or find that there is nothing to do: without a lock, or after whoever did it."""
    if force:
        return database.draft(rounds.run, decide, holder=holder, lease_s=lease_s, force=True)

    def take_part(tx: Transaction) -> Round:
        while not tx.leads:
            tx.aside()
            if found := rounds.idle(tx):
                return found
            tx.begin()
        return rounds.run(tx, decide, holder=holder, lease_s=lease_s, force=False)

    # A job that it grants is launched elsewhere, a trigger's grant told to Airflow, only after more was written: `begin_launch`, `renew`.
    return database.read(rounds.idle) or database.draft_turn(take_part)


def request(tx: Transaction, wanted: Sequence[Demand]) -> None:
    """Write demands that belong to no job; an id that is there already changes nothing.

    Raises
    ------
    InvalidSpec
        If one is preemptible: there is no job that could be told to stop.
    """
    for demand in wanted:
        if demand.preemptible:
            raise InvalidSpec(f"demand {demand.id!r} must not be preemptible: it belongs to no job that could be told to stop")
    if wanted:
        _write(tx, [{**rows.demand_values(replace(one, created_at=one.created_at or tx.now)), "job": False} for one in wanted])


def _write(tx: Transaction, written: Sequence[dict[str, Any]]) -> None:
    """Write the demands that are not there; one that is granted at this very moment is taken out by the next round."""
    if tx.postgres:
        tx.keep(_REQUEST, (json.dumps(written),))
        return
    mark_due(tx, "demand")
    held = {row[0] for row in tx.read_of([row["id"] for row in written], select(grants.c.id))[0]}
    if new := [row for row in written if row["id"] not in held]:
        tx.connection.execute(insert(demands).prefix_with("OR IGNORE"), new)


def answers(tx: Transaction, ids: Collection[str]) -> dict[str, Answer]:
    """Return, by id, the lease, the reason to wait, or None before the first round; unknown ids are left out."""
    return _answers(*tx.read_of(ids, _WAITS, _HOLDS))


def _answers(waits: Sequence[Any], held: Sequence[Any]) -> dict[str, Answer]:
    found: dict[str, Answer] = {id_: rows.reason(text) for id_, text in waits}
    return found | {id_: _lease(values) for id_, *values in held}


def _lease(values: Sequence[Any]) -> Lease:
    granted, holder, token, expires_at, suspect, target = values
    told = None if target is None else rows.grant(target)
    return Lease(grant=rows.grant(granted), holder=holder, token=token, expires_at=expires_at, suspect=bool(suspect), target=told)


def release(database: Database, ids: Sequence[str]) -> None:
    """Free grants and cancel demands that belong to no job.

    Where one statement is enough, it waits for no round. One that a round granted while it was
    cancelled is missed by it, and then freed under the lock.
    """
    if not database.single(_release, ids):
        database.exclusive(free, ids, job=False)


def _release(tx: Transaction, ids: Sequence[str]) -> bool:
    """Free what can be freed in one statement, and return whether that was all."""
    if not (tx.postgres and ids):
        return False
    known = sorted(set(ids))
    tx.keep(_RELEASE, {"ids": known})
    ((freed,),) = tx.send()[0]
    return bool(freed == len(known))
