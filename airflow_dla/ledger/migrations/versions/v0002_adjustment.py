"""Grants that change while they are held: their demands beside them, targets, teams' accounts, what is expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: What a demand, or the demand of a grant, is when the first schema says nothing of it.
_PLAIN: dict[str, Any] = {"preemptible": False, "gang_size": 1}


def upgrade() -> None:
    """Add the columns and tables; what waits or is held already goes on as it was."""
    specs = _specs_of_attempts()
    _anew("dla_teams", _teams(), _team)
    _anew("dla_demands", _demands(), lambda row: _waiting(row, specs.get(row["id"])))
    op.create_index("dla_demands_order", "dla_demands", ["created_at", "id"])
    stopping = set(op.get_bind().execute(sa.text("SELECT id FROM dla_attempts WHERE stop IS NOT NULL")).scalars())
    _anew("dla_grants", _grants(), lambda row: _held(row, specs.get(row["id"])) | {"stopping": row["id"] in stopping})
    op.create_index("dla_grants_order", "dla_grants", ["granted_at", "id"])
    _workspace()
    op.create_table("dla_accounts", sa.Column("team", sa.Text, primary_key=True), sa.Column("account", sa.Text, nullable=False))
    _expected()
    _attempts(specs)


def _specs_of_attempts() -> dict[str, dict[str, Any]]:
    found = op.get_bind().execute(sa.text("SELECT id, spec FROM dla_attempts"))
    return {row.id: json.loads(row.spec) for row in found}


def _workspace() -> None:
    op.add_column("dla_workspace", sa.Column("due_at", sa.Float))
    op.drop_column("dla_workspace", "due")
    wakes = op.create_table("dla_wakes", sa.Column("why", sa.Text, nullable=False))
    op.bulk_insert(wakes, [{"why": "migrated"}])


def _expected() -> None:
    op.create_table(
        "dla_expected",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
    )
    op.create_index("dla_expected_until", "dla_expected", ["until"])


def _attempts(specs: dict[str, dict[str, Any]]) -> None:
    """Add what past runs are looked for by."""
    op.add_column("dla_attempts", sa.Column("stop_why", sa.Text))
    op.add_column("dla_attempts", sa.Column("team", sa.Text))
    teams = [{"id": id_, "team": spec.get("policy", {}).get("team", "default")} for id_, spec in specs.items()]
    if teams:
        op.get_bind().execute(sa.text("UPDATE dla_attempts SET team = :team WHERE id = :id"), teams)
    op.drop_index("dla_jobs_dag", "dla_jobs")
    op.create_index("dla_jobs_dag_task", "dla_jobs", ["dag", "task"])


def _anew(name: str, columns: list[sa.Column[Any]], convert: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Make a table again with other columns and its old rows: SQLite adds no column that may not be empty."""
    rows = [convert(dict(row)) for row in op.get_bind().execute(sa.text(f"SELECT * FROM {name}")).mappings()]  # noqa: S608 - our own names
    op.drop_table(name)
    made = op.create_table(name, *columns)
    op.bulk_insert(made, rows)


def _teams() -> list[sa.Column[Any]]:
    return [
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("team", sa.Text, nullable=False),
    ]


def _team(row: dict[str, Any]) -> dict[str, Any]:
    quota = json.loads(row["quota"])
    known = {"weight": row["weight"]} if row["weight"] != 1.0 else {}
    return {"name": row["name"], "team": json.dumps({"name": row["name"], **known, **({"quota": quota} if quota else {})})}


def _demands() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("job", sa.Boolean, nullable=False),
        *_demand(),
        sa.Column("reason", sa.Text),
    ]


def _demand() -> list[sa.Column[Any]]:
    return [
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("pinned", sa.Text),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("preemptible", sa.Boolean, nullable=False),
        sa.Column("gang", sa.Text),
        sa.Column("gang_size", sa.Integer, nullable=False),
        sa.Column("deadline", sa.Float),
        sa.Column("run_s", sa.Float),
    ]


def _waiting(row: dict[str, Any], spec: dict[str, Any] | None) -> dict[str, Any]:
    pinned = row.pop("node")
    return {**row, **_PLAIN, **_may_be_preempted(spec), "job": bool(row["job"]), "pinned": pinned}


def _may_be_preempted(spec: dict[str, Any] | None) -> dict[str, Any]:
    return {"preemptible": bool((spec or {}).get("policy", {}).get("preemptible", False))}


def _grants() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("job", sa.Boolean, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("granted", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("granted_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("suspect", sa.Boolean, nullable=False),
        *_demand(),
        sa.Column("target", sa.Text),
        sa.Column("rigid", sa.Boolean, nullable=False),
        sa.Column("stopping", sa.Boolean, nullable=False),
    ]


def _held(row: dict[str, Any], spec: dict[str, Any] | None) -> dict[str, Any]:
    """Take the demand from the attempt's spec, or what was granted for what was asked: the first schema kept no more."""
    asked = _granted(json.loads(row["granted"]).get("amounts", {})) if spec is None else spec["request"]
    policy = (spec or {}).get("policy", {})
    wanted = {
        "request": json.dumps(asked),
        "place": policy.get("place", "any"),
        "team": policy.get("team", "default"),
        "priority": policy.get("priority", 0),
        "weight": 1.0,
        "created_at": row["granted_at"],
    }
    more = {"job": bool(row["job"]), "suspect": bool(row["suspect"]), "rigid": False}
    return {**row, **wanted, **_PLAIN, **_may_be_preempted(spec), **more}


def _granted(amounts: dict[str, float]) -> dict[str, Any]:
    """Return a request that was answered by these amounts; one cannot ask for nothing, but can be given it."""
    return {resource: amount for resource, amount in amounts.items() if amount > 0} or {"cpu": "0.0-1.0"}
