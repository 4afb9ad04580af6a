"""Creating the schema: once, whoever comes first, and just what the code believes."""

import logging
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from ledger.contenders import run

from airflow_dla.ledger import SqlLedger, connect
from airflow_dla.ledger.database import Transaction
from airflow_dla.ledger.schema import REVISIONS, VERSION_TABLE, metadata
from airflow_dla.ledger.upgrading import _MIGRATIONS


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
