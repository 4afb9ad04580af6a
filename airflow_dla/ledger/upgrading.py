"""Creating and migrating the schema, by many processes at once if need be."""

from __future__ import annotations

import logging
from pathlib import Path

from airflow_dla.ledger.database import Database, revision, wrong_version
from airflow_dla.ledger.schema import HEAD, REVISIONS, VERSION_TABLE
from airflow_dla.ledger.transaction import Transaction

_MIGRATIONS = Path(__file__).parent / "migrations"


def schema(database: Database) -> tuple[str | None, str]:
    """Return the revision that is there, None before the first upgrade, and the one that is needed."""
    if not database.backend.exists():
        return None, HEAD
    return database.unchecked("read", _revision), HEAD


def upgrade(database: Database) -> None:
    """Bring the schema to `HEAD`; whoever comes second finds nothing to do.

    Raises
    ------
    LedgerVersion
        If the schema is newer than this code.
    """
    found, _ = schema(database)
    if found == HEAD:
        return
    with database.backend.upgrading():
        database.unchecked("exclusive", lambda tx: _migrate(tx, database.backend.shown))


def _revision(tx: Transaction) -> str | None:
    return revision(tx.connection)


def _migrate(tx: Transaction, shown: str) -> None:
    found = _revision(tx)
    if found == HEAD:
        return
    if found is not None and found not in REVISIONS:
        raise wrong_version(shown, found)
    from alembic import command  # noqa: PLC0415  (slow to import, and rarely needed)
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes.update(connection=tx.connection, version_table=VERSION_TABLE)
    command.upgrade(config, "head")
    logging.getLogger(__name__).info("ledger %s migrated from %s to %s", shown, found or "nothing", HEAD)
