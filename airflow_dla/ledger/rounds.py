"""Allocation rounds: read everything, decide, check, write, in one transaction under the ledger's lock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Text, bindparam, cast, func, literal_column, or_, select, union_all

from airflow_dla.ledger import adjusting, capacity, expecting, rows, teams
from airflow_dla.ledger.history import record_all
from airflow_dla.ledger.records import Decision, Round, Snapshot
from airflow_dla.ledger.schema import accounts, attempts, demands, expected, grants, nodes, wakes, workspace
from airflow_dla.ledger.schema import teams as teams_table
from airflow_dla.ledger.transaction import Transaction
from airflow_dla.specs import AttemptState, Grant, Reason

Decide = Callable[[Snapshot], Decision]

_EXPIRED = grants.c.suspect.is_(False) & (grants.c.expires_at < bindparam("now"))
_DUE = select(or_(select(wakes.c.why).exists(), select(workspace.c.id).where(workspace.c.due_at <= bindparam("now")).exists()))

_WAITING = select(*(demands.c[name] for name in rows.DEMAND_COLUMNS), demands.c.job, demands.c.reason).order_by(
    demands.c.created_at, demands.c.id
)
_HELD = select(
    *(grants.c[name] for name in rows.HELD_COLUMNS), grants.c.job, grants.c.holder, grants.c.suspect, grants.c.expires_at
).order_by(grants.c.granted_at, grants.c.id)

# Everything else that a round reads, in one message: what it is, and its text.
_SETTING = union_all(
    select(literal_column("'node'").label("kind"), nodes.c.node.label("text")).where(nodes.c.silent_since.is_(None)),
    select(literal_column("'team'"), teams_table.c.team),
    select(literal_column("'account'"), accounts.c.account),
    select(literal_column("'expected'"), expected.c.job).where(expected.c.until >= bindparam("now")),
    select(literal_column("'workspace'"), workspace.c.id),
    select(literal_column("'due_at'"), cast(workspace.c.due_at, Text)).where(workspace.c.due_at.is_not(None)),
)

#: Where in a row of `_WAITING` the columns begin that are of no demand, and in one of `_HELD` those that are not of a grant.
_JOB: Final = len(rows.DEMAND_COLUMNS)
_HELD_JOB: Final = len(rows.HELD_COLUMNS)


@dataclass(frozen=True, slots=True)
class _Read:
    """What a round reads: what it decides about, and what it must know besides to write the decision."""

    snapshot: Snapshot
    waiting: Mapping[str, Any]
    held: Sequence[Any]
    workspace: str
    due_at: bool

    def bare(self) -> frozenset[str]:
        """Return the live grants that belong to no job."""
        return frozenset(row[0] for row in self.held if not row[_HELD_JOB])


def idle(tx: Transaction) -> Round | None:
    """Return the answer of a round that has nothing to do, without any lock; None when there is something."""
    expired = tx.connection.execute(select(select(grants.c.id).where(_EXPIRED).exists()), {"now": tx.now}).scalar_one()
    return None if expired or due(tx) else Round(skipped=True, waiting=_waiting(tx))


def due(tx: Transaction) -> bool:
    """Whether something happened that a round must know, or its time has come."""
    return bool(tx.connection.execute(_DUE, {"now": tx.now}).scalar_one())


def run(tx: Transaction, decide: Decide, *, holder: str, lease_s: float, force: bool) -> Round:
    """Run one round if there is anything to do; the caller holds the ledger's lock."""
    if not (force or due(tx)):
        _suspect(tx, tx.connection.execute(select(grants.c.id, grants.c.holder).where(_EXPIRED), {"now": tx.now}).all())
        return Round(skipped=True, waiting=_waiting(tx))
    return settle(tx, decide, holder=holder, lease_s=lease_s, force=force)[0]


def settle(tx: Transaction, decide: Decide, *, holder: str, lease_s: float, force: bool = False) -> tuple[Round, Decision]:
    """Decide about everything that is there, and return what was decided."""
    # What wakes the next round from here on is not among what is read below.
    tx.delete_all(wakes)
    read = _read(tx)
    seen = read.snapshot
    _suspect(tx, [(row[0], row[_HELD_JOB + 1]) for row in read.held if not row[-2] and row[-1] < tx.now])
    nothing = not (seen.pending or seen.held or force)
    decision = Decision() if nothing else decide(seen)
    capacity.check(seen, decision, bare=read.bare() if decision.preempted else ())
    _write(tx, read, decision, holder=holder, lease_s=lease_s)
    waiting = len(seen.pending) - len(decision.grants)
    return Round(skipped=nothing, granted=tuple(decision.grants), waiting=waiting), decision


def snapshot(tx: Transaction) -> Snapshot:
    """Return what a round would read now."""
    return _read(tx).snapshot


def _waiting(tx: Transaction) -> int:
    return tx.connection.execute(select(func.count()).select_from(demands)).scalar_one()


def _suspect(tx: Transaction, expired: Sequence[Any]) -> None:
    tx.update_all(grants, [{"id": id_, "suspect": True} for id_, _ in expired])
    record_all(tx, "lease.expired", ((id_, {"holder": holder}) for id_, holder in expired))


def _read(tx: Transaction) -> _Read:
    setting: defaultdict[str, list[str]] = defaultdict(list)
    found, asked, held = tx.read_all(_SETTING, _WAITING, _HELD, now=tx.now)
    for kind, text in found:
        setting[kind].append(text)
    # One that was asked for again while it was granted waits no more.
    granted = {row[0] for row in held}
    waiting = {row[0]: row for row in asked if row[0] not in granted}
    seen = Snapshot(
        now=tx.now,
        nodes=tuple(sorted(map(rows.node, setting["node"]), key=lambda node: node.name)),
        held=tuple(map(rows.held, held)),
        pending=tuple(rows.demand(row[:_JOB]) for row in waiting.values()),
        teams=tuple(sorted(map(rows.team, setting["team"]), key=lambda team: team.name)),
        accounts=tuple(sorted(map(rows.account, setting["account"]), key=lambda account: account.team)),
        expected=expecting.ahead(tx, setting["expected"]),
    )
    return _Read(seen, waiting, held, setting["workspace"][0], bool(setting["due_at"]))


def _write(tx: Transaction, read: _Read, decision: Decision, *, holder: str, lease_s: float) -> None:
    if decision.grants:
        _grant(tx, decision, read.waiting, {"holder": holder, "token": 1, "granted_at": tx.now, "expires_at": tx.now + lease_s})
    _explain(tx, decision, read.waiting)
    if decision.targets:
        adjusting.tell(tx, decision.targets, {held.grant.id: held for held in read.snapshot.held})
    adjusting.preempt(tx, decision.preempted)
    teams.keep_accounts(tx, decision.accounts, known=read.snapshot.accounts)
    if read.due_at or decision.again_at is not None:
        tx.update_all(workspace, [{"id": read.workspace, "due_at": decision.again_at}])


def _grant(tx: Transaction, decision: Decision, waiting: Mapping[str, Any], lease: Mapping[str, Any]) -> None:
    tx.delete_all(demands, decision.grants)
    fresh = {**lease, "suspect": False, "rigid": False, "stopping": False}
    written = [_granted(waiting[given.id], given) | fresh for given in decision.grants.values()]
    tx.insert_all(grants, written)
    _move_attempts(tx, {row["id"]: row["granted"] for row in written if row["job"]}, decision.reasons)
    record_all(tx, "grant.given", ((given.id, _told(given)) for given in decision.grants.values()))


def _granted(row: Sequence[Any], given: Grant) -> dict[str, Any]:
    """Return the columns of a grant: its demand's, which goes with it, and what was granted."""
    columns = dict(zip(rows.DEMAND_COLUMNS, row, strict=False))
    return {**columns, "job": bool(row[_JOB]), "node": given.node, "granted": rows.dump(given.to_mapping())}


def _told(given: Grant) -> dict[str, Any]:
    return {"node": given.node, "amounts": dict(given.amounts), "gpu_ids": list(given.gpu_ids)}


def _move_attempts(tx: Transaction, granted: Mapping[str, Any], reasons: Mapping[str, Reason]) -> None:
    """Move attempts to ``granted``; one that got less than it wanted keeps the reason."""
    moved = {"state": AttemptState.GRANTED.value, "granted_at": tx.now}
    why = {id_: rows.dump_reason(reasons[id_]) for id_ in granted if id_ in reasons}
    tx.update_all(attempts, [{"id": id_, "granted": what, "reason": why.get(id_), **moved} for id_, what in granted.items()])


def _explain(tx: Transaction, decision: Decision, waiting: Mapping[str, Any]) -> None:
    """Write the reasons that changed."""
    said = ((id_, rows.dump_reason(why)) for id_, why in decision.reasons.items() if id_ in waiting and id_ not in decision.grants)
    tx.update_all(demands, [{"id": id_, "reason": text} for id_, text in said if text != waiting[id_][-1]])
