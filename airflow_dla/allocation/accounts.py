"""What teams have used and may still spend: brought up to date in every round.

Between two rounds, what is held now is taken to have been held since the last one, or since it
was granted: a job that ended is not counted from the last round to its end. Rounds while
anything is held are therefore never further apart than `EVERY_S`.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from airflow_dla.allocation.teams import decayed
from airflow_dla.specs import Account, Held, TeamSpec

#: Accounts are at most so many seconds behind while something is held.
EVERY_S: Final = 300.0
#: Accounts are not written again within so many seconds, unless tokens changed.
_SOONEST_S: Final = 1.0
_HOUR_S: Final = 3600.0


def carried(
    teams: Sequence[TeamSpec], accounts: Iterable[Account], held: Iterable[Held], now: float, *, half_life_s: float, term_s: float
) -> dict[str, Account]:
    """Bring accounts up to date.

    Parameters
    ----------
    teams : sequence of `TeamSpec`
    accounts : iterable of `Account`
        As the last round left them.
    held : iterable of `Held`
    now : float
        Seconds since the epoch.
    half_life_s : float
        Past use that lies so far back counts half.
    term_s : float
        Tokens are refilled every so many seconds.

    Returns
    -------
    dict of team to `Account`
        Of all teams that are described, hold something, or have held something.

    Examples
    --------
    >>> team = TeamSpec(name="vision", gpu_hours=100.0)
    >>> before = Account(team="vision", at=0.0, period_at=0.0, gpu_hours=1.5)
    >>> carried([team], [before], [], 7200.0, half_life_s=3600.0, term_s=1200.0)["vision"].gpu_hours
    1.5
    """
    described = {team.name: team for team in teams}
    known = {account.team: account for account in accounts}
    holding: defaultdict[str, list[Held]] = defaultdict(list)
    for one in held:
        holding[one.demand.team].append(one)
    names = sorted({*described, *known, *holding})
    return {
        name: _refilled(_used(known.get(name), name, holding[name], now, half_life_s), described.get(name), now, term_s) for name in names
    }


def _used(account: Account | None, name: str, held: Sequence[Held], now: float, half_life_s: float) -> Account:
    if account is None:
        account = Account(team=name, at=min((one.since for one in held), default=now), period_at=now, refilled_at=now)
    elapsed = max(0.0, now - account.at)
    amounts: defaultdict[str, float] = defaultdict(float)
    gpu_s = 0.0
    for one in held:
        part = min(elapsed, max(0.0, now - one.since))
        for resource, amount in one.grant.amounts.items():
            amounts[resource] += amount * part / elapsed if elapsed else 0.0
        gpu_s += one.grant.amounts.get("gpu", 0.0) * part
    past = decayed(account.past_use, amounts, elapsed_s=elapsed, half_life_s=half_life_s)
    return dataclasses.replace(account, at=now, past_use=past, gpu_hours=account.gpu_hours + gpu_s / _HOUR_S)


def _refilled(account: Account, team: TeamSpec | None, now: float, term_s: float) -> Account:
    """Begin a new period of GPU-hours, and a new term of tokens, where the last one is over."""
    if team is None:
        return account
    periods = math.floor((now - account.period_at) / team.period_s)
    if periods >= 1:
        account = dataclasses.replace(account, gpu_hours=0.0, period_at=account.period_at + periods * team.period_s)
    terms = math.floor((now - account.refilled_at) / term_s)
    if account.tokens is None or terms >= 1:
        account = dataclasses.replace(account, tokens=team.tokens, refilled_at=account.refilled_at + max(0, terms) * term_s)
    return account


def paid(accounts: Mapping[str, Account], payments: Iterable[tuple[str, float]]) -> dict[str, Account]:
    """Take from the tokens of teams what they paid.

    Parameters
    ----------
    payments : iterable of (team, tokens)
    """
    spent: defaultdict[str, float] = defaultdict(float)
    for team, tokens in payments:
        spent[team] += tokens
    return {
        name: account
        if account.tokens is None or not spent[name]
        else dataclasses.replace(account, tokens=max(0.0, account.tokens - spent[name]))
        for name, account in accounts.items()
    }


def changed(accounts: Mapping[str, Account], before: Iterable[Account], always: Collection[str] = ()) -> tuple[Account, ...]:
    """Return the accounts that are worth writing: those that are new, older than a second, or whose tokens changed.

    Parameters
    ----------
    before : iterable of `Account`
        As they are written.
    always : collection of str
        Teams whose accounts are written anyway.
    """
    known = {account.team: account for account in before}
    return tuple(account for name, account in accounts.items() if name in always or name not in known or _differs(account, known[name]))


def _differs(account: Account, old: Account) -> bool:
    same = (account.tokens, account.refilled_at, account.period_at) == (old.tokens, old.refilled_at, old.period_at)
    return not same or account.at - old.at >= _SOONEST_S


def exhausted(teams: Sequence[TeamSpec], accounts: Mapping[str, Account]) -> dict[str, TeamSpec]:
    """Return the teams that may start nothing with GPUs, each with the team, itself or above it, whose budget is spent.

    A team's budget is for it and all teams below it.
    """
    described = {team.name: team for team in teams}
    spent: defaultdict[str, float] = defaultdict(float)
    for name, account in accounts.items():
        for above in _line(name, described):
            spent[above] += account.gpu_hours
    over = {team.name for team in teams if team.gpu_hours is not None and spent[team.name] >= team.gpu_hours}
    found = {}
    for name in described:
        empty = next((above for above in _line(name, described) if above in over), None)
        if empty is not None:
            found[name] = described[empty]
    return found


def ceilings(teams: Sequence[TeamSpec]) -> dict[str, int]:
    """Return the highest priority that the jobs of each team may have: its own, or that of a team above it."""
    described = {team.name: team for team in teams}
    found = {}
    for name in described:
        most = [priority for above in _line(name, described) if (priority := described[above].max_priority) is not None]
        if most:
            found[name] = min(most)
    return found


def _line(name: str, described: Mapping[str, TeamSpec]) -> list[str]:
    line = [name]
    while (team := described.get(line[-1])) is not None and team.parent is not None and team.parent not in line:
        line.append(team.parent)
    return line
