"""What commands need of a workspace, each part made when it is first asked for."""

from __future__ import annotations

from functools import cached_property
from urllib.parse import urlsplit

from airflow_dla.artifacts import Store
from airflow_dla.control import Workspace
from airflow_dla.errors import InvalidSpec, NotFound
from airflow_dla.hooks.settings import Settings
from airflow_dla.hooks.workspace import DlaHook, open_ledger, open_workspace
from airflow_dla.ledger import Attempt, Ledger
from airflow_dla.registry import LedgerRegistry, Registry
from airflow_dla.runtime import Runtime


class Reach:
    """Reaches the parts of a workspace without making this host one of its nodes.

    Parameters
    ----------
    conn_id : str
        Of a connection of type ``dla``.
    """

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id

    @cached_property
    def settings(self) -> Settings:
        """What the connection says."""
        return DlaHook(self.conn_id).settings()

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger; the embedded one is made when it is not there yet."""
        ledger = open_ledger(self.settings)
        if self.settings.embedded:
            ledger.upgrade()
        return ledger

    @cached_property
    def store(self) -> Store:
        """The artifact store."""
        return Store(self.settings.store_url, options=self.settings.store_options)

    @cached_property
    def registry(self) -> Registry:
        """The registry of models."""
        return LedgerRegistry(self.ledger)

    def workspace(self) -> Workspace:
        """Return all of it, places included."""
        return open_workspace(self.settings)

    def attempt(self, named: str) -> Attempt:
        """Find an attempt by its own id, or the last one of a job by the job's.

        Raises
        ------
        NotFound
            If there is none.
        """
        attempt = self.ledger.attempts([named]).get(named) or self.ledger.last_attempt(named)
        if attempt is None:
            raise NotFound(f"there is no job {named!r}; `airflow dla jobs list` shows those there are")
        return attempt

    def runtime_of(self, attempt: Attempt, what: str) -> Runtime | None:
        """Return what runs an attempt; None while it has no grant.

        Parameters
        ----------
        attempt : `Attempt`
        what : str
            What is only there, for the error: ``its log is``.

        Raises
        ------
        InvalidSpec
            If its node cannot be reached from this host.
        """
        if attempt.grant is None:
            return None
        runtime = self.workspace().reached(attempt.grant.node)
        if runtime is None:
            raise InvalidSpec(
                f"job {attempt.job} is on node {attempt.grant.node}, and {what} only there; run this on that host, or see the web UI"
            )
        return runtime


def shown_url(url: str) -> str:
    """Write a URL without its password and its parameters, which may hold one.

    Examples
    --------
    >>> shown_url("postgresql://dla:hush@db:5432/dla?sslmode=require")
    'postgresql://dla@db:5432/dla'
    """
    parts = urlsplit(url)
    who, at, where = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{who.partition(':')[0]}{at}{where}{parts.path}"
