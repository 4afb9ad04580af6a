"""A transaction: what every operation of this package takes first.

A message to PostgreSQL and back costs more than most statements, and while the machine is
busy each of them waits for its turn: so writes are kept until an answer is needed or the
transaction ends, and sent together; many rows go into one statement, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, cast

from sqlalchemy import CompoundSelect, Connection, Dialect, Executable, Select, Table, bindparam, delete, insert, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

Statement = tuple[str, Any]
Query = Select[*tuple[Any, ...]] | CompoundSelect[*tuple[Any, ...]]

_rows: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

#: Ids in one statement: below every database's limit on parameters.
_BATCH: Final = 500


def batched(ids: Iterable[str]) -> Iterator[list[str]]:
    """Split ids, each once and in order, into lists that fit into one statement.

    Examples
    --------
    >>> list(batched(["b", "a", "b"]))
    [['a', 'b']]
    """
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), _BATCH):
        yield ordered[start : start + _BATCH]


class Transaction:
    """A connection inside a transaction.

    Parameters
    ----------
    connection : Connection
    clock : function of nothing
        Returns the database's time; asked at most once, when it is first needed.
    begin : sequence of (statement, parameters)
        What begins the transaction, sent with its first message. When the last of them returns
        a row, it ends with whether the transaction has the ledger's lock, and the time.
    wait : (statement, parameters)
        What waits for whoever has the lock.
    leads : bool
        Whether it has the ledger's lock, unless `begin` tells.
    commit : bool
        Whether it must be told to end.
    """

    def __init__(
        self,
        connection: Connection,
        clock: Callable[[], float],
        begin: Sequence[Statement] = (),
        *,
        wait: Statement = ("", None),
        leads: bool = False,
        commit: bool = False,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._beginning = tuple(begin)
        self._wait = wait
        self._commit = commit
        self._leads = leads
        self._now: float | None = None
        self.begin()

    @property
    def connection(self) -> Connection:
        """What statements are executed on; those that were kept are sent before."""
        self.send()
        return self._connection

    @property
    def now(self) -> float:
        """Seconds since the epoch when the transaction began or got its lock; the same throughout."""
        self._begin()
        if self._now is None:
            self._now = self._clock()
        return self._now

    @property
    def leads(self) -> bool:
        """Whether it has the ledger's lock, so that it may change what concerns others."""
        self._begin()
        return self._leads

    def begin(self) -> None:
        """Begin, or begin again after `aside`, with the next message."""
        self._kept: list[Statement] = list(self._beginning)
        self._begun, self._open = not self._beginning, self._commit

    def _begin(self) -> None:
        if not self._begun:
            self.send()

    @property
    def postgres(self) -> bool:
        """Whether it runs in PostgreSQL."""
        return self._connection.dialect.name == "postgresql"

    def keep(self, statement: str, parameters: Any = None) -> None:
        """Keep a statement in PostgreSQL's own words until the next message."""
        self._kept.append((statement, parameters))

    def end(self) -> None:
        """Send what was kept, and the end of the transaction with it."""
        if self._open:
            self.keep("COMMIT")
        self.send()

    def aside(self, ids: Collection[str] = (), *queries: Select[*tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
        """End, wait for whoever has the ledger's lock, and then read as `read_of` does, all in one message.

        The end does not wait for the disk: whoever reads what was written, and says so to
        anybody, does, and the log is written in order.
        """
        self.keep("SET LOCAL synchronous_commit TO off")
        self.keep("COMMIT")
        self.keep(*self._wait)
        self._open = False
        return self.read_of(ids, *queries) if queries else self.send()

    def send(self) -> list[list[Any]]:
        """Send what was kept in one message, and return the rows of each statement but those that begin.

        Raises
        ------
        DBAPIError
            As SQLAlchemy would.
        """
        kept, self._kept = self._kept, []
        first = 0 if self._begun else len(self._beginning)
        self._begun = True
        found = self._pipelined(kept) if kept else []
        if first and found[first - 1]:
            *_, self._leads, self._now = found[first - 1][0]
        return found[first:]

    def _pipelined(self, statements: Sequence[Statement]) -> list[list[Any]]:
        raw, driver = cast("Any", self._connection.connection.driver_connection), cast("Any", self._connection.dialect.loaded_dbapi)
        try:
            with raw.pipeline():
                cursors = [raw.execute(statement, parameters) for statement, parameters in statements]
            # Whether there are rows, without asking for their descriptions, which are slow to make.
            return [cursor.fetchall() if cursor.pgresult.nfields else [] for cursor in cursors]
        except driver.Error as error:
            raise DBAPIError.instance(None, None, error, driver.Error, hide_parameters=True) from error

    def read_all(self, *queries: Query, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Run queries of the same parameters in one message; the rows of each are tuples."""
        if not self.postgres:
            return [self.connection.execute(query, parameters).all() for query in queries]
        for query in queries:
            self.keep(_written(query, self._connection.dialect), parameters)
        return self.send()[-len(queries) :]

    def read_of(self, ids: Collection[str], *queries: Select[*tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
        """Run queries without conditions, each over one table, for the rows of these ids only; the rows of each are tuples."""
        if self.postgres:
            for query in queries:
                self.keep(f"{_written(query, self._connection.dialect)} WHERE id = ANY(%s)", (sorted(ids),))
            return self.send()[-len(queries) :]
        parts = list(batched(ids))
        some = [[query.where(query.selected_columns["id"].in_(part)) for part in parts] for query in queries]
        return [[row for query in found for row in self.connection.execute(query)] for found in some]

    def upsert(self, target: Table, **values: object) -> None:
        """Insert a row, or update the one with the same primary key."""
        key = [col.name for col in target.primary_key]
        if self.postgres:
            names = ", ".join(map(_quoted, values))
            changed = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in values if name not in key)
            unless = f"ON CONFLICT ({', '.join(map(_quoted, key))}) DO UPDATE SET {changed}"
            self.keep(f"INSERT INTO {target.name} ({names}) SELECT {names} FROM {_given(target)} {unless}", (_rows([values]),))  # noqa: S608
            return
        new = {name: value for name, value in values.items() if name not in key}
        self.connection.execute(sqlite.insert(target).values(**values).on_conflict_do_update(index_elements=key, set_=new))

    def insert_all(self, target: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, in their order; all name the same columns."""
        if rows and self.postgres:
            names = ", ".join(map(_quoted, rows[0]))
            self.keep(f"INSERT INTO {target.name} ({names}) SELECT {names} FROM {_given(target)}", (_rows(rows),))  # noqa: S608
        elif rows:
            self.connection.execute(insert(target), rows)

    def update_all(self, target: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Update the rows of these ids; all name the same columns, ``id`` among them."""
        columns = [name for name in rows[0] if name != "id"] if rows else []
        if rows and self.postgres:
            names = ", ".join(f"{_quoted(name)} = given.{_quoted(name)}" for name in columns)
            statement = f"UPDATE {target.name} SET {names} FROM {_given(target)} AS given WHERE {target.name}.id = given.id"  # noqa: S608
            self.keep(statement, (_rows(rows),))
        elif rows:
            one = update(target).where(target.c.id == bindparam("of_id")).values({name: bindparam(f"new_{name}") for name in columns})
            self.connection.execute(one, [{"of_id": row["id"], **{f"new_{name}": row[name] for name in columns}} for row in rows])

    def delete_all(self, target: Table, ids: Collection[str] | None = None) -> None:
        """Delete the rows of these ids, or every row."""
        if self.postgres:
            some = "" if ids is None else " WHERE id = ANY(%s)"
            self.keep(f"DELETE FROM {target.name}{some}", None if ids is None else (sorted(ids),))  # noqa: S608
        elif ids is None:
            self.connection.execute(delete(target))
        else:
            for part in batched(ids):
                self.connection.execute(delete(target).where(target.c.id.in_(part)))


@lru_cache(maxsize=64)
def _written(query: Executable, dialect: Dialect) -> str:
    return str(cast("Any", query).compile(dialect=dialect))


def _quoted(name: str) -> str:
    return f'"{name}"'


def _given(target: Table) -> str:
    return f"json_populate_recordset(NULL::{target.name}, %s::json)"
