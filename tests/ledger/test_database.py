"""URLs, engines, forks, versions, and what the drivers' errors become."""

import multiprocessing
import os
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest
from contracts.ledger import demand, first_come, job, node
from fixtures_postgres import PostgresServer
from sqlalchemy import create_engine, text

from airflow_dla.errors import InvalidSpec, LedgerUnavailable, LedgerVersion
from airflow_dla.ledger import SqlLedger, connect
from airflow_dla.ledger.backend import Options
from airflow_dla.ledger.database import open_database
from airflow_dla.ledger.schema import HEAD
from airflow_dla.ledger.transaction import Transaction


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///relative.db", "absolute path, got 'sqlite:///relative.db'"),
        ("sqlite://", "absolute path"),
        ("sqlite:///:memory:", "absolute path"),
        ("mysql://host/x", "got a URL of 'mysql'"),
        ("ledger.db", "cannot be read"),
        ("", "cannot be read"),
        ("postgresql://me:s3cr:et@host:x/db", r"cannot be read \(scheme 'postgresql'\)"),
    ],
)
def test_urls_that_name_no_ledger(url: str, message: str) -> None:
    """The rule and an example are in the message, a password never is."""
    with pytest.raises(InvalidSpec, match=message) as caught:
        connect(url)
    assert "s3cr" not in "".join(traceback.format_exception(caught.value))


def test_a_draft_alone_need_not_reach_the_disk(tmp_path: Path) -> None:
    """What is told elsewhere is on the disk before that, also on a connection that wrote a draft, and with it all drafts."""
    database = open_database(f"sqlite:///{tmp_path}/ledger.db", Options(pool_size=1))
    SqlLedger(database).upgrade()

    def level(tx: Transaction) -> int:
        return int(tx.connection.exec_driver_sql("PRAGMA synchronous").scalar_one())

    full, normal = 2, 1
    modes = (database.exclusive, database.draft, database.write, database.draft_turn, database.turn)
    assert [mode(level) for mode in modes] == [full, normal, full, normal, full]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_password_is_never_shown(scheme: str) -> None:
    """Whatever the scheme, the driver is psycopg 3, and repr and errors hold no password."""
    ledger = connect(f"{scheme}://me:s3cret@127.0.0.1:1/db?sslmode=disable&password=al5o")
    assert repr(ledger) == "SqlLedger('postgresql://me@127.0.0.1:1/db')"
    assert "s3cret" not in repr(ledger._db.backend)
    with pytest.raises(LedgerUnavailable, match=r"postgresql://me@127.0.0.1:1/db: .*check that the server runs") as caught:
        ledger.now()
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown
    assert "al5o" not in shown


def test_missing_driver_names_the_extra() -> None:
    """Without psycopg the error says what to install; SQLite goes on."""
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from airflow_dla.errors import MissingExtra\n"
        "from airflow_dla.ledger import connect\n"
        "connect('sqlite:////tmp/x.db')\n"
        "try: connect('postgresql://host/db')\n"
        "except MissingExtra as error: assert 'pip install airflow-dla[postgres]' in str(error); sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, env={**os.environ, "PYTHONPATH": "."}).returncode == 7


def test_ledger_that_was_never_made(empty_url: str) -> None:
    """Before the first upgrade every operation says what to run, and creates nothing."""
    ledger = connect(empty_url)
    assert ledger.schema() == (None, HEAD)
    with pytest.raises(LedgerVersion, match=r"holds no ledger yet; run `airflow dla ledger upgrade`"):
        ledger.jobs()
    assert ledger.schema() == (None, HEAD)
    ledger.upgrade()
    assert ledger.jobs() == ()
    ledger.close()


def test_ledger_of_a_newer_version(ledger_url: str) -> None:
    """Code that is too old touches nothing and says so, also when asked to upgrade."""
    engine = create_engine(ledger_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE dla_alembic_version SET version_num = '9999'"))
    ledger = connect(ledger_url)
    try:
        assert ledger.schema() == ("9999", HEAD)
        for operation in (ledger.now, ledger.upgrade):
            with pytest.raises(LedgerVersion, match=rf"newer than the {HEAD}.*upgrade airflow-dla"):
                operation()
    finally:
        with engine.begin() as connection:
            connection.execute(text("UPDATE dla_alembic_version SET version_num = :head"), {"head": HEAD})
        engine.dispose()
        ledger.close()


def test_tables_that_vanished(sqlite_url: str) -> None:
    """A ledger that was replaced under a running process is told from one that is down."""
    ledger = connect(sqlite_url)
    ledger.now()
    ledger._db.write(lambda tx: tx.connection.execute(text("DROP TABLE dla_history")))
    with pytest.raises(LedgerVersion, match="lacks a table"):
        ledger.history()
    ledger.close()


@pytest.mark.parametrize("statement", ["UPDATE dla_history SET kind = 'x'", "DELETE FROM dla_history", "DELETE FROM dla_alias_log"])
def test_history_is_append_only(ledger: SqlLedger, statement: str) -> None:
    """The database itself refuses to change what was written."""
    for number, by in ((1, "a"), (2, "b")):
        ledger.register_version("m", digest="d", signature={}, metrics={}, lineage={}, registered_by=by)
        ledger.move_alias("m", "champion", number, expected=None if number == 1 else 1, interval_end=None, by=by, why="w")
    with pytest.raises(Exception, match="append-only"):
        ledger._db.write(lambda tx: tx.connection.execute(text(statement)))


def _in_child(ledger: SqlLedger, answers: Any) -> None:
    ledger.record("child", "x", {})
    answers.put((ledger._db._engine.pool.checkedin(), ledger.now()))
    ledger.close()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_engine_is_made_anew_after_fork(ledger_url: str) -> None:
    """A forked child opens connections of its own and leaves the parent's alone."""
    ledger = connect(ledger_url)
    ledger.record("parent", "x", {})
    parents = ledger._db._engine
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_in_child, args=(ledger, answers))
    child.start()
    assert answers.get(timeout=30)
    child.join()
    assert child.exitcode == 0
    assert ledger._db._engine is parents
    assert [event.kind for event in ledger.history(subject="x")] == ["child", "parent"]
    ledger.close()


def test_read_sees_one_moment(ledger_url: str) -> None:
    """What others write between two statements of a read is not seen: a demand that is granted meanwhile is never lost."""
    reader, other = connect(ledger_url), connect(ledger_url)

    def twice(tx: Transaction) -> tuple[Any, ...]:
        before = tx.connection.execute(text("SELECT count(*) FROM dla_history")).scalar_one()
        other.record("a", "b", {})
        return before, tx.connection.execute(text("SELECT count(*) FROM dla_history")).scalar_one()

    before, after = reader._db.read(twice)
    assert before == after
    assert len(reader.history()) == before + 1
    reader.close()
    other.close()


def test_read_of_a_waiting_writer(sqlite_url: str) -> None:
    """While one process writes, others read; a writer that waits too long says so."""
    writer, other = connect(sqlite_url), connect(sqlite_url, wait_s=0.1)

    def hold(tx: Transaction) -> None:
        tx.connection.execute(text("UPDATE dla_workspace SET due_at = 1"))
        assert other.jobs() == ()
        with pytest.raises(LedgerUnavailable, match=r"another process has been writing for 0.1 s"):
            other.record("a", "b", {})

    writer._db.write(hold)
    other.record("a", "b", {})
    writer.close()
    other.close()


@pytest.mark.postgres
def test_lock_that_is_held_too_long(postgres_url: str) -> None:
    """A writer that cannot get the ledger's lock gives up and says where to look."""
    holder, other = connect(postgres_url), connect(postgres_url, wait_s=0.1)

    def hold(tx: Transaction) -> None:
        assert tx.leads
        with pytest.raises(LedgerUnavailable, match="another process holds the ledger's lock"):
            other.open_attempt(job())
        other.request(demand("needs no lock"))

    holder._db.exclusive(hold)
    other.open_attempt(job())
    holder.close()
    other.close()


@pytest.mark.postgres
def test_deadlock_is_run_again(postgres_url: str) -> None:
    """Two transactions that wait for each other: one is run again, both succeed."""
    ledger = connect(postgres_url + "&options=-cdeadlock_timeout%3D50ms")
    for name in ("a", "b"):
        ledger.register_node(node(name))
    both = threading.Barrier(2, timeout=20)
    tries = []

    def cross(tx: Transaction, first: str, second: str) -> None:
        tries.append(first)
        tx.connection.execute(text("UPDATE dla_nodes SET host = host || :x WHERE name = :n"), {"x": first, "n": first})
        if len(tries) <= 2:
            both.wait()
        tx.connection.execute(text("UPDATE dla_nodes SET host = host || :x WHERE name = :n"), {"x": first, "n": second})

    threads = [threading.Thread(target=ledger._db.write, args=(cross, *pair)) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) == 3
    assert all(sorted(row.host) == ["a", "b"] for row in ledger.nodes())
    ledger.close()


@pytest.mark.postgres
def test_wrong_password_and_database(postgres_url: str, postgres_server: PostgresServer) -> None:
    """The server's refusals come with the way out."""
    with pytest.raises(LedgerUnavailable, match=r"\"nowhere\" does not exist"):
        connect(postgres_server.url("nowhere")).now()
    ledger = connect(postgres_url + "&options=-cdefault_transaction_read_only%3Don")
    with pytest.raises(LedgerUnavailable, match="name the primary server"):
        ledger.record("a", "b", {})
    ledger.close()


@pytest.mark.postgres
def test_value_that_the_database_cannot_hold(postgres_url: str) -> None:
    """A NUL in a name is the caller's mistake, not an unavailable ledger."""
    ledger = connect(postgres_url)
    with pytest.raises(InvalidSpec, match="cannot hold a value"):
        ledger.register_version("m\0", digest="d", signature={}, metrics={}, lineage={}, registered_by="a")
    ledger.close()


@pytest.mark.postgres
def test_no_state_is_left_on_a_server_connection(postgres_url: str) -> None:
    """What a transaction sets ends with it, and nothing is prepared: PgBouncer may pool by transaction."""
    ledger = connect(postgres_url, pool_size=1)
    ledger.register_node(node())
    for index in range(12):
        ledger.request(demand(f"x{index}"))
    ledger.round(first_come, holder="h", lease_s=60)

    def left(tx: Transaction) -> tuple[Any, ...]:
        one = tx.connection.exec_driver_sql
        return (
            one("SELECT count(*) FROM pg_prepared_statements").scalar_one(),
            one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").scalar_one(),
            one("SHOW lock_timeout").scalar_one(),
            one("SHOW idle_in_transaction_session_timeout").scalar_one(),
        )

    assert ledger._db.read(left) == (0, 0, "0", "0")
    ledger.close()
