"""A ledger in a SQLite file: one machine, many processes."""

from __future__ import annotations

import fcntl
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event

from airflow_dla.errors import InvalidSpec, LedgerUnavailable, LedgerVersion
from airflow_dla.ledger.backend import Mode, Options
from airflow_dla.ledger.mounts import network_file_system
from airflow_dla.ledger.transaction import Transaction

_SUBSECONDS_SINCE: Final = (3, 42)
_NOW: Final = (
    "SELECT unixepoch('subsec')" if sqlite3.sqlite_version_info >= _SUBSECONDS_SINCE else "SELECT (julianday('now') - 2440587.5) * 86400.0"
)

#: Modes that write nothing, and those whose commits need not reach the disk at once; no mode: whether there is a ledger.
_READS: Final = (None, "read", "single")
_DRAFTS: Final = ("exclusive draft", "turn draft")

#: By the beginning of SQLite's error name: what is wrong, and the way out.
_FAILURES: Final = {
    "SQLITE_FULL": ("the disk is full", "free space on the file system of {folder}; nothing was half-written"),
    "SQLITE_READONLY": ("the file or its folder is read-only", "make {folder} writable for this user or name another file"),
    "SQLITE_CANTOPEN": ("it cannot be opened or created", "check that {folder} is a folder this user may write in, or name another file"),
    "SQLITE_PERM": ("access is denied", "make {folder} writable for this user or name another file"),
    "SQLITE_NOTADB": ("the file is no SQLite database", "restore it from a backup, or move it away and run `airflow dla ledger upgrade`"),
    "SQLITE_CORRUPT": ("the file is damaged", "restore it from a backup, or move it away and run `airflow dla ledger upgrade`"),
    "SQLITE_IOERR": ("the disk reports an error", "look for a full or failing disk under {folder}; nothing was half-written"),
    "SQLITE_BUSY": (
        "another process has been writing for {wait_s:g} s",
        "try again; if it lasts, look for a stopped process that has it open",
    ),
    "SQLITE_PROTOCOL": ("its locks do not work here", "move it to a local disk or use PostgreSQL"),
}


@dataclass(frozen=True, slots=True)
class Sqlite:
    """SQLite in WAL mode, ``BEGIN IMMEDIATE`` for every write.

    Commits are durable (``synchronous=FULL``): WAL with ``NORMAL`` may forget the last
    commits in a power cut, and Airflow may already know a model version or a delivered
    result that the ledger would then number or run a second time. The price is one
    ``fsync`` of the log for each commit. A draft is committed with ``NORMAL``: the next
    durable commit brings it to the disk, and a power cut before that ends everybody who
    has read it.

    Parameters
    ----------
    url : sqlalchemy URL
        With an absolute path.
    options : `Options`
    """

    url: URL
    options: Options

    def __post_init__(self) -> None:
        path = self.url.database
        if not path or not path.startswith("/"):
            raise InvalidSpec(
                f"a SQLite ledger must be named by an absolute path, got {self.shown!r}; write sqlite:////var/lib/dla/ledger.db"
            )
        if kind := network_file_system(self.path):
            raise InvalidSpec(
                f"a SQLite ledger must lie on a local disk; {self.path} is on {kind}, whose locks are not kept between machines: "
                "name a local path or use PostgreSQL (postgresql://HOST/DATABASE)"
            )

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self.url.database or "")

    @property
    def shown(self) -> str:
        """The URL; it holds no secret."""
        return f"sqlite:///{self.url.database or ''}"

    def engine(self) -> Engine:
        """Make an engine; each connection sets itself up when it opens."""
        engine = create_engine(
            self.url,
            # The driver's own BEGIN is deferred and over-grants, so it is switched off.
            connect_args={"isolation_level": None, "timeout": self.options.wait_s, "check_same_thread": False},
            pool_size=self.options.pool_size,
            hide_parameters=True,
        )
        event.listen(engine, "connect", self._set_up)
        event.listen(engine, "begin", self._begin)
        return engine

    def _set_up(self, connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    def _begin(self, connection: Connection) -> None:
        raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
        mode: Mode | None = connection.get_execution_options().get("dla_mode")
        if mode in _READS:
            raw.execute("BEGIN DEFERRED")
        else:
            lasts = self.options.durable and mode not in _DRAFTS
            raw.execute(f"PRAGMA synchronous={'FULL' if lasts else 'NORMAL'}")
            _begin_write(raw, self.options.wait_s)

    def exists(self) -> bool:
        """Whether the file is there; asking SQLite would create it."""
        return self.path.exists()

    def begin(self, connection: Connection, mode: Mode) -> Transaction:
        """Begin; ``BEGIN IMMEDIATE`` has waited for every other writer already, so that each write leads."""

        def now() -> float:
            return float(connection.exec_driver_sql(_NOW).scalar_one())

        return Transaction(connection, now, leads=mode != "read")

    @contextmanager
    def upgrading(self) -> Iterator[None]:
        """Make the folder and the file in WAL mode, under a lock on a file beside it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(f"{self.path.name}.lock").open("a")
        except OSError as error:
            raise LedgerUnavailable(
                f"{self.shown}: the folder {self.path.parent} cannot be made or written in: {error.strerror}; "
                "free space, change its rights, or name another path"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._write_ahead()
            yield

    def _write_ahead(self) -> None:
        try:
            connection = sqlite3.connect(self.path, timeout=self.options.wait_s, isolation_level=None)
        except sqlite3.Error as error:
            raise self.explain(error) from error
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.Error as error:
            raise self.explain(error) from error
        finally:
            connection.close()
        if mode != "wal":
            raise InvalidSpec(
                f"{self.shown}: this file system cannot hold a write-ahead log (journal_mode={mode}); use a local disk or PostgreSQL"
            )

    def transient(self, error: Exception) -> bool:
        """Never: SQLite has waited as long as it was told to."""
        del error
        return False

    def explain(self, error: Exception) -> Exception:
        """Translate SQLite's error by its name."""
        original = getattr(error, "orig", None) or error
        if "no such table" in str(original):
            return LedgerVersion(f"{self.shown} lacks a table of the ledger ({original}); run `airflow dla ledger upgrade`")
        name = getattr(original, "sqlite_errorname", "") or ""
        for prefix, (what, way_out) in _FAILURES.items():
            if name.startswith(prefix):
                known = {"folder": self.path.parent, "wait_s": self.options.wait_s}
                return LedgerUnavailable(f"{self.shown}: {what.format(**known)} ({original}); {way_out.format(**known)}")
        return error


def _begin_write(connection: sqlite3.Connection, wait_s: float) -> None:
    """Wait for other writers in short random naps.

    SQLite's own waiting sleeps longer and longer, up to 100 ms, while the lock is free.
    """
    deadline = time.monotonic() + wait_s
    connection.execute("PRAGMA busy_timeout=0")
    try:
        while not _began(connection, last=time.monotonic() > deadline):
            time.sleep(random.uniform(0.0005, 0.005))  # noqa: S311  (jitter is no secret)
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(wait_s * 1000)}")


def _began(connection: sqlite3.Connection, *, last: bool) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if last or not error.sqlite_errorname.startswith("SQLITE_BUSY"):
            raise
        return False
    return True
