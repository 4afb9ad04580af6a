"""The registry of models: numbered versions that never change, aliases that move by compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, insert, select

from airflow_dla.errors import Conflict, NotFound
from airflow_dla.ledger import rows
from airflow_dla.ledger.history import record
from airflow_dla.ledger.records import Alias, AliasMove, ModelVersion
from airflow_dla.ledger.schema import alias_log, aliases, model_versions
from airflow_dla.ledger.transaction import Transaction


def register_version(
    tx: Transaction,
    model: str,
    *,
    digest: str,
    signature: Mapping[str, Any],
    metrics: Mapping[str, float],
    lineage: Mapping[str, Any],
    registered_by: str,
) -> ModelVersion:
    """Add a numbered version, or return the one that this attempt registered before."""
    mine = (model_versions.c.model == model) & (model_versions.c.registered_by == registered_by) & (model_versions.c.digest == digest)
    row = tx.connection.execute(select(model_versions).where(mine)).one_or_none()
    if row is not None:
        return rows.model_version(row)
    newest = tx.connection.execute(select(func.max(model_versions.c.number)).where(model_versions.c.model == model)).scalar_one()
    number = (newest or 0) + 1
    written = {"signature": rows.dump(signature), "metrics": rows.dump(metrics), "lineage": rows.dump(lineage)}
    by = {"registered_by": registered_by, "created_at": tx.now}
    tx.connection.execute(insert(model_versions).values(model=model, number=number, digest=digest, **written, **by))
    record(tx, "model.registered", f"{model}@{number}", {"digest": digest, "by": registered_by})
    return rows.model_version(tx.connection.execute(select(model_versions).where(mine)).one())


def versions(tx: Transaction, model: str | None) -> tuple[ModelVersion, ...]:
    """Return versions, newest first."""
    query = select(model_versions).order_by(model_versions.c.created_at.desc(), model_versions.c.model, model_versions.c.number.desc())
    if model is not None:
        query = query.where(model_versions.c.model == model)
    return tuple(rows.model_version(row) for row in tx.connection.execute(query))


def all_aliases(tx: Transaction, model: str | None) -> tuple[Alias, ...]:
    """Return aliases, by model and name."""
    query = select(aliases).order_by(aliases.c.model, aliases.c.alias)
    if model is not None:
        query = query.where(aliases.c.model == model)
    return tuple(rows.alias(row) for row in tx.connection.execute(query))


def log(tx: Transaction, model: str, alias: str | None) -> tuple[AliasMove, ...]:
    """Return the moves of a model's aliases, newest first."""
    query = select(alias_log).where(alias_log.c.model == model).order_by(alias_log.c.id.desc())
    if alias is not None:
        query = query.where(alias_log.c.alias == alias)
    return tuple(rows.alias_move(row) for row in tx.connection.execute(query))


def move_alias(
    tx: Transaction,
    model: str,
    alias: str,
    number: int,
    *,
    expected: int | None,
    interval_end: float | None,
    by: str,
    why: str,
) -> Alias:
    """Point an alias at a version, and log it; the very same move again changes nothing."""
    current = _current(tx, model, alias)
    if current is not None and current.number == number and _last_move(tx, model, alias) == (expected, number, by, why):
        return current
    _check_expected(model, alias, current, expected)
    _check_version(tx, model, number)
    tx.upsert(aliases, model=model, alias=alias, number=number, interval_end=interval_end, moved_at=tx.now)
    tx.connection.execute(insert(alias_log).values(model=model, alias=alias, old=expected, new=number, why=why, by=by, at=tx.now))
    record(tx, "alias.moved", f"{model}@{alias}", {"old": expected, "new": number, "by": by, "why": why})
    return Alias(model=model, alias=alias, number=number, interval_end=interval_end, moved_at=tx.now)


def _current(tx: Transaction, model: str, alias: str) -> Alias | None:
    query = select(aliases).where(aliases.c.model == model, aliases.c.alias == alias)
    row = tx.connection.execute(query).one_or_none()
    return None if row is None else rows.alias(row)


def _last_move(tx: Transaction, model: str, alias: str) -> tuple[int | None, int, str, str] | None:
    moves = log(tx, model, alias)
    return None if not moves else (moves[0].old, moves[0].new, moves[0].by, moves[0].why)


def _check_expected(model: str, alias: str, current: Alias | None, expected: int | None) -> None:
    points_at = None if current is None else current.number
    if points_at == expected:
        return
    found = "does not exist" if points_at is None else f"points at version {points_at}"
    rule = "not exist" if expected is None else f"point at version {expected}"
    raise Conflict(f"alias {model}@{alias} {found}, but should {rule}: somebody else moved it; read it again and decide anew")


def _check_version(tx: Transaction, model: str, number: int) -> None:
    query = select(model_versions.c.number).where(model_versions.c.model == model).order_by(model_versions.c.number)
    known = tx.connection.execute(query).scalars().all()
    if number not in known:
        shown = ", ".join(map(str, known[-10:])) or "none"
        raise NotFound(f"model {model!r} has no version {number}; the newest it has are {shown}")
