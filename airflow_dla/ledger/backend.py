"""What differs between the databases a ledger can live in, behind one small contract."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from sqlalchemy import Connection, Engine

from airflow_dla.ledger.transaction import Transaction

#: How a transaction begins: to read; for one statement alone; to write rows of its own; under
#: the ledger's lock; under it unless somebody has it. A draft is what nobody beyond the processes
#: that share the ledger learns of before more is written: where all of them lose their power
#: together it need not have reached the disk.
Mode = Literal["read", "single", "write", "exclusive", "turn", "exclusive draft", "turn draft"]


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

    def begin(self, connection: Connection, mode: Mode) -> Transaction:
        """Begin a transaction: a read sees one consistent snapshot.

        Under the ledger's lock, until it ends, nobody else writes what concerns attempts, or turns demands into grants.
        """

    def upgrading(self) -> AbstractContextManager[None]:
        """Prepare for a schema upgrade, one process at a time."""

    def transient(self, error: Exception) -> bool:
        """Whether the same transaction may simply be run again at once."""

    def explain(self, error: Exception) -> Exception:
        """Return our error for the driver's: what, where, and the way out."""
