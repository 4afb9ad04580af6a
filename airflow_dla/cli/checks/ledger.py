"""The ledger: reachable, of this version, at the right time, on a disk that keeps locks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from airflow_dla.cli.checks.check import Check
from airflow_dla.cli.reach import Reach
from airflow_dla.hooks.workspace import open_ledger
from airflow_dla.ledger import Ledger
from airflow_dla.ledger.mounts import network_file_system

#: The largest harmless difference of two clocks, in seconds.
_CLOCKS_S: Final = 5.0


def check_file_system(url: str) -> Check:
    """Whether a ledger in SQLite lies on a local disk."""
    if not url.startswith("sqlite"):
        return Check("ledger disk", "ok", "the database keeps its own")
    path = Path("/" + urlsplit(url).path.lstrip("/"))
    kind = network_file_system(path)
    if kind:
        fix = "name a path on a local disk, or use PostgreSQL"
        return Check("ledger disk", "fail", f"{path} is on {kind}, whose locks are not kept between machines", fix)
    return Check("ledger disk", "ok", f"{path} is on a local disk")


def check_schema(reach: Reach) -> Check:
    """Whether the ledger answers and has the schema that this code needs; the embedded one is made."""
    ledger = reach.ledger if reach.settings.embedded else open_ledger(reach.settings)
    found, needed = ledger.schema()
    if found == needed:
        return Check("ledger", "ok", f"answers, schema {found}")
    return Check(
        "ledger", "fail", f"has schema {found or 'none'}, this version of airflow-dla needs {needed}", "run `airflow dla ledger upgrade`"
    )


def check_writable(ledger: Ledger) -> Check:
    """Whether this user may write."""
    ledger.release(())  # a write that changes nothing
    return Check("ledger writes", "ok", "this user may write")


def check_clock(ledger: Ledger) -> Check:
    """Whether the database's clock and this host's agree; leases are kept by the database's."""
    before = time.time()
    there = ledger.now()
    after = time.time()
    ahead = there - (before + after) / 2
    if abs(ahead) > _CLOCKS_S + (after - before) / 2:
        fix = "synchronise both hosts (chrony, systemd-timesyncd)"
        return Check("clock", "warn", f"the ledger's is {ahead:+.1f} s from this host's; logs and deadlines will look wrong", fix)
    return Check("clock", "ok", f"the ledger's is {ahead:+.1f} s from this host's")
