"""A PostgreSQL server of the test suite's own: unix socket only, gone when the session ends."""

from __future__ import annotations

import importlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_dla.ledger import connect
from airflow_dla.ledger.schema import metadata

_BINARIES = ("initdb", "postgres")


class PostgresServer:
    """One server in a folder of its own.

    Parameters
    ----------
    binaries : Path
        Folder that holds ``initdb`` and ``postgres``.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="dla-pg-", dir="/tmp"))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user, pwd.getpwnam(self._user).pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        init = [str(binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL, **self._as_user())
        self.start()

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _as_user(self) -> dict[str, Any]:
        found = pwd.getpwnam(self._user) if self._user else pwd.getpwuid(os.geteuid())
        who = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []} if self._user else {}
        return {"cwd": self.folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}, **who}

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-k", str(self.folder), "-c", "listen_addresses="]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, "-c", "max_connections=200"], stdout=log, stderr=log, **self._as_user())
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            _driver().connect(self.dsn("postgres")).close()
        except _driver().OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: fast by default, immediately (as a crash would) with SIGQUIT."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    def remove(self) -> None:
        """Stop the server and delete its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, database: str) -> str:
        """Return psycopg's name of a database."""
        return f"host={self.folder} user=postgres dbname={database}"

    def url(self, database: str) -> str:
        """Return the ledger's URL of a database."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def create(self) -> str:
        """Create an empty database and return its name; it goes with the server."""
        self._databases += 1
        name = f"dla_{self._databases}"
        with _driver().connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def empty(self, database: str) -> None:
        """Bring a ledger's database back to what an upgrade leaves: ten times faster than a new one."""
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with _driver().connect(self.dsn(database)) as connection:
            connection.execute(others)
            connection.execute("SET LOCAL session_replication_role = replica")  # the history's trigger refuses to forget
            for table in reversed(metadata.sorted_tables):
                connection.execute(f"DELETE FROM {table.name}")
            connection.execute("INSERT INTO dla_workspace (id, created_at) VALUES (%s, extract(epoch FROM now()))", [uuid.uuid4().hex])
            connection.execute("INSERT INTO dla_teams (name, team) VALUES ('default', '{\"name\": \"default\"}')")


def _driver() -> Any:
    """Import psycopg, which only some have, where it is used."""
    return importlib.import_module("psycopg")


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's binaries: from PATH, or the newest Debian has; None without any."""
    on_path = [shutil.which(name) for name in _BINARIES]
    if all(on_path):
        return Path(str(on_path[0])).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda found: float(found.parts[4]))
    return installed[-1].parent if installed else None


def missing() -> str | None:
    """Return why no PostgreSQL can be started, or None."""
    if binaries() is None:
        return "no PostgreSQL binaries on PATH or in /usr/lib/postgresql/*/bin; on Debian: apt-get install postgresql"
    try:
        _driver()
    except ImportError:
        return "no PostgreSQL driver; pip install airflow-dla[postgres]"
    return None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server for the session; skipped without binaries, unless DLA_REQUIRE_POSTGRES=1."""
    if reason := missing():
        if os.environ.get("DLA_REQUIRE_POSTGRES") == "1":
            pytest.fail(f"DLA_REQUIRE_POSTGRES=1, but {reason}")
        pytest.skip(reason)
    found = binaries()
    assert found is not None
    server = PostgresServer(found)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres_database(postgres_server: PostgresServer) -> str:
    """Return the name of a database with an upgraded ledger, emptied before every test."""
    name = postgres_server.create()
    ledger = connect(postgres_server.url(name))
    ledger.upgrade()
    ledger.close()
    return name


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_database: str) -> str:
    """Return the URL of a fresh, upgraded ledger in PostgreSQL."""
    postgres_server.empty(postgres_database)
    return postgres_server.url(postgres_database)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> str:
    """Return the URL of an empty database in PostgreSQL."""
    return postgres_server.url(postgres_server.create())
