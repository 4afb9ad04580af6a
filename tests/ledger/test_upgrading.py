"""Creating the schema: once, whoever comes first, and just what the code believes."""

import json
import logging
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from contracts.ledger import DONE, first_come, job, node
from ledger.contenders import run
from sqlalchemy import text

from airflow_dla.ledger import SqlLedger, connect
from airflow_dla.ledger.schema import REVISIONS, VERSION_TABLE, metadata
from airflow_dla.ledger.transaction import Transaction
from airflow_dla.ledger.upgrading import _MIGRATIONS
from airflow_dla.specs import AttemptState, Demand, Grant, Held, JobSpec, Request, TeamSpec


def made_at(revision: str, url: str) -> SqlLedger:
    """Return a ledger whose schema is an old one."""
    ledger = connect(url)
    with ledger._db.backend.upgrading():
        ledger._db.unchecked("exclusive", lambda tx: _migrate(tx, revision))
    return ledger


def _migrate(tx: Transaction, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes.update(connection=tx.connection, version_table=VERSION_TABLE)
    command.upgrade(config, revision)


def write(ledger: SqlLedger, table: str, *rows: dict[str, Any]) -> None:
    """Insert rows as an old version of the code did."""
    columns = ", ".join(rows[0])
    statement = text(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(f':{name}' for name in rows[0])})")
    ledger._db.unchecked("exclusive", lambda tx: tx.connection.execute(statement, list(rows)))


def test_known_revisions_are_the_migrations() -> None:
    """The list that is read without Alembic is the one Alembic has."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == REVISIONS


def test_migrations_make_the_tables(ledger: SqlLedger) -> None:
    """The migrated database has exactly the tables, columns and indexes that the code uses."""

    def differences(tx: Transaction) -> Any:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(tx.connection, opts=options), metadata)

    assert ledger._db.read(differences) == []


def test_upgrade_twice_changes_nothing(empty_url: str) -> None:
    """The second upgrade finds nothing to do, and the identity stays."""
    ledger = connect(empty_url)
    ledger.upgrade()
    identity = ledger.identity()
    ledger.upgrade()
    assert ledger.identity() == identity
    ledger.close()


def test_processes_upgrade_at_once(empty_url: str) -> None:
    """All succeed, and there is one workspace."""
    run("upgrade", 4, empty_url)
    ledger = connect(empty_url)
    assert ledger.identity()
    assert [team.name for team in ledger.teams()] == ["default"]
    ledger.close()


def test_logging_is_left_alone(tmp_path: Path) -> None:
    """Alembic reads no ini file and configures no logger."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("sqlalchemy").level, logging.root.manager.disable)
    ledger = connect(f"sqlite:///{tmp_path}/per%cent/ledger.db")
    ledger.upgrade()
    ledger.close()
    assert before == (root.level, list(root.handlers), logging.getLogger("sqlalchemy").level, logging.root.manager.disable)


POLICY = {"team": "vision", "priority": 3, "preemptible": True, "place": "local"}
WAITS, HOLDS, DONE_BEFORE = (job(task, cpu="1-2", policy=POLICY) for task in ("waits", "holds", "done"))


def attempt_at_first_schema(ledger: SqlLedger, spec: JobSpec, **columns: Any) -> None:
    """Write a job with one attempt."""
    id_ = spec.key.id
    write(ledger, "dla_jobs", {"id": id_, "dag": "d", "run": "r", "task": spec.key.task, "map_index": -1, "last": 1})
    attempt = {"id": f"{id_}.1", "job": id_, "number": 1, "spec": json.dumps(spec.to_mapping()), "log_offset": 5}
    write(ledger, "dla_attempts", {**attempt, "deferred": True, "created_at": 1.0, "unfollowed_s": 0.0, **columns})


def fill_first_schema(ledger: SqlLedger) -> None:
    """Write what waits, what is held and what has ended, for jobs and for the bare hook."""
    held = [(f"{HOLDS.key.id}.1", 2.0, True), ("hook", 1.0, False), ("nothing", 0.0, False)]
    granted = {id_: json.dumps({"id": id_, "node": "n", "amounts": {"cpu": cpu}}) for id_, cpu, _ in held}
    attempt_at_first_schema(ledger, WAITS, state="waiting")
    attempt_at_first_schema(ledger, HOLDS, state="running", stop="stopped", granted=granted[held[0][0]], granted_at=3.0)
    attempt_at_first_schema(ledger, DONE_BEFORE, state="ended", exit=json.dumps(DONE.to_mapping()), exit_reason="succeeded")
    wants = {"request": '{"cpu": "1.0-2.0"}', "place": "local", "node": "n", "team": "vision", "priority": 3, "weight": 1.0}
    write(ledger, "dla_demands", {**wants, "id": f"{WAITS.key.id}.1", "job": True, "created_at": 1.0})
    write(ledger, "dla_demands", {**wants, "id": "bare", "job": False, "created_at": 2.0})
    lease = {"node": "n", "holder": "h", "token": 4, "expires_at": 9e9, "suspect": False}
    for number, (id_, _, is_job) in enumerate(held):
        write(ledger, "dla_grants", {**lease, "id": id_, "job": is_job, "granted": granted[id_], "granted_at": 3.0 + number})
    write(ledger, "dla_teams", {"name": "vision", "weight": 2.0, "quota": '{"gpu": 4.0}'})


def test_first_schema_loses_nothing(empty_url: str) -> None:
    """What waits goes on waiting, what is held is held and charged, with what their attempts asked for; teams stay."""
    ledger = made_at("0001", empty_url)
    fill_first_schema(ledger)
    ledger.upgrade()
    seen = ledger.snapshot()
    wanted: dict[str, Any] = {"request": Request.from_mapping({"cpu": "1-2"}), "team": "vision", "priority": 3, "place": "local"}
    assert seen.pending == (
        Demand(id=f"{WAITS.key.id}.1", node="n", created_at=1.0, preemptible=True, **wanted),
        Demand(id="bare", node="n", created_at=2.0, **wanted),
    )
    assert seen.held[0] == Held(
        demand=Demand(id=f"{HOLDS.key.id}.1", created_at=3.0, preemptible=True, **wanted),
        grant=Grant(id=f"{HOLDS.key.id}.1", node="n", amounts={"cpu": 2.0}),
        since=3.0,
        stopping=True,
    )
    assert seen.held[1].demand == Demand(id="hook", request=Request.from_mapping({"cpu": 1}), created_at=4.0)
    assert [held.grant.amounts["cpu"] for held in seen.held] == [2.0, 1.0, 0.0]
    assert seen.teams == (TeamSpec(name="default"), TeamSpec(name="vision", weight=2.0, quota={"gpu": 4.0}))
    assert [lease.token for lease in ledger.leases()] == [4, 4, 4]
    assert len(ledger.past_runs(dag="d", team="vision")) == 3
    ledger.close()


def test_first_schema_goes_on(empty_url: str) -> None:
    """What was held before the migration ends after it, and what waited gets its place."""
    ledger = made_at("0001", empty_url)
    fill_first_schema(ledger)
    ledger.upgrade()
    ledger.register_node(node())
    assert ledger.round(first_come, holder="h", lease_s=60).granted == ()
    ledger.finish(f"{HOLDS.key.id}.1", DONE)
    ledger.release(["hook"])
    assert ledger.round(first_come, holder="h", lease_s=60).granted == (f"{WAITS.key.id}.1", "bare")
    assert ledger.attempts([f"{WAITS.key.id}.1"])[f"{WAITS.key.id}.1"].state is AttemptState.GRANTED
    ledger.close()
