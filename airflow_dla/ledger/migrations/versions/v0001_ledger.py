"""The ledger's first schema."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_APPEND_ONLY = ("dla_history", "dla_alias_log", "dla_model_versions")


def upgrade() -> None:
    """Create every table, the workspace's identity and the default team."""
    _workspace()
    _places()
    _jobs()
    _allocation()
    _models()
    _history()
    for table in _APPEND_ONLY:
        _forbid_changes(table)


def _workspace() -> None:
    workspace = op.create_table(
        "dla_workspace",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("due", sa.Boolean, nullable=False),
        sa.Column("reaped_at", sa.Float),
    )
    teams = op.create_table(
        "dla_teams",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("quota", sa.Text, nullable=False),
    )
    op.bulk_insert(teams, [{"name": "default", "weight": 1.0, "quota": "{}"}])
    op.execute(workspace.insert().values(id=uuid.uuid4().hex, created_at=_now(), due=False))


def _now() -> sa.TextClause:
    if op.get_bind().dialect.name == "postgresql":
        return sa.text("extract(epoch from clock_timestamp())")
    return sa.text("(julianday('now') - 2440587.5) * 86400.0")


def _places() -> None:
    op.create_table(
        "dla_nodes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.Column("silent_since", sa.Float),
    )
    op.create_table(
        "dla_followers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    op.create_table(
        "dla_agents",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )


def _jobs() -> None:
    op.create_table(
        "dla_jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("dag", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("map_index", sa.Integer, nullable=False),
        sa.Column("last", sa.Integer, nullable=False),
    )
    op.create_index("dla_jobs_dag", "dla_jobs", ["dag"])
    op.create_table(
        "dla_attempts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, sa.ForeignKey("dla_jobs.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("granted", sa.Text),
        sa.Column("handle", sa.Text),
        sa.Column("stop", sa.Text),
        sa.Column("log_offset", sa.BigInteger, nullable=False),
        sa.Column("exit", sa.Text),
        sa.Column("exit_reason", sa.Text),
        sa.Column("deferred", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("granted_at", sa.Float),
        sa.Column("running_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("followed_at", sa.Float),
        sa.Column("delivered_at", sa.Float),
        sa.Column("unfollowed_s", sa.Float, nullable=False),
        sa.UniqueConstraint("job", "number", name="dla_attempts_job_number"),
    )
    op.create_index("dla_attempts_created", "dla_attempts", ["created_at"])
    live = sa.text("state <> 'ended'")
    op.create_index("dla_attempts_live", "dla_attempts", ["job"], unique=True, sqlite_where=live, postgresql_where=live)


def _allocation() -> None:
    op.create_table(
        "dla_demands",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("job", sa.Boolean, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("node", sa.Text),
        sa.Column("team", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("reason", sa.Text),
    )
    op.create_index("dla_demands_order", "dla_demands", ["created_at", "id"])
    op.create_table(
        "dla_grants",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("job", sa.Boolean, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("granted", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("granted_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("suspect", sa.Boolean, nullable=False),
    )
    op.create_index("dla_grants_order", "dla_grants", ["granted_at", "id"])


def _models() -> None:
    op.create_table(
        "dla_model_versions",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("lineage", sa.Text, nullable=False),
        sa.Column("registered_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.UniqueConstraint("model", "registered_by", "digest", name="dla_model_versions_once"),
    )
    op.create_table(
        "dla_aliases",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("alias", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("interval_end", sa.Float),
        sa.Column("moved_at", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(["model", "number"], ["dla_model_versions.model", "dla_model_versions.number"]),
    )
    op.create_table(
        "dla_alias_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column("old", sa.Integer),
        sa.Column("new", sa.Integer, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("dla_alias_log_model", "dla_alias_log", ["model", "alias"])


def _history() -> None:
    op.create_table(
        "dla_history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_index("dla_history_subject", "dla_history", ["subject"])
    op.create_index("dla_history_kind", "dla_history", ["kind"])
    op.create_table(
        "dla_pins",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("pinned_at", sa.Float, nullable=False),
    )


def _forbid_changes(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE OR REPLACE FUNCTION dla_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        )
        op.execute(f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION dla_append_only()")
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
