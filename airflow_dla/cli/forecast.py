"""``airflow dla forecast``: who is expected to ask for resources soon."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable

from airflow.configuration import conf

from airflow_dla.cli.airflow_rest import AirflowRest
from airflow_dla.cli.answer import Answer, table, when
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.control import refresh as refresh_ledger
from airflow_dla.specs import Expected, describe_amounts

_HEADER = ("EXPECTED", "UNTIL", "JOB", "TEAM", "PRIORITY", "MINUTES", "WHAT")


@command
def show(args: Namespace) -> Answer:
    """Show who is expected and has not come."""
    return _answer(Reach(args.conn_id).ledger.snapshot().expected)


@command
def refresh(args: Namespace) -> Answer:
    """Read next runs from Airflow's REST API, write what is expected of them, and show it."""
    url = args.url or conf.get("api", "base_url", fallback="") or "http://localhost:8080"
    rest = AirflowRest(url, user=args.user)
    reach = Reach(args.conn_id)
    try:
        forecast = refresh_ledger(reach.ledger, reach.settings.policy, rest.coming_runs)
    finally:
        rest.close()
    return _answer((*forecast.schedule, *forecast.season))


def _answer(expected: Iterable[Expected]) -> Answer:
    found = sorted(expected, key=lambda job: (job.at, job.id))
    return Answer({"expected": [job.to_mapping() for job in found]}, table(_HEADER, map(_row, found), empty="nobody is expected"))


def _row(job: Expected) -> tuple[object, ...]:
    name = f"{job.dag}.{job.task}" if job.dag else "unscheduled"
    return when(job.at), when(job.at + job.late_s), name, job.team, job.priority, f"{job.run_s / 60:.0f}", describe_amounts(job.amounts)
