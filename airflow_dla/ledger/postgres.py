"""A ledger in PostgreSQL: many machines; also behind PgBouncer in transaction mode."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from airflow_dla.errors import InvalidSpec, LedgerUnavailable, LedgerVersion, MissingExtra
from airflow_dla.ledger.backend import Options

#: Names the ledger's advisory lock in its database: "dla" in ASCII, then 1.
_LOCK: Final = 0x646C6101

# One round trip, evaluated from left to right. Everything is local to the transaction,
# so that PgBouncer may give the next one another server connection. A client that hangs
# in mid-transaction is thrown out and frees its locks.
_LIMITS: Final = "SELECT set_config('lock_timeout', :wait, true), set_config('idle_in_transaction_session_timeout', :idle, true)"
_TIME: Final = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
_NOW = text(f"SELECT {_TIME}")
_WRITE = text(f"{_LIMITS}, {_TIME}")
_EXCLUSIVE = text(f"{_LIMITS}, pg_advisory_xact_lock({_LOCK}), {_TIME}")

_IDLE: Final = "60s"
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
        """Make an engine; a connection is tried before it is used, so that a restarted server is found again."""
        return create_engine(
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
            pool_pre_ping=True,
            hide_parameters=True,
        )

    def exists(self) -> bool:
        """Say yes; only connecting can tell."""
        return True

    def execution_options(self, *, write: bool) -> Mapping[str, Any]:
        """Let all statements of a read see the same moment; a writer sees what was there when it got its locks."""
        return {} if write else {"isolation_level": "REPEATABLE READ"}

    def begin(self, connection: Connection, *, exclusive: bool) -> float:
        """Limit how long a write may wait or hang, take the ledger's lock when exclusive, and return the time after that."""
        limits = {"wait": f"{int(self.options.wait_s * 1000)}ms", "idle": _IDLE}
        return float(connection.execute(_EXCLUSIVE if exclusive else _WRITE, limits).one()[-1])

    def now(self, connection: Connection) -> float:
        """Return the server's time, not the transaction's."""
        return float(connection.execute(_NOW).scalar_one())

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


def postgres_url(url: URL) -> bool:
    """Whether a URL names PostgreSQL, by whichever driver."""
    return url.drivername in _DRIVERS


def _sqlstate(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""
