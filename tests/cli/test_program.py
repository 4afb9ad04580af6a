"""The ``airflow`` program itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.models.connection import Connection
from sqlalchemy import create_engine

pytestmark = pytest.mark.system


def test_allocate_needs_neither_workspace_nor_database(airflow: Any) -> None:
    """A problem on standard input is solved in a home where nothing was ever set up."""
    stdin = json.dumps({"capacity": {"cpu": 80}, "requests": [{"name": "a", "cpu": 50}, {"name": "b", "cpu": 30}]})
    nowhere = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nonexistent/airflow.db"}
    ended = airflow("dla", "allocate", "-", "--json", stdin=stdin, env=nowhere)
    assert ended.status == 0, ended.err
    assert ended.document["grants"] == {"a": {"cpu": 50}, "b": {"cpu": 30}}


def test_doctor_in_a_fresh_home(airflow: Any, tmp_path: Path) -> None:
    """The embedded default is made and passes, and nothing of the probe is left."""
    ended = airflow("dla", "doctor", "--json")
    states = {check["name"]: check["state"] for check in ended.document["checks"]}
    assert ended.status == (0 if ended.document["ok"] else 1)
    assert {states[name] for name in ("connection", "ledger", "ledger writes", "store", "clock", "jobs folder", "executor")} == {"ok"}
    assert "place" in states
    assert not list((tmp_path / "airflow" / "dla" / "jobs").iterdir())


def test_finds_connections_saved_in_the_web_ui(airflow: Any, tmp_path: Path) -> None:
    """A connection that is only in Airflow's database resolves."""
    engine = create_engine(f"sqlite:///{tmp_path}/airflow.db")
    table = Connection.__table__
    table.create(engine)
    extra = json.dumps(
        {"ledger": f"sqlite:///{tmp_path}/ledger.db", "store": str(tmp_path / "store"), "jobs_folder": str(tmp_path / "jobs")}
    )
    with engine.begin() as database:
        database.execute(table.insert().values(conn_id="saved", conn_type="dla", extra=extra, is_encrypted=False, is_extra_encrypted=False))
    env = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": str(engine.url)}
    ended = airflow("dla", "ledger", "upgrade", "--conn-id", "saved", "--json", env=env)
    assert ended.status == 0, ended.err
    assert ended.document["ledger"] == f"sqlite:///{tmp_path}/ledger.db"
