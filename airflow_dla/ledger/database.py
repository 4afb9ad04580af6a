"""Where connections come from, how transactions begin, are retried and fail."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, Text, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.sql import column, table

from airflow_dla.errors import InvalidSpec, LedgerVersion
from airflow_dla.ledger.backend import Backend, Mode, Options
from airflow_dla.ledger.postgres import Postgres, postgres_url
from airflow_dla.ledger.schema import HEAD, REVISIONS, VERSION_TABLE
from airflow_dla.ledger.sqlite import Sqlite
from airflow_dla.ledger.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")

#: A deadlock is broken by running the loser again, this often at most.
_RETRIES: Final = 5

# Closing a connection that was inherited through fork would end the parent's session,
# so engines from before a fork are kept here for ever and never touched.
_inherited: list[Engine] = []


class Database:
    """Runs operations, each in one transaction.

    Parameters
    ----------
    backend : `Backend`
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._pid = os.getpid()
        self._engine = backend.engine()
        self._checked = False

    def read(self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that writes nothing."""
        return self._run("read", lambda tx: operation(tx, *args, **kwargs))

    def write(self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation that writes rows of its own."""
        return self._run("write", lambda tx: operation(tx, *args, **kwargs))

    def exclusive(self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation under the ledger's lock: whatever concerns attempts, demands and grants."""
        return self._run("exclusive", lambda tx: operation(tx, *args, **kwargs))

    def turn(self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation under the ledger's lock if nobody has it, or without it: the transaction says which (`leads`)."""
        return self._run("turn", lambda tx: operation(tx, *args, **kwargs))

    def draft(self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation like `exclusive`; a power cut may take it back, unless more was written since."""
        return self._run("exclusive draft", lambda tx: operation(tx, *args, **kwargs))

    def draft_turn(self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation like `turn`; a power cut may take it back, unless more was written since."""
        return self._run("turn draft", lambda tx: operation(tx, *args, **kwargs))

    def single(self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation of one statement, which is a transaction of its own."""
        return self._run("single", lambda tx: operation(tx, *args, **kwargs))

    def unchecked(self, mode: Mode, operation: Callable[[Transaction], T]) -> T:
        """Run an operation whatever the schema's revision is."""
        return self._attempt(mode, operation, check=False)

    def close(self) -> None:
        """Close idle connections; the next operation opens new ones."""
        self._own_engine().dispose()

    def _run(self, mode: Mode, operation: Callable[[Transaction], T]) -> T:
        return self._attempt(mode, operation, check=True)

    def _attempt(self, mode: Mode, operation: Callable[[Transaction], T], *, check: bool) -> T:
        for tried in range(_RETRIES + 1):
            try:
                return self._once(mode, operation, check=check)
            except (SQLAlchemyError, sqlite3.Error) as error:
                if tried == _RETRIES or not self.backend.transient(error):
                    raise self._explained(error) from error
            time.sleep(random.uniform(0, 0.02 * 2**tried))  # noqa: S311  (jitter is no secret)
        raise AssertionError("unreachable: the last try returns or raises")  # pragma: no cover

    def _once(self, mode: Mode, operation: Callable[[Transaction], T], *, check: bool) -> T:
        engine = self._own_engine()
        if check and not self._checked:
            self._check(engine)
        with engine.connect() as connection:
            connection.execution_options(dla_mode=mode)
            with connection.begin():
                tx = self.backend.begin(connection, mode)
                answer = operation(tx)
                tx.end()
                return answer

    def _explained(self, error: Exception) -> Exception:
        found = self.backend.explain(error)
        if isinstance(found, LedgerVersion):
            self._checked = False
        return found

    def _own_engine(self) -> Engine:
        if self._pid != os.getpid():
            _inherited.append(self._engine)
            self._engine, self._pid = self.backend.engine(), os.getpid()
        return self._engine

    def _check(self, engine: Engine) -> None:
        found = None
        if self.backend.exists():
            with engine.connect() as connection:
                found = revision(connection)
        if found != HEAD:
            raise wrong_version(self.backend.shown, found)
        self._checked = True


def open_database(url: str, options: Options) -> Database:
    """Choose the backend that a URL names.

    Raises
    ------
    InvalidSpec
        If the URL cannot be read or names another kind of database; a password is never repeated.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        scheme = url.partition("://")[0][:20] if "://" in url else ""
        raise InvalidSpec(
            f"the ledger's URL cannot be read (scheme {scheme!r}); write sqlite:////PATH or postgresql://USER@HOST/DATABASE, "
            "with special characters of a password percent-encoded"
        ) from None
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        return Database(Sqlite(parsed.set(drivername="sqlite+pysqlite"), options))
    if postgres_url(parsed):
        return Database(Postgres(parsed, options))
    raise InvalidSpec(f"a ledger lives in sqlite or postgresql, got a URL of {parsed.drivername!r}; write postgresql://USER@HOST/DATABASE")


def revision(connection: Connection) -> str | None:
    """Return the schema's revision, or None before the first upgrade."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(select(column("version_num", Text)).select_from(table(VERSION_TABLE))).scalar_one_or_none()
    return found or None


def wrong_version(shown: str, found: str | None) -> LedgerVersion:
    """Return the error for a schema that is not the code's."""
    if found is None:
        return LedgerVersion(f"{shown} holds no ledger yet; run `airflow dla ledger upgrade`")
    if found in REVISIONS:
        return LedgerVersion(f"{shown} has schema {found}, this version of airflow-dla needs {HEAD}; run `airflow dla ledger upgrade`")
    return LedgerVersion(
        f"{shown} has schema {found}, newer than the {HEAD} that this version of airflow-dla knows; upgrade airflow-dla on this machine"
    )
