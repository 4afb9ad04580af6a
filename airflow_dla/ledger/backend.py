"""What differs between the databases a ledger can live in, behind one small contract."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a ledger is opened.

    Parameters
    ----------
    wait_s : float, > 0
        How long to wait for other writers before the ledger counts as unavailable.
    pool_size : int, >= 1
        Connections kept open by one process.
    durable : bool
        Whether a commit survives a power cut (SQLite only). False risks the last
        moments, never consistency: good for tests and throw-away ledgers.
    """

    wait_s: float = 30.0
    pool_size: int = 5
    durable: bool = True


class Backend(Protocol):
    """One kind of database."""

    @property
    def shown(self) -> str:
        """The URL without any password, for messages."""

    def engine(self) -> Engine:
        """Make an engine; nothing is connected yet."""

    def exists(self) -> bool:
        """Whether there is anything to connect to, as far as can be told without creating it."""

    def execution_options(self, *, write: bool) -> Mapping[str, Any]:
        """Return SQLAlchemy's options of a connection that will write, or read from one consistent snapshot."""

    def begin(self, connection: Connection, *, exclusive: bool) -> float:
        """Begin to write inside a new transaction, and return the database's time.

        Exclusive: until it ends, nobody else writes what concerns attempts, demands and grants.
        """

    def now(self, connection: Connection) -> float:
        """Return the database's time, seconds since the epoch."""

    def upgrading(self) -> AbstractContextManager[None]:
        """Prepare for a schema upgrade, one process at a time."""

    def transient(self, error: Exception) -> bool:
        """Whether the same transaction may simply be run again at once."""

    def explain(self, error: Exception) -> Exception:
        """Return our error for the driver's: what, where, and the way out."""
