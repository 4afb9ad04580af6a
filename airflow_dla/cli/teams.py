"""``airflow dla teams`` and ``airflow dla usage``: who may have how much, and who had it."""

from __future__ import annotations

import getpass
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from airflow_dla.allocation import check_teams, team_share
from airflow_dla.cli.answer import Answer, table
from airflow_dla.cli.documents import read_document
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.control import Usage, usage
from airflow_dla.errors import InvalidSpec
from airflow_dla.ledger import Snapshot, TeamChange
from airflow_dla.specs import TeamSpec, describe_amounts
from airflow_dla.specs.values import mapping, refuse_unknown

_HEADER: Final = ("TEAM", "PARENT", "WEIGHT", "GUARANTEED", "BORROWS", "LENDS", "QUOTA", "GPU-HOURS", "HOLDS", "WAIT")
_USAGE: Final = ("NAME", "JOBS", "GPU-H", "USED", "IDLE", "CPU-H", "USED", "IDLE", "COST", "MEAN WAIT", "P95 WAIT")


@command
def list_teams(args: Namespace) -> Answer:
    """List the teams with what they hold and how many of their jobs wait."""
    ledger = Reach(args.conn_id).ledger
    seen = ledger.snapshot()
    rows = [_state(team, seen) for team in seen.teams]
    return Answer({"teams": rows}, table(_HEADER, map(_row, rows), empty="no team"))


@command
def apply(args: Namespace) -> Answer:
    """Make the teams of a file the teams there are, and say what that changes."""
    teams = read_teams(read_document(args.file), args.file)
    ledger = Reach(args.conn_id).ledger
    changes = ledger.apply_teams(teams, by=getpass.getuser(), dry_run=args.dry_run)
    document = {"changes": [asdict(change) for change in changes], "applied": not args.dry_run}
    said = "\n".join(map(_change, changes)) or "nothing changes"
    return Answer(document, f"{said}\n(only shown: run it without --dry-run to apply it)" if changes and args.dry_run else said)


@command
def show_usage(args: Namespace) -> Answer:
    """Sum up what was granted, used and waited for."""
    reach = Reach(args.conn_id)
    now = reach.ledger.now()
    runs = reach.ledger.past_runs(since=now - args.since, limit=args.limit)
    rows = usage(runs, by=args.by, costs=reach.settings.policy.costs, now=now)
    document = {"by": args.by, "since": now - args.since, "usage": [asdict(row) for row in rows]}
    return Answer(document, table(_USAGE, map(_usage_row, rows), empty="no job"))


def read_teams(raw: object, where: str) -> tuple[TeamSpec, ...]:
    """Read ``{vision: {guaranteed: {gpu: 4}, dags: ["ocr_*"]}, ocr: {parent: vision}}``.

    Raises
    ------
    InvalidSpec
        On unknown keys, values that break their rule, and teams that contradict each other:
        unknown parents, a cycle of parents, more lent than guaranteed, a guarantee above the quota.

    Examples
    --------
    >>> read_teams({"vision": {"guaranteed": {"gpu": 4}}, "ocr": {"parent": "vision"}}, "teams.yaml")[1].parent
    'vision'
    """
    given = mapping(raw, where)
    if set(given) == {"teams"}:
        given = mapping(given["teams"], f"{where}: teams")
    teams = tuple(_read(name, value, f"{where}: {name}") for name, value in given.items())
    try:
        check_teams([team_share(team) for team in teams], {team.name: team.quota for team in teams})
    except InvalidSpec as error:
        raise InvalidSpec(str(error).replace("policy.teams", where, 1)) from None
    return teams


def _read(name: str, raw: object, where: str) -> TeamSpec:
    given: Mapping[str, Any] = {} if raw is None else mapping(raw, where)
    refuse_unknown({key: value for key, value in given.items() if key == "name"}, [], where)
    return TeamSpec.from_mapping({**given, "name": name}, where)


def _state(team: TeamSpec, seen: Snapshot) -> dict[str, Any]:
    account = next((found for found in seen.accounts if found.team == team.name), None)
    mine = [held.grant.amounts for held in seen.held if held.demand.team == team.name]
    resources = sorted({resource for amounts in mine for resource in amounts})
    holds = {resource: sum(amounts.get(resource, 0.0) for amounts in mine) for resource in resources}
    return {
        **team.to_mapping(),
        "weight": team.weight,
        "holds": holds,
        "waiting": sum(demand.team == team.name for demand in seen.pending),
        "gpu_hours_spent": account.gpu_hours if account else 0.0,
        "tokens_left": account.tokens if account else None,
    }


def _row(state: Mapping[str, Any]) -> tuple[object, ...]:
    written = [describe_amounts(state.get(name, {})) or None for name in ("guaranteed", "borrow", "lend", "quota")]
    budget = f"{state['gpu_hours_spent']:.1f}" + (f" of {state['gpu_hours']:g}" if "gpu_hours" in state else "")
    holds = describe_amounts(state["holds"]) or None
    return state["name"], state.get("parent"), f"{state['weight']:g}", *written, budget, holds, state["waiting"]


def _change(change: TeamChange) -> str:
    if not change.field:
        return f"{change.team}: {'new' if change.old is None else 'gone'}"
    return f"{change.team}: {change.field} {change.old} -> {change.new}"


def _usage_row(row: Usage) -> tuple[object, ...]:
    hours = (row.gpu_hours, row.gpu_hours_used, row.gpu_hours_idle, row.cpu_hours, row.cpu_hours_used, row.cpu_hours_idle)
    waits = (f"{wait:.0f} s" if wait is not None else None for wait in (row.wait_mean_s, row.wait_p95_s))
    return row.name, row.jobs, *(None if value is None else f"{value:.2f}" for value in hours), f"{row.cost:.2f}", *waits
