"""Fresh ledgers for tests, on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_dla.ledger import SqlLedger, connect

BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgres))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with an upgraded ledger, to be copied by every test."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    ledger = connect(f"sqlite:///{path}")
    ledger.upgrade()
    ledger.close()
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Return the URL of a fresh, upgraded ledger in SQLite."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'ledger.db')}"


@pytest.fixture(params=BOTH)
def ledger_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a fresh, upgraded ledger, on each database in turn."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database without a ledger, on each database in turn."""
    return f"sqlite:///{tmp_path}/new/ledger.db" if request.param == "sqlite" else str(request.getfixturevalue("empty_postgres_url"))


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[SqlLedger]:
    """Return a fresh ledger, on each database in turn; commits do not wait for the disk."""
    hasty = "" if ledger_url.startswith("sqlite") else "&options=-csynchronous_commit%3Doff"
    opened = connect(ledger_url + hasty, durable=False)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_ledger(sqlite_url: str) -> Iterator[SqlLedger]:
    """Return a fresh ledger in SQLite, for tests that need one and test another thing."""
    opened = connect(sqlite_url, durable=False)
    yield opened
    opened.close()
