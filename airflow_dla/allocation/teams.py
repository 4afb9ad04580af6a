"""Teams: who pays, what each is guaranteed, and what teams lend to and borrow from each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Spec, TeamSpec
from airflow_dla.specs.resources import amounts
from airflow_dla.specs.spec import spec_field
from airflow_dla.specs.values import number, optional, positive, seconds, text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TeamShare(Spec):
    """What a team may have of a cluster that several teams share.

    A team has its guarantee, lends what it leaves idle to the others below the same parent,
    and borrows from them; a parent's guarantee is on top of its children's. What nobody is
    guaranteed belongs to all. A team without an entry is guaranteed nothing and borrows freely.

    Parameters
    ----------
    name : str
    parent : str or None
        Team whose child this is; None: directly below the cluster.
    weight : float, > 0
        Share of what is contended for; 1 unless said otherwise.
    guaranteed : mapping of resource to float
        What the team has for itself; 0 where not named.
    borrow : mapping of resource to float
        Most that the team and those below it may use above what they are guaranteed;
        unlimited where not named.
    lend : mapping of resource to float
        Most of the guarantee, its children's included, that others may use while it is idle;
        all of it where not named.
    past_use : mapping of resource to float
        What the team held lately, decayed (`decayed`): a team that used much goes later.
    reclaim_after_s : float or None
        Seconds that a demand within the guarantee waits before those who borrow are
        preempted for it; None: what was lent comes back when its jobs end.

    Raises
    ------
    InvalidSpec
        If a number is negative, infinite or NaN.

    Examples
    --------
    >>> TeamShare(name="vision", guaranteed={"gpu": 4.0}, lend={"gpu": 0.0}).ceiling("gpu")
    inf

    References
    ----------
    Kueue: ClusterQueue and Cohort, nominalQuota, borrowingLimit and lendingLimit.
    """

    called: ClassVar[str] = "team"

    name: str = spec_field(text)
    parent: str | None = spec_field(optional(text), default=None)
    weight: float = spec_field(positive(number), default=1.0)
    guaranteed: Mapping[str, float] = spec_field(amounts, factory=dict)
    borrow: Mapping[str, float] = spec_field(amounts, factory=dict)
    lend: Mapping[str, float] = spec_field(amounts, factory=dict)
    past_use: Mapping[str, float] = spec_field(amounts, factory=dict)
    reclaim_after_s: float | None = spec_field(optional(seconds), default=None)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise InvalidSpec(f"team {self.name!r}: weight must be a finite number > 0, got {self.weight:g}")
        for field in ("guaranteed", "borrow", "lend", "past_use"):
            for resource, value in getattr(self, field).items():
                if not (math.isfinite(value) and value >= 0):
                    raise InvalidSpec(f"team {self.name!r}: {field}.{resource} must be a finite number >= 0, got {value:g}")

    def ceiling(self, resource: str) -> float:
        """Return the most of a resource that the team, without children, can ever have."""
        return self.guaranteed.get(resource, 0.0) + self.borrow.get(resource, math.inf)


def team_share(team: TeamSpec, past_use: Mapping[str, float] | None = None) -> TeamShare:
    """Return what the allocation must know of a team.

    Parameters
    ----------
    past_use : mapping of resource to float, optional
        What the team held lately, decayed.
    """
    return TeamShare(
        name=team.name,
        parent=team.parent,
        weight=team.weight,
        guaranteed=team.guaranteed,
        borrow=team.borrow,
        lend=team.lend,
        past_use=past_use or {},
        reclaim_after_s=team.reclaim_after_s,
    )


def check_teams(teams: Iterable[TeamShare], quotas: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse teams that contradict each other or the quotas of a policy.

    Raises
    ------
    InvalidSpec
        On names that occur twice, unknown parents, a cycle of parents, more lent than
        guaranteed, and a guarantee above the team's own quota.

    Examples
    --------
    >>> check_teams([TeamShare(name="a", parent="b"), TeamShare(name="b", parent="a")], {})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: policy.teams: parents form a cycle: a -> b -> a; give one of them no parent
    """
    named: dict[str, TeamShare] = {}
    for team in teams:
        if named.setdefault(team.name, team) is not team:
            raise InvalidSpec(f"policy.teams: team {team.name!r} is there twice; names must differ")
    for team in named.values():
        if team.parent is not None and team.parent not in named:
            raise InvalidSpec(f"policy.teams: the parent {team.parent!r} of team {team.name!r} is no team; known are {', '.join(named)}")
        _refuse_cycle(team, named)
    for team in named.values():
        _refuse_lending(team, named)
        for resource, most in quotas.get(team.name, {}).items():
            if team.guaranteed.get(resource, 0.0) > most:
                raise InvalidSpec(
                    f"policy.teams: team {team.name!r} is guaranteed {team.guaranteed[resource]:g} {resource}, "
                    f"but its quota is {most:g}; raise the quota or lower the guarantee"
                )


def _refuse_cycle(team: TeamShare, named: Mapping[str, TeamShare]) -> None:
    path, parent = [team.name], team.parent
    while parent is not None and parent in named:
        path.append(parent)
        if parent == team.name:
            raise InvalidSpec(f"policy.teams: parents form a cycle: {' -> '.join(path)}; give one of them no parent")
        if parent in path[:-1]:
            return  # a cycle further up is named when its own members are looked at
        parent = named[parent].parent


def _refuse_lending(team: TeamShare, named: Mapping[str, TeamShare]) -> None:
    for resource, most in team.lend.items():
        has = sum(other.guaranteed.get(resource, 0.0) for other in named.values() if _below(other, team, named))
        if most > has:
            raise InvalidSpec(
                f"policy.teams: team {team.name!r} must lend at most what it and its children are guaranteed, {has:g} {resource}, "
                f"got {most:g}; raise guaranteed.{resource} or lower lend.{resource}"
            )


def _below(team: TeamShare, above: TeamShare, named: Mapping[str, TeamShare]) -> bool:
    while team.name != above.name:
        if team.parent is None:
            return False
        team = named[team.parent]
    return True


def decayed(past: Mapping[str, float], held: Mapping[str, float], *, elapsed_s: float, half_life_s: float) -> dict[str, float]:
    r"""Carry past use forward: what lies a half-life back counts half.

    .. math:: u' = u \, 2^{-t/h} + x \, (1 - 2^{-t/h})

    A team that holds x for long tends to x, one that stops tends to 0.

    Parameters
    ----------
    past : mapping of resource to float
        Decayed use when last looked at.
    held : mapping of resource to float
        What the team held since.
    elapsed_s, half_life_s : float
        Seconds, >= 0 and > 0.

    Raises
    ------
    InvalidSpec
        If a time breaks its rule.

    Examples
    --------
    >>> decayed({"gpu": 8.0}, {"gpu": 4.0}, elapsed_s=3600, half_life_s=3600)
    {'gpu': 6.0}
    """
    if not (half_life_s > 0 and elapsed_s >= 0):
        raise InvalidSpec(f"elapsed_s must be >= 0 and half_life_s > 0, got {elapsed_s:g} and {half_life_s:g}")
    kept = 2.0 ** (-elapsed_s / half_life_s)
    return {resource: past.get(resource, 0.0) * kept + held.get(resource, 0.0) * (1.0 - kept) for resource in {**past, **held}}
