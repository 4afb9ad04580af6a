"""``airflow dla ledger``: the schema."""

from __future__ import annotations

from argparse import Namespace

from airflow_dla.cli.answer import Answer, listing
from airflow_dla.cli.reach import Reach, shown_url
from airflow_dla.cli.running import command
from airflow_dla.hooks.settings import Settings
from airflow_dla.hooks.workspace import open_ledger
from airflow_dla.ledger import Ledger


@command
def status(args: Namespace) -> Answer:
    """Say which schema is there and which is needed."""
    settings = Reach(args.conn_id).settings
    return _answer(settings, open_ledger(settings))


@command
def upgrade(args: Namespace) -> Answer:
    """Create or migrate the schema."""
    settings = Reach(args.conn_id).settings
    ledger = open_ledger(settings)
    ledger.upgrade()
    return _answer(settings, ledger)


def _answer(settings: Settings, ledger: Ledger) -> Answer:
    found, needed = ledger.schema()
    said = {"ledger": shown_url(settings.ledger_url), "schema": found, "needed": needed, "current": found == needed}
    hint = "" if found == needed else "\nrun `airflow dla ledger upgrade`"
    return Answer(said, listing({**said, "schema": found or "none", "current": "yes" if found == needed else "no"}) + hint, found == needed)
