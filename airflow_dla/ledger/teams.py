"""Teams and their accounts: replaced as a whole, every difference told and kept in the history."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from sqlalchemy import delete, select

from airflow_dla.errors import InvalidSpec
from airflow_dla.ledger import rows
from airflow_dla.ledger.history import record_all
from airflow_dla.ledger.nodes import mark_due
from airflow_dla.ledger.records import TeamChange
from airflow_dla.ledger.schema import accounts, teams
from airflow_dla.ledger.transaction import Transaction
from airflow_dla.specs import Account, TeamSpec

#: The team of every job that names none; it is there from the start and stays.
_DEFAULT = TeamSpec(name="default")


def all_teams(tx: Transaction) -> tuple[TeamSpec, ...]:
    """Return every team, by name."""
    return tuple(rows.team(text) for text in tx.connection.execute(select(teams.c.team).order_by(teams.c.name)).scalars())


def changes(tx: Transaction, wanted: Sequence[TeamSpec]) -> tuple[TeamChange, ...]:
    """Return what making these the teams would change, by team and field.

    Raises
    ------
    InvalidSpec
        If two have the same name.
    """
    known = {team.name: team for team in all_teams(tx)}
    new = _by_name(wanted, known.get(_DEFAULT.name, _DEFAULT))
    return tuple(change for name in sorted({*known, *new}) for change in _differences(known.get(name), new.get(name)))


def apply(tx: Transaction, wanted: Sequence[TeamSpec], *, by: str) -> tuple[TeamChange, ...]:
    """Make these the teams there are; one event in the history for each team that changed."""
    found = changes(tx, wanted)
    touched = {change.team for change in found}
    if not touched:
        return ()
    tx.connection.execute(delete(teams).where(teams.c.name.in_(sorted(touched))))
    for team in wanted:
        if team.name in touched:
            tx.upsert(teams, name=team.name, team=rows.dump(team.to_mapping()))
    record_all(tx, "team.changed", ((name, {"by": by, "changes": _told(name, found)}) for name in sorted(touched)))
    mark_due(tx, "teams")
    return found


def _by_name(wanted: Sequence[TeamSpec], default: TeamSpec) -> dict[str, TeamSpec]:
    named: dict[str, TeamSpec] = {}
    for team in wanted:
        if named.setdefault(team.name, team) is not team:
            raise InvalidSpec(f"team {team.name!r} is there twice; names must differ")
    return {default.name: default, **named}


def _differences(old: TeamSpec | None, new: TeamSpec | None) -> Iterator[TeamChange]:
    if old is None or new is None:
        plain = [None if team is None else team.to_mapping() for team in (old, new)]
        yield TeamChange(team=str((old or new or _DEFAULT).name), field="", old=plain[0], new=plain[1])
        return
    for field in dataclasses.fields(TeamSpec):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            yield TeamChange(team=new.name, field=field.name, old=before, new=after)


def _told(team: str, found: Sequence[TeamChange]) -> list[dict[str, object]]:
    return [{"field": one.field, "old": one.old, "new": one.new} for one in found if one.team == team]


def keep_accounts(tx: Transaction, changed: Sequence[Account], *, known: Sequence[Account]) -> None:
    """Write the accounts that a round changed."""
    for account in (one for one in changed if one not in known):
        tx.upsert(accounts, team=account.team, account=rows.dump(account.to_mapping()))
