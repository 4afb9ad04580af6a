"""The connection, and what it names."""

from __future__ import annotations

import socket
from collections.abc import Callable

from airflow_dla.cli.checks.check import Check
from airflow_dla.cli.reach import Reach, shown_url
from airflow_dla.errors import DlaError, SecretExposed
from airflow_dla.hooks.settings import Settings


def check_metadata(lookup: Callable[[], object]) -> Check:
    """Whether connections saved in the web UI can be looked up; Airflow itself reports a failure as an absence.

    Parameters
    ----------
    lookup : callable
        Asks Airflow's metadata database, and raises what it raises.
    """
    try:
        lookup()
    except Exception as error:  # noqa: BLE001 - SQLAlchemy's, a driver's, Airflow's: whatever it is, it is the answer
        why = str(error).partition("\n")[0]
        return Check(
            "metadata",
            "warn",
            f"Airflow's metadata database does not answer here, so connections saved in the web UI are not found: {why}",
            "run `airflow db migrate` where Airflow's server runs; elsewhere give the connection as AIRFLOW_CONN_…",
        )
    return Check("metadata", "ok", "connections saved in the web UI are found")


def check_connection(reach: Reach) -> Check:
    """Whether the connection resolves, or the embedded default applies."""
    try:
        settings = reach.settings
    except SecretExposed as error:
        return Check(
            "connection", "fail", str(error), "make a connection for it, with the password in its own field, and name that one's id"
        )
    except DlaError as error:
        return Check("connection", "fail", str(error), "correct the connection in the web UI under Admin, Connections")
    where = f"ledger {shown_url(settings.ledger_url)}, store {settings.store_url}"
    if settings.embedded:
        return Check("connection", "ok", f"there is no connection {reach.conn_id!r}, so the embedded default applies: {where}")
    return Check("connection", "ok", f"{reach.conn_id}: {where}")


def check_statsd(settings: Settings) -> Check:
    """Whether the name of the metrics' host resolves; nobody answers there."""
    if settings.statsd is None:
        return Check("metrics", "ok", "go wherever Airflow sends its own")
    host, port = settings.statsd
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        return Check("metrics", "warn", f"are lost: host {host!r} cannot be resolved ({error})", "correct statsd_host in the connection")
    return Check("metrics", "ok", f"go to {host}:{port}")
