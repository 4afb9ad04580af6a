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
from airflow_dla.cli.checks.clusters import check_cluster
from airflow_dla.cli.checks.connection import check_connection, check_metadata, check_statsd
from airflow_dla.cli.checks.engines import check_engine, check_forgotten, check_offered_once, check_registry
from airflow_dla.cli.checks.host import check_capacity, check_disk, check_jobs_folder, check_packages, gpus
from airflow_dla.cli.checks.ledger import check_clock, check_file_system, check_schema, check_writable
from airflow_dla.cli.checks.places import check_executor, check_nodes, check_place, check_shared, check_triggerer
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.errors import NotFound
from airflow_dla.hooks.settings import Settings
from airflow_dla.hooks.workspace import local_node
from airflow_dla.runtime.host import discover, host_id
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import PlaceSpec


@command
def doctor(args: Namespace) -> Answer:
    """Look at everything, or at one place alone; exit status 1 when something failed."""
    reach = Reach(args.conn_id)
    checks = list(examine(reach) if args.place is None else examine_place(reach, args.place))
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


def examine_place(reach: Reach, name: str) -> Iterator[Check]:
    """Look at one place.

    Raises
    ------
    NotFound
        If the connection names no such place; lists those that it does.
    """
    connection = guarded("connection", lambda: check_connection(reach))
    yield connection
    if connection.state == "fail":
        return
    places = {place.name: place for place in reach.settings.places}
    if name not in places:
        raise NotFound(f"connection {reach.conn_id!r} names no place {name!r}; those it names are {', '.join(places) or 'none'}")
    yield from _place(reach, places[name])


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
    yield check_offered_once(reach.settings)
    for place in sorted(reach.settings.places, key=lambda place: place.kind != "local"):
        yield from _place(reach, place)


def _place(reach: Reach, place: PlaceSpec) -> Iterator[Check]:
    settings = reach.settings
    if place.kind == "local":
        yield guarded("place", lambda: _local_place(reach))
        return
    if place.kind == "kubernetes":
        yield from check_cluster(place, settings.accesses[place.name])
        return
    answers = guarded(f"place {place.name}", partial(check_engine, place), "start dockerd, or correct the place's url")
    yield answers
    if place.name in settings.logins and answers.state != "fail":
        yield guarded(f"registry of {place.name}", partial(check_registry, place, settings.logins[place.name]))


def _local_place(reach: Reach) -> Check:
    settings = reach.settings
    runtime = LocalRuntime(settings.jobs_folder, node=settings.node)
    return check_place(runtime, reach.store.url, settings.jobs_folder)
