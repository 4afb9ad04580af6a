"""``airflow dla doctor``: what is wrong, and what to do about it."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from airflow.sdk import conf
from airflow.secrets.metastore import MetastoreBackend

from airflow_dla.cli.answer import Answer
from airflow_dla.cli.checks import Check, guarded
from airflow_dla.cli.checks.connection import check_connection, check_metadata, check_statsd
from airflow_dla.cli.checks.engines import check_engine, check_forgotten, check_offered_once, check_registry
from airflow_dla.cli.checks.host import check_capacity, check_disk, check_jobs_folder, check_packages, gpus
from airflow_dla.cli.checks.ledger import check_clock, check_file_system, check_schema, check_writable
from airflow_dla.cli.checks.places import check_executor, check_nodes, check_place, check_shared, check_triggerer
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.hooks.settings import Settings
from airflow_dla.hooks.workspace import local_node
from airflow_dla.runtime.host import discover, host_id
from airflow_dla.runtime.local import LocalRuntime


@command
def doctor(args: Namespace) -> Answer:
    """Look at everything; exit status 1 when something failed."""
    checks = list(examine(Reach(args.conn_id)))
    ok = not any(check.state == "fail" for check in checks)
    return Answer({"ok": ok, "checks": [dataclasses.asdict(check) for check in checks]}, "\n".join(map(_text, checks)), ok)


def examine(reach: Reach) -> Iterator[Check]:
    """Look at everything, in order; what needs a part that failed is left out."""
    yield check_metadata(lambda: MetastoreBackend().get_connection(reach.conn_id))
    connection = guarded("connection", lambda: check_connection(reach))
    yield connection
    yield check_packages()
    if connection.state != "fail":
        yield from _host(reach.settings)
        yield from _store(reach)
        yield from _ledger(reach)
        yield from _places(reach)


def _text(check: Check) -> str:
    fix = f"\n      {'':12}  → {check.fix}" if check.fix else ""
    return f"{check.state:4}  {check.name:12}  {check.message}{fix}"


def _host(settings: Settings) -> Iterator[Check]:
    yield check_statsd(settings)
    yield check_executor(_executor())
    yield check_jobs_folder(settings.jobs_folder)
    yield guarded("capacity", lambda: _capacity(settings))
    yield guarded("disk", lambda: check_disk(_folders(settings)))


def _store(reach: Reach) -> Iterator[Check]:
    def look() -> Check:
        reach.store.check()
        return Check("store", "ok", f"{reach.store.url} can be written, read and deleted in")

    yield guarded("store", look)


def _ledger(reach: Reach) -> Iterator[Check]:
    yield check_file_system(reach.settings.ledger_url)
    schema = guarded("ledger", lambda: check_schema(reach), "start the database, or correct the connection")
    yield schema
    if schema.state == "fail":
        return
    ledger = reach.ledger
    yield guarded("ledger writes", lambda: check_writable(ledger), "grant this user the right to write")
    yield guarded("clock", lambda: check_clock(ledger))
    yield guarded("nodes", lambda: check_nodes(ledger.nodes(), ledger.now()))
    yield guarded("old nodes", lambda: check_forgotten(ledger.nodes(), reach.settings))
    yield guarded("store shared", lambda: check_shared(reach.store.url, ledger.nodes()))
    yield guarded("triggerer", lambda: check_triggerer(_executor(), ledger.followers(within_s=300.0), host_id()))


def _executor() -> str:
    return str(conf.get("core", "executor", fallback="LocalExecutor"))


def _capacity(settings: Settings) -> Check:
    found, present = dict(discover(settings.node).capacity), gpus()
    known = {**found, "gpu": float(present)} if present is not None else found
    return check_capacity(local_node(settings).capacity, known)


def _folders(settings: Settings) -> list[Path]:
    store = urlsplit(settings.store_url)
    return [settings.jobs_folder, *([Path(store.path)] if store.scheme in {"", "file"} else [])]


def _places(reach: Reach) -> Iterator[Check]:
    settings = reach.settings
    yield check_offered_once(settings)
    if settings.place is not None:
        yield guarded("place", lambda: _local_place(reach))
    for place in settings.engines:
        answers = guarded(f"place {place.name}", partial(check_engine, place), "start dockerd, or correct the place's url")
        yield answers
        if place.name in settings.logins and answers.state != "fail":
            yield guarded(f"registry of {place.name}", partial(check_registry, place, settings.logins[place.name]))


def _local_place(reach: Reach) -> Check:
    settings = reach.settings
    runtime = LocalRuntime(settings.jobs_folder, node=settings.node)
    return check_place(runtime, reach.store.url, settings.jobs_folder)
