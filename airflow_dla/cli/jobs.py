"""``airflow dla jobs``: what runs, what it says, and how to stop it."""

from __future__ import annotations

import getpass
import time
from argparse import Namespace
from dataclasses import replace
from typing import Any, Final

from airflow_dla.cli.answer import Answer, listing, metrics, table, when
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.errors import PlaceUnavailable
from airflow_dla.ledger import Attempt
from airflow_dla.runtime import Runtime
from airflow_dla.specs import ExitReason

#: Seconds between two looks at a job that is waited for.
_LOOK_S: Final = 0.5
#: Seconds that a job gets to end beyond its own grace.
_MARGIN_S: Final = 15.0
_HEADER: Final = ("JOB", "DAG", "TASK", "RUN", "ATTEMPT", "STATE", "GRANTED", "SINCE")


@command
def list_jobs(args: Namespace) -> Answer:
    """List the last attempt of each job."""
    found = Reach(args.conn_id).ledger.jobs(state=args.state, dag=args.dag, limit=args.limit)
    return Answer({"jobs": [_document(attempt) for attempt in found]}, table(_HEADER, map(_row, found), empty="no job"))


@command
def show(args: Namespace) -> Answer:
    """Show one attempt."""
    attempt = Reach(args.conn_id).attempt(args.job)
    return Answer(_document(attempt), _text(attempt))


@command
def stop(args: Namespace) -> Answer:
    """Want a job's end; see it through where its node can be reached from here, else leave it to its follower."""
    reach = Reach(args.conn_id)
    attempt = reach.ledger.want_stop(reach.attempt(args.job).id, ExitReason.STOPPED)
    said = "asked to stop; whoever follows it will stop it"
    if not attempt.ended and attempt.grant is not None and reach.settings.reaches(attempt.grant.node):
        try:
            attempt = _stop_here(reach, reach.workspace().runtime(attempt.grant.node), attempt)
        except PlaceUnavailable as error:
            said = f"{said} once its place answers: {error}"
    return Answer(_document(attempt), f"{attempt.id} {f'ended: {_ending(attempt)}' if attempt.ended else said}")


@command
def priority(args: Namespace) -> Answer:
    """Change a job's priority while it waits or runs; the next round goes by it."""
    reach = Reach(args.conn_id)
    attempt = reach.ledger.set_priority(reach.attempt(args.job).job, args.priority, by=getpass.getuser())
    return Answer(_document(attempt), f"{attempt.id} has priority {attempt.spec.policy.priority} now")


def _stop_here(reach: Reach, runtime: Runtime, attempt: Attempt) -> Attempt:
    """Stop an attempt from here and wait for its end, also when nobody follows it."""
    runtime.cancel(attempt.id, ExitReason.STOPPED)
    until = time.monotonic() + attempt.spec.policy.grace_s + _MARGIN_S
    while time.monotonic() < until:
        status = runtime.status(attempt.id)
        if status.exit is not None:
            return reach.ledger.finish(attempt.id, status.exit)
        time.sleep(_LOOK_S)
    return reach.attempt(attempt.id)


def _ending(attempt: Attempt) -> str:
    return attempt.exit.reason.value if attempt.exit is not None else attempt.state.value


def _document(attempt: Attempt) -> dict[str, Any]:
    times = ("created_at", "granted_at", "running_at", "ended_at", "followed_at", "delivered_at")
    return {
        "job": attempt.job,
        "attempt": attempt.id,
        "key": attempt.spec.key.to_mapping(),
        "state": attempt.state.value,
        "stop": attempt.stop.value if attempt.stop else None,
        "team": attempt.spec.policy.team,
        "priority": attempt.spec.policy.priority,
        "granted": attempt.grant.to_mapping() if attempt.grant else None,
        "reason": attempt.reason.to_mapping() if attempt.reason else None,
        "exit": attempt.exit.to_mapping() if attempt.exit else None,
        **{name: getattr(attempt, name) for name in times},
    }


def _row(attempt: Attempt) -> tuple[object, ...]:
    key, granted = attempt.spec.key, attempt.grant.text() if attempt.grant else None
    since = attempt.ended_at or attempt.running_at or attempt.granted_at or attempt.created_at
    return attempt.job, key.dag, key.instance, key.run, attempt.number, _ending(attempt), granted, when(since)


def _members(attempt: Attempt) -> str | None:
    """Name the jobs of the other members of a distributed job."""
    spec = attempt.spec
    others = [replace(spec.key, member=number).id for number in range(1, spec.policy.gang_size)] if spec.distributed else []
    return ", ".join(others) or None


def _text(attempt: Attempt) -> str:
    end = attempt.exit
    return listing(
        {
            "job": attempt.job,
            "attempt": attempt.id,
            "task": attempt.spec.key,
            "other members": _members(attempt),
            "entrypoint": attempt.spec.entrypoint,
            "state": _ending(attempt),
            "stop wanted": attempt.stop,
            "granted": attempt.grant.text() if attempt.grant else None,
            "why": attempt.grant.reason or None if attempt.grant else None,
            "waits": attempt.reason.text if attempt.reason else None,
            "created": when(attempt.created_at),
            "running": when(attempt.running_at),
            "ended": when(attempt.ended_at),
            "message": end.message or None if end else None,
            "metrics": metrics(end.metrics) if end else None,
            "outputs": ", ".join(f"{name} {output.digest}" for name, output in end.outputs.items()) or None if end else None,
        }
    )
