"""The tables of the ledger, and the revisions of their schema.

Columns that hold a spec, or anything else that is read whole, are JSON text: the same
on every database, and a key of the caches in `rows`. Times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

#: Every revision that ever was, oldest first; a test holds it against the migrations.
REVISIONS: Final = ("0001", "0002")
HEAD: Final = REVISIONS[-1]
VERSION_TABLE: Final = "dla_alembic_version"

metadata = MetaData()
_SERIAL = BigInteger().with_variant(Integer, "sqlite")


def _json(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


#: One row: who this ledger is, when the next round is due by time, when the reaper last ran.
workspace = Table(
    "dla_workspace",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", Float, nullable=False),
    # When the next round is due by time alone: a forecast, a term or an age comes to pass.
    Column("due_at", Float),
    Column("reaped_at", Float),
)

#: Why the next round is due; it takes them all. Rows instead of a flag: two that write at
#: once never wait for each other, and what is written while a round reads is left for the next.
wakes = Table("dla_wakes", metadata, Column("why", Text, nullable=False))

teams = Table(
    "dla_teams",
    metadata,
    Column("name", Text, primary_key=True),
    _json("team"),
)

#: What teams used, as rounds left it; a job may name a team that nobody has described.
accounts = Table(
    "dla_accounts",
    metadata,
    Column("team", Text, primary_key=True),
    _json("account"),
)

#: What is expected to ask soon, by the source that expects it; ``until``: after that it is expected no more.
expected = Table(
    "dla_expected",
    metadata,
    Column("source", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("at", Float, nullable=False),
    Column("until", Float, nullable=False),
    _json("job"),
    Index("dla_expected_until", "until"),
)

nodes = Table(
    "dla_nodes",
    metadata,
    Column("name", Text, primary_key=True),
    _json("node"),
    Column("host", Text, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("silent_since", Float),
)

followers = Table(
    "dla_followers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("seen_at", Float, nullable=False),
)

agents = Table(
    "dla_agents",
    metadata,
    Column("name", Text, primary_key=True),
    _json("agent"),
    Column("updated_at", Float, nullable=False),
)

#: One row for each task instance that ever ran a job; ``last`` is the number of its last attempt.
jobs = Table(
    "dla_jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("dag", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("map_index", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Index("dla_jobs_dag_task", "dag", "task"),
)

attempts = Table(
    "dla_attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, ForeignKey("dla_jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    _json("spec"),
    # The spec's, where it is looked for.
    Column("team", Text),
    Column("state", Text, nullable=False),
    _json("reason", nullable=True),
    _json("granted", nullable=True),
    _json("handle", nullable=True),
    Column("stop", Text),
    Column("stop_why", Text),
    Column("log_offset", BigInteger, nullable=False),
    _json("exit", nullable=True),
    Column("exit_reason", Text),
    Column("deferred", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("granted_at", Float),
    Column("running_at", Float),
    Column("ended_at", Float),
    Column("followed_at", Float),
    Column("delivered_at", Float),
    Column("unfollowed_s", Float, nullable=False),
    UniqueConstraint("job", "number", name="dla_attempts_job_number"),
    Index("dla_attempts_created", "created_at"),
    # The database itself refuses a second attempt of a job while one has not ended.
    Index("dla_attempts_live", "job", unique=True, sqlite_where=text("state <> 'ended'"), postgresql_where=text("state <> 'ended'")),
)


def _demand() -> tuple[Column[Any], ...]:
    """Return the columns of a demand: where it waits, and beside the grant that it became."""
    return (
        _json("request"),
        Column("place", Text, nullable=False),
        Column("pinned", Text),
        Column("team", Text, nullable=False),
        Column("priority", Integer, nullable=False),
        Column("weight", Float, nullable=False),
        Column("created_at", Float, nullable=False),
        Column("preemptible", Boolean, nullable=False),
        Column("gang", Text),
        Column("gang_size", Integer, nullable=False),
        Column("deadline", Float),
        Column("run_s", Float),
    )


#: What waits; a row leaves when it is granted or cancelled. ``job``: it belongs to the attempt of the same id.
demands = Table(
    "dla_demands",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Boolean, nullable=False),
    *_demand(),
    _json("reason", nullable=True),
    Index("dla_demands_order", "created_at", "id"),
)

#: What is held; no foreign key to a node, since grants outlive a node that was taken out.
grants = Table(
    "dla_grants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Boolean, nullable=False),
    Column("node", Text, nullable=False),
    _json("granted"),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("granted_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("suspect", Boolean, nullable=False),
    *_demand(),
    # What its holder was told to change it to, and whether it once could not.
    _json("target", nullable=True),
    Column("rigid", Boolean, nullable=False),
    Column("stopping", Boolean, nullable=False),
    Index("dla_grants_order", "granted_at", "id"),
)

model_versions = Table(
    "dla_model_versions",
    metadata,
    Column("model", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("digest", Text, nullable=False),
    _json("signature"),
    _json("metrics"),
    _json("lineage"),
    Column("registered_by", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("model", "registered_by", "digest", name="dla_model_versions_once"),
)

aliases = Table(
    "dla_aliases",
    metadata,
    Column("model", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("interval_end", Float),
    Column("moved_at", Float, nullable=False),
    ForeignKeyConstraint(["model", "number"], ["dla_model_versions.model", "dla_model_versions.number"]),
)

alias_log = Table(
    "dla_alias_log",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("old", Integer),
    Column("new", Integer, nullable=False),
    Column("why", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index("dla_alias_log_model", "model", "alias"),
)

history = Table(
    "dla_history",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    _json("data"),
    Index("dla_history_subject", "subject"),
    Index("dla_history_kind", "kind"),
)

pins = Table(
    "dla_pins",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("pinned_at", Float, nullable=False),
)
