"""One Airflow for all system tests of a session, and what they measured at its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_postgres import PostgresServer, binaries, missing
from system.airflow_server import AirflowServer
from system.jobs import JobRun

from airflow_dla.ledger import connect

ROOT = Path(__file__).parents[2]

#: Of workspaces whose ledgers are away for longer than a lease: that takes a third of the default's time.
BRIEF = {"lease": "20s", "renew": "7s"}

#: Start an Airflow of their own.
_OWN = ("test_docker.py", "test_kubernetes.py")

_measured: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what starts an Airflow of its own done before the shared one starts: two at once take each other's time."""
    items.sort(key=lambda item: "airflow" in getattr(item, "fixturenames", ()) and _is_shared(item))


def _is_shared(item: pytest.Item) -> bool:
    return item.path.parent == Path(__file__).parent and item.path.name not in _OWN


@pytest.fixture(scope="session")
def postgres_ledger() -> Iterator[tuple[PostgresServer, str] | None]:
    """Start a PostgreSQL for one workspace of the shared Airflow; None where there is none."""
    found = binaries()
    if missing() or found is None:
        yield None
        return
    server = PostgresServer(found)
    url = server.url(server.create())
    ledger = connect(url)
    ledger.upgrade()
    ledger.close()
    yield server, url
    server.remove()


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgres_ledger: tuple[PostgresServer, str] | None) -> Iterator[AirflowServer]:
    """Start an Airflow whose DAGs are those in tests/system/dags; tests share it, each with runs of its own."""
    home = tmp_path_factory.mktemp("airflow")
    env = {"PYTHONPATH": str(ROOT)}
    if postgres_ledger is not None:
        extra = {"ledger": postgres_ledger[1], "capacity": {"cpu": 2}, "timing": BRIEF}
        env["AIRFLOW_CONN_DLA_POSTGRES"] = json.dumps({"conn_type": "dla", "extra": extra})
    env["AIRFLOW_CONN_DLA_BRIEF"] = json.dumps({"conn_type": "dla", "extra": {"ledger": _upgraded(home / "brief.db"), "timing": BRIEF}})
    env["AIRFLOW_CONN_DLA_HASTY"] = json.dumps({"conn_type": "dla", "extra": _hasty(home)})
    with AirflowServer(home, Path(__file__).parent / "dags", env=env) as server:
        server.request("POST", "pools", json={"name": "narrow", "slots": 4})
        yield server


def _hasty(home: Path) -> dict[str, Any]:
    """Make a workspace of one CPU whose rounds preempt at once, and return its connection's extra."""
    extra = {"ledger": _upgraded(home / "hasty.db"), "capacity": {"cpu": 1}, "jobs_folder": str(home / "hasty")}
    return {**extra, "allocation": {"min_run_s": 0, "patience_s": 0}}


def _upgraded(path: Path) -> str:
    """Make a ledger in SQLite; return its URL."""
    url = f"sqlite:///{path}"
    ledger = connect(url)
    ledger.upgrade()
    ledger.close()
    return url


@pytest.fixture
def start(airflow: AirflowServer, tmp_path: Path) -> Iterator[Callable[..., JobRun]]:
    """Return a function that starts a job's run; all are ended with the test."""
    started: list[JobRun] = []

    def begin(dag: str, **options: Any) -> JobRun:
        started.append(JobRun(airflow, dag, tmp_path / f"{dag}-{len(started)}", **options))
        return started[-1]

    yield begin
    for run in started:
        run.end()


@pytest.fixture
def measure() -> Callable[[str, float], None]:
    """Return a function that remembers a measured time for the end of the session."""
    return lambda what, seconds: _measured.append(f"{what}: {seconds:.2f} s")


@pytest.fixture
def stopwatch() -> Callable[[], float]:
    """Return a function that tells the seconds since the test asked for it."""
    begun = time.monotonic()
    return lambda: time.monotonic() - begun


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write down what was measured."""
    if _measured:
        terminalreporter.section("measured in the system tests")
        for line in _measured:
            terminalreporter.write_line(line)
