"""Allocation rounds: read everything, decide, check, write, in one transaction under the ledger's lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, delete, false, func, insert, select, text, update

from airflow_dla.ledger import adjusting, capacity, expecting, rows, teams
from airflow_dla.ledger.database import Transaction
from airflow_dla.ledger.demands import batched
from airflow_dla.ledger.history import record_all
from airflow_dla.ledger.records import Decision, Round, Snapshot
from airflow_dla.ledger.schema import attempts, demands, grants, nodes, workspace
from airflow_dla.specs import AttemptState, Node, Reason

Decide = Callable[[Snapshot], Decision]

_EXPIRED = grants.c.suspect.is_(False) & (grants.c.expires_at < bindparam("now"))

# PostgreSQL takes all reasons in one statement; one UPDATE each would be a message each.
_REASONS_AT_ONCE = text(
    "UPDATE dla_demands SET reason = given.value FROM json_each_text(CAST(:reasons AS json)) AS given WHERE dla_demands.id = given.key"
)


_WAITING = select(demands.c.job, demands.c.reason, *(demands.c[name] for name in rows.DEMAND_COLUMNS)).order_by(
    demands.c.created_at, demands.c.id
)
_HELD = select(grants).order_by(grants.c.granted_at, grants.c.id)
_DUE = select(workspace.c.due | func.coalesce(workspace.c.due_at <= bindparam("now"), false()))


@dataclass(frozen=True, slots=True)
class _Pending:
    """What a round must know of a demand besides the demand itself: its row goes with the grant."""

    job: bool
    reason: str | None
    row: Row[Any]

    def columns(self) -> dict[str, Any]:
        return dict(zip(rows.DEMAND_COLUMNS, self.row[2:], strict=True))


@dataclass(frozen=True, slots=True)
class _Read:
    """What a round reads: what it decides about, and what it must know besides to write the decision."""

    snapshot: Snapshot
    pending: Mapping[str, _Pending]
    bare: frozenset[str]


def idle(tx: Transaction) -> Round | None:
    """Return the answer of a round that has nothing to do, without any lock; None when there is something."""
    expired = tx.connection.execute(select(select(grants.c.id).where(_EXPIRED).exists()), {"now": tx.now}).scalar_one()
    return None if expired or _due(tx) else Round(skipped=True, waiting=_waiting(tx))


def run(tx: Transaction, decide: Decide, *, holder: str, lease_s: float, force: bool) -> Round:
    """Run one round; the caller holds the ledger's lock."""
    _suspect_expired(tx)
    if not (force or _due(tx)):
        return Round(skipped=True, waiting=_waiting(tx))
    tx.connection.execute(update(workspace).values(due=False, due_at=None))
    read = _read(tx)
    seen = read.snapshot
    if not (seen.pending or seen.held or force):
        return Round(skipped=True)
    decision = decide(seen)
    capacity.check(seen, decision, bare=read.bare)
    _write(tx, read, decision, holder=holder, lease_s=lease_s)
    return Round(skipped=False, granted=tuple(decision.grants), waiting=len(seen.pending) - len(decision.grants))


def snapshot(tx: Transaction) -> Snapshot:
    """Return what a round would read now."""
    return _read(tx).snapshot


def _due(tx: Transaction) -> bool:
    return bool(tx.connection.execute(_DUE, {"now": tx.now}).scalar_one())


def _waiting(tx: Transaction) -> int:
    return tx.connection.execute(select(func.count()).select_from(demands)).scalar_one()


def _suspect_expired(tx: Transaction) -> None:
    expired = tx.connection.execute(select(grants.c.id, grants.c.holder).where(_EXPIRED), {"now": tx.now}).all()
    for part in batched(row.id for row in expired):
        tx.connection.execute(update(grants).where(grants.c.id.in_(part)).values(suspect=True))
    record_all(tx, "lease.expired", ((row.id, {"holder": row.holder}) for row in expired))


def _read(tx: Transaction) -> _Read:
    waiting, held = tx.connection.execute(_WAITING).all(), tx.connection.execute(_HELD).all()
    seen = Snapshot(
        now=tx.now,
        nodes=_nodes(tx),
        held=tuple(map(rows.held, held)),
        pending=tuple(rows.demand(row[2:]) for row in waiting),
        teams=teams.all_teams(tx),
        accounts=teams.all_accounts(tx),
        expected=expecting.ahead(tx),
    )
    pending = {row[2]: _Pending(bool(row[0]), row[1], row) for row in waiting}
    return _Read(seen, pending, frozenset(row.id for row in held if not row.job))


def _nodes(tx: Transaction) -> tuple[Node, ...]:
    """Return the nodes that may be granted from: those that answer when they are asked."""
    query = select(nodes.c.node).where(nodes.c.silent_since.is_(None)).order_by(nodes.c.name)
    return tuple(rows.node(text) for text in tx.connection.execute(query).scalars())


def _write(tx: Transaction, read: _Read, decision: Decision, *, holder: str, lease_s: float) -> None:
    if decision.grants:
        _grant(tx, decision, read.pending, holder=holder, lease_s=lease_s)
    _explain(tx, decision, read.pending)
    adjusting.tell(tx, decision.targets, {held.grant.id: held for held in read.snapshot.held})
    adjusting.preempt(tx, decision.preempted)
    teams.keep_accounts(tx, decision.accounts, known=read.snapshot.accounts)
    if decision.again_at is not None:
        tx.connection.execute(update(workspace).values(due_at=decision.again_at))


def _grant(tx: Transaction, decision: Decision, known: Mapping[str, _Pending], *, holder: str, lease_s: float) -> None:
    for part in batched(decision.grants):
        tx.connection.execute(delete(demands).where(demands.c.id.in_(part)))
    lease = {"holder": holder, "token": 1, "granted_at": tx.now, "expires_at": tx.now + lease_s}
    lease |= {"suspect": False, "rigid": False, "stopping": False}
    given = decision.grants.values()
    written = [
        {**known[g.id].columns(), "job": known[g.id].job, "node": g.node, "granted": rows.dump(g.to_mapping()), **lease} for g in given
    ]
    tx.connection.execute(insert(grants), written)
    _move_attempts(tx, {str(row["id"]): row["granted"] for row in written if row["job"]}, decision.reasons)
    record_all(tx, "grant.given", ((g.id, {"node": g.node, "amounts": dict(g.amounts), "gpu_ids": list(g.gpu_ids)}) for g in given))


def _move_attempts(tx: Transaction, granted: Mapping[str, Any], reasons: Mapping[str, Reason]) -> None:
    """Move attempts to ``granted``; one that got less than it wanted keeps the reason."""
    moved = update(attempts).where(attempts.c.id == bindparam("of"))
    why = {id_: rows.dump_reason(reasons[id_]) for id_ in granted if id_ in reasons}
    values = [{"of": id_, "what": what, "why": why.get(id_)} for id_, what in granted.items()]
    if values:
        state = {"state": AttemptState.GRANTED.value, "granted_at": tx.now}
        tx.connection.execute(moved.values(granted=bindparam("what"), reason=bindparam("why"), **state), values)


def _explain(tx: Transaction, decision: Decision, known: Mapping[str, _Pending]) -> None:
    """Write the reasons that changed."""
    waiting = ((id_, rows.dump_reason(why)) for id_, why in decision.reasons.items() if id_ in known and id_ not in decision.grants)
    changed = {id_: said for id_, said in waiting if said != known[id_].reason}
    if not changed:
        return
    if tx.connection.dialect.name == "postgresql":
        tx.connection.execute(_REASONS_AT_ONCE, {"reasons": rows.dump(changed)})
        return
    one = update(demands).where(demands.c.id == bindparam("of")).values(reason=bindparam("why"))
    tx.connection.execute(one, [{"of": id_, "why": said} for id_, said in changed.items()])
