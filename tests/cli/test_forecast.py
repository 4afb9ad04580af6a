"""``airflow dla forecast``, against a server that answers as Airflow's REST API does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_dla.cli.reach import Reach
from airflow_dla.specs import Exit, ExitReason, JobKey, JobSpec, Node

TOKEN, PASSWORD = "a-token", "a-password"


class FakeAirflow(ThreadingHTTPServer):
    """Answers the endpoints that are read, page after page; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.dags: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeAirflow

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Give a token for the password."""
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.path == "/auth/token" and given == {"username": "reader", "password": PASSWORD}
        self._answer(201 if known else 401, {"access_token": TOKEN} if known else {"detail": "Invalid credentials"})

    def do_GET(self) -> None:
        """Answer one page."""
        self.server.asked.append(self.path)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._answer(401, {"detail": "Invalid JWT token"})
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        found = {"/api/v2/dags": ("dags", self.server.dags), "/api/v2/dags/~/dagRuns": ("dag_runs", self.server.runs)}.get(parts.path)
        if found is None:
            return self._answer(404, {"detail": "Not Found"})
        key, rows = found
        page = rows[int(asked["offset"]) :][: min(int(asked["limit"]), 2)]
        return self._answer(200, {key: page, "total_entries": len(rows)})

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def airflow_api() -> Iterator[FakeAirflow]:
    """Return the server, listening."""
    server = FakeAirflow()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def written(seconds: float) -> str:
    """Return a time as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@pytest.fixture
def a_past(reach: Reach) -> float:
    """Let a job of a schedule have run; return the ledger's time."""
    ledger = reach.ledger
    now = ledger.now()
    ledger.register_node(Node(name="n", capacity={"cpu": 4.0}))
    run = f"scheduled__{datetime.fromtimestamp(now - 5, UTC).isoformat()}"
    spec = JobSpec.from_mapping(
        {
            "key": JobKey(dag="etl", run=run, task="train").to_mapping(),
            "agent": {"name": "job"},
            "entrypoint": ["true"],
            "request": {"cpu": 2},
            "policy": {"priority": 5},
            "lineage": {"run_type": "scheduled"},
        }
    )
    attempt = ledger.open_attempt(spec)
    from airflow_dla.control import decide  # noqa: PLC0415 - the round without a workspace

    ledger.round(lambda snapshot: decide(snapshot, reach.settings.policy), holder="h", lease_s=60)
    ledger.begin_launch(attempt.id, holder="h", lease_s=60)
    ledger.record_launch(attempt.id, {})
    ledger.finish(attempt.id, Exit(reason=ExitReason.SUCCEEDED))
    return now


def dag(name: str, due: float | None) -> dict[str, Any]:
    """Return a DAG as the API describes it."""
    return {"dag_id": name, "next_dagrun_run_after": None if due is None else written(due)}


def test_next_runs_are_read_page_after_page_and_expected(
    dla: Any, connection: str, airflow_api: FakeAirflow, a_past: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token from the environment; afterwards the ledger shows them."""
    monkeypatch.setenv("DLA_AIRFLOW_TOKEN", TOKEN)
    airflow_api.dags = [dag("other", a_past + 60), dag("never", None), dag("more", a_past), dag("etl", a_past + 3600)]
    airflow_api.runs = [{"dag_id": "other", "dag_run_id": "r", "run_after": written(a_past)}]
    ended = dla("forecast", "refresh", "--conn-id", connection, "--url", airflow_api.url, "--json")
    assert ended.status == 0, ended.err
    (job,) = ended.document["expected"]
    assert (job["dag"], job["task"], job["priority"], job["amounts"]) == ("etl", "train", 5, {"cpu": 2.0})
    assert a_past + 3300 < job["at"] < a_past + 3700
    assert any("paused=false" in path for path in airflow_api.asked)
    shown = dla("forecast", "show", "--conn-id", connection)
    assert "etl.train" in shown.out
    assert "2 cpu" in shown.out


def test_a_user_s_password_comes_from_the_environment(
    dla: Any, connection: str, airflow_api: FakeAirflow, a_past: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never stands on the command line."""
    monkeypatch.setenv("DLA_AIRFLOW_PASSWORD", PASSWORD)
    airflow_api.dags = [dag("etl", a_past + 3600)]
    ended = dla("forecast", "refresh", "--conn-id", connection, "--url", airflow_api.url, "--user", "reader", "--json")
    assert len(ended.document["expected"]) == 1


def test_without_a_secret_it_says_where_one_is_looked_for(dla: Any, connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both for a token and for a password."""
    monkeypatch.delenv("DLA_AIRFLOW_TOKEN", raising=False)
    assert "$DLA_AIRFLOW_TOKEN" in dla("forecast", "refresh", "--conn-id", connection, "--url", "http://127.0.0.1:1").err
    ended = dla("forecast", "refresh", "--conn-id", connection, "--url", "http://127.0.0.1:1", "--user", "reader")
    assert (ended.status, "$DLA_AIRFLOW_PASSWORD" in ended.err) == (1, True)


def test_a_refused_token_and_a_server_that_is_down_are_told_apart(
    dla: Any, connection: str, airflow_api: FakeAirflow, a_past: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither changes what is expected, and neither shows the token."""
    monkeypatch.setenv("DLA_AIRFLOW_TOKEN", "another")
    refused = dla("forecast", "refresh", "--conn-id", connection, "--url", airflow_api.url)
    assert "refuses this user or token (401)" in refused.err
    down = dla("forecast", "refresh", "--conn-id", connection, "--url", "http://127.0.0.1:1")
    assert "does not answer at http://127.0.0.1:1" in down.err
    assert "another" not in refused.err + down.err


def test_nobody_is_expected_at_first(dla: Any, connection: str) -> None:
    """An empty table says so."""
    assert dla("forecast", "show", "--conn-id", connection).out.strip() == "nobody is expected"
