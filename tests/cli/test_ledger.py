"""``airflow dla ledger``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_dla.ledger import connect


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the id of a connection whose ledger does not exist yet."""
    extra = {"ledger": f"sqlite:///{tmp_path}/new/ledger.db", "store": str(tmp_path / "store"), "jobs_folder": str(tmp_path / "jobs")}
    monkeypatch.setenv("AIRFLOW_CONN_DLA_EMPTY", json.dumps({"conn_type": "dla", "extra": extra}))
    return "dla_empty"


def test_status_then_upgrade(dla: Any, empty: str) -> None:
    """A ledger without a schema says so with exit status 1 until it was upgraded."""
    before = dla("ledger", "status", "--conn-id", empty, "--json")
    assert (before.status, before.document["schema"], before.document["current"]) == (1, None, False)
    assert "airflow dla ledger upgrade" in dla("ledger", "status", "--conn-id", empty).out
    assert dla("ledger", "upgrade", "--conn-id", empty, "--json").document["current"]
    after = dla("ledger", "status", "--conn-id", empty, "--json")
    assert (after.status, after.document["schema"]) == (0, after.document["needed"])


def test_commands_on_an_empty_ledger_say_what_to_do(dla: Any, empty: str) -> None:
    """Whoever asks a ledger that was never made learns the command that makes it."""
    ended = dla("jobs", "list", "--conn-id", empty)
    assert ended.status == 1
    assert "airflow dla ledger upgrade" in ended.err


def test_no_password_is_shown(dla: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that is down is named without its password."""
    pytest.importorskip("psycopg")
    uri = "postgresql://dla:hush-hush@127.0.0.1:1/dla?connect_timeout=1"
    monkeypatch.setenv("AIRFLOW_CONN_THE_LEDGER", uri)
    monkeypatch.setenv("AIRFLOW_CONN_DLA_DOWN", json.dumps({"conn_type": "dla", "extra": {"ledger": "the_ledger"}}))
    ended = dla("ledger", "status", "--conn-id", "dla_down")
    assert ended.status == 1
    assert "127.0.0.1" in ended.err
    assert "hush" not in ended.err + ended.out


def test_a_connection_that_names_none(dla: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that names an absent one is one message."""
    monkeypatch.setenv("AIRFLOW_CONN_DLA_BROKEN", json.dumps({"conn_type": "dla", "extra": {"ledger": "absent"}}))
    ended = dla("ledger", "status", "--conn-id", "dla_broken")
    assert ended.status == 1
    assert "'dla_broken' names one that does not exist" in ended.err


def test_a_newer_schema_is_refused(dla: Any, connection: str, sqlite_url: str) -> None:
    """A ledger of a later version is not touched."""
    ledger = connect(sqlite_url)
    ledger._db.unchecked("write", lambda tx: tx.connection.exec_driver_sql("UPDATE dla_alembic_version SET version_num = '9999'"))
    ended = dla("ledger", "upgrade", "--conn-id", connection)
    assert ended.status == 1
    assert "9999" in ended.err
