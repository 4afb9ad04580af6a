"""A ledger in PostgreSQL: many machines; also behind PgBouncer in transaction mode."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DataError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from airflow_dla.errors import InvalidSpec, LedgerUnavailable, LedgerVersion, MissingExtra
from airflow_dla.ledger.backend import Mode, Options
from airflow_dla.ledger.transaction import Statement, Transaction

#: Names the ledger's advisory lock in its database: "dla" in ASCII, then 1.
_LOCK: Final = 0x646C6101

# Evaluated from left to right. Everything is local to the transaction, so that PgBouncer may
# give the next one another server connection. A client that hangs in mid-transaction is
# thrown out and frees its locks.
_LIMITS: Final = "set_config('lock_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)"
_TIME: Final = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
_LOCKS: Final = {
    "write": f"SELECT {_LIMITS}, false, {_TIME}",
    "exclusive": f"SELECT {_LIMITS}, pg_advisory_xact_lock({_LOCK}) IS NOT NULL, {_TIME}",
    "turn": f"SELECT {_LIMITS}, pg_try_advisory_xact_lock({_LOCK}), {_TIME}",
}
#: Waits for whoever has the lock, and has it only until the end of its message.
_WAIT: Final = f"SELECT {_LIMITS}, pg_advisory_xact_lock_shared({_LOCK})"

_IDLE: Final = "60s"
#: Seconds after which a connection is tried before it is used, so that a restarted server is found again.
_TRIED_S: Final = 1.0
_TRANSIENT: Final = frozenset({"40001", "40P01"})
_UNDEFINED_TABLE: Final = "42P01"

#: By the beginning of the SQLSTATE: what would do.
_WAYS_OUT: Final = {
    "25006": "it takes no writes: name the primary server, not a standby",
    "25P03": "this process hung in a transaction and was thrown out; try again",
    "28": "check user and password of the ledger's connection",
    "3D": "create the database, or correct its name in the ledger's connection",
    "42501": "grant the ledger's user the rights on its schema and tables",
    "53100": "free space on the server's disk; nothing was half-written",
    "53": "raise the server's limits, for example max_connections, or put PgBouncer before it",
    "55P03": "another process holds the ledger's lock; try again, and if it lasts look for a stopped one in pg_stat_activity",
    "57": "the server is shutting down or starting; try again",
    "08": "check that the server runs and can be reached",
}

_DRIVERS: Final = ("postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg")


@dataclass(frozen=True, slots=True, repr=False)
class Postgres:
    """PostgreSQL through psycopg 3, without prepared statements or session state.

    Parameters
    ----------
    url : sqlalchemy URL
        May hold a password; it is never shown.
    options : `Options`
    """

    url: URL
    options: Options

    def __post_init__(self) -> None:
        try:
            import psycopg  # noqa: F401, PLC0415  (an optional dependency, imported when used)
        except ImportError as error:
            raise MissingExtra("a ledger in PostgreSQL needs the driver psycopg 3; pip install airflow-dla[postgres]") from error

    def __repr__(self) -> str:
        return f"Postgres({self.shown!r})"

    @property
    def shown(self) -> str:
        """Scheme, user, host and database; neither password nor options."""
        return str(URL.create("postgresql", self.url.username, None, self.url.host, self.url.port, self.url.database))

    def engine(self) -> Engine:
        """Make an engine whose transactions are begun and ended by `Transaction`."""
        engine = create_engine(
            self.url.set(drivername="postgresql+psycopg"),
            connect_args={
                "prepare_threshold": None,
                "connect_timeout": 10,
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
                "application_name": "airflow-dla",
            },
            pool_size=self.options.pool_size,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
        )
        event.listen(engine, "checkin", _leave)
        event.listen(engine, "checkout", _try)
        return engine

    def exists(self) -> bool:
        """Say yes; only connecting can tell."""
        return True

    def begin(self, connection: Connection, mode: Mode) -> Transaction:
        """Begin; limit how long a write may wait or hang, take or await the ledger's lock.

        A read sees one moment in all its statements, a writer what is there once it has its
        locks; the statements of one message without a ``BEGIN`` are a transaction of their own.
        """
        begin: list[Statement] = [] if mode == "single" else [("BEGIN", None)]
        if mode == "read":
            begin = [("BEGIN ISOLATION LEVEL REPEATABLE READ", None)]
        limits = (f"{int(self.options.wait_s * 1000)}ms", _IDLE)
        # A draft is as durable as the rest: the server's power may be cut without that of those who have read it.
        if lock := _LOCKS.get(mode.removesuffix(" draft")):
            begin.append((lock, limits))

        def now() -> float:
            return float(connection.exec_driver_sql(f"SELECT {_TIME}").scalar_one())

        return Transaction(connection, now, begin, wait=(_WAIT, limits), commit=mode != "single")

    def upgrading(self) -> AbstractContextManager[None]:
        """Need nothing: schema changes are transactional and run under the ledger's lock."""
        return nullcontext()

    def transient(self, error: Exception) -> bool:
        """Whether the server broke a deadlock or a serialization knot at our cost."""
        return _sqlstate(error) in _TRANSIENT

    def explain(self, error: Exception) -> Exception:
        """Translate the driver's error by SQLSTATE; one without any is about the connection."""
        state, said = _sqlstate(error), self._said(error)
        if state == _UNDEFINED_TABLE:
            return LedgerVersion(f"{self.shown} lacks a table of the ledger ({said}); run `airflow dla ledger upgrade`")
        if state.startswith("22") or isinstance(error, DataError):
            return InvalidSpec(f"{self.shown} cannot hold a value: {said}")
        for prefix, way_out in _WAYS_OUT.items():
            if state.startswith(prefix):
                return LedgerUnavailable(f"{self.shown}: {said}; {way_out}")
        if isinstance(error, (OperationalError, InterfaceError, PoolTimeout)):
            return LedgerUnavailable(f"{self.shown}: {said}; check that the server runs and can be reached, then try again")
        return error

    def _said(self, error: Exception) -> str:
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        for secret in (self.url.password, self.url.query.get("password")):
            said = said.replace(str(secret), "***") if secret else said
        return said


def _leave(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info["left"] = time.monotonic()


def _try(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Try a connection that was not used for a while."""
    left = record.info.get("left")
    if left is None or time.monotonic() - left < _TRIED_S:
        return
    try:
        connection.execute("")
    except Exception as error:
        raise DisconnectionError from error


def postgres_url(url: URL) -> bool:
    """Whether a URL names PostgreSQL, by whichever driver."""
    return url.drivername in _DRIVERS


def _sqlstate(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""
