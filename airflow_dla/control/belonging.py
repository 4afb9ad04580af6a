"""Whose a job is: the team that its DAG belongs to, which the DAG may only narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import JobPolicy, TeamSpec

#: The team of whatever names none.
DEFAULT_TEAM: Final = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a job comes from.

    Parameters
    ----------
    dag : str
    bundle, airflow_team : str or None
        The DAG's bundle and its Airflow team, where they are known.
    """

    dag: str
    bundle: str | None = None
    airflow_team: str | None = None


#: How a team may claim a DAG, the closest first.
_CLAIMS: Final[tuple[Callable[[TeamSpec, Origin], bool], ...]] = (
    lambda team, origin: origin.dag in team.dags,
    lambda team, origin: any(fnmatchcase(origin.dag, pattern) for pattern in team.dags),
    lambda team, origin: origin.bundle in team.bundles,
    lambda team, origin: origin.airflow_team in team.airflow_teams,
)


def owner(teams: Iterable[TeamSpec], origin: Origin) -> str:
    """Return the team that a DAG belongs to, ``default`` when none claims it.

    A team that names the DAG goes before one whose pattern fits, that before one that names
    its bundle, and that before one that names its Airflow team; of a team and its child the
    child.

    Raises
    ------
    InvalidSpec
        If two teams claim it alike.

    Examples
    --------
    >>> teams = [TeamSpec(name="vision", dags=("ocr_*",)), TeamSpec(name="speech", bundles=("main",))]
    >>> owner(teams, Origin("ocr_train", bundle="main")), owner(teams, Origin("tts", bundle="main"))
    ('vision', 'speech')
    """
    known = {team.name: team for team in teams}
    for claims in _CLAIMS:
        claiming = [name for name, team in known.items() if claims(team, origin)]
        lowest = [name for name in claiming if not any(other != name and within(known, other, name) for other in claiming)]
        if len(lowest) > 1:
            raise InvalidSpec(
                f"DAG {origin.dag!r} is claimed by the teams {', '.join(sorted(lowest))} alike; "
                "name it in the dags of one of them and run `airflow dla teams apply`"
            )
        if lowest:
            return lowest[0]
    return DEFAULT_TEAM


def within(teams: Mapping[str, TeamSpec], team: str, above: str) -> bool:
    """Whether a team is another, or lies below it."""
    seen: set[str] = set()
    name: str | None = team
    while name is not None and name not in seen:
        if name == above:
            return True
        seen.add(name)
        name = teams[name].parent if name in teams else None
    return False


def assigned(policy: JobPolicy, teams: Sequence[TeamSpec], origin: Origin) -> JobPolicy:
    """Return a job's policy with the team that pays for it.

    A DAG may narrow its team to one below it, never leave it. While no team but ``default``
    is described, any name will do.

    Raises
    ------
    InvalidSpec
        If the policy names a team that is not there, or one that the DAG does not belong to.

    Examples
    --------
    >>> teams = [TeamSpec(name="vision", dags=("ocr_*",)), TeamSpec(name="ocr", parent="vision")]
    >>> assigned(JobPolicy(), teams, Origin("ocr_train")).team
    'vision'
    >>> assigned(JobPolicy(team="ocr"), teams, Origin("ocr_train")).team
    'ocr'
    """
    known = {team.name: team for team in teams}
    if not set(known) - {DEFAULT_TEAM}:
        return policy
    mine = owner(teams, origin)
    asked = mine if policy.team == DEFAULT_TEAM else policy.team
    if asked not in known and asked != DEFAULT_TEAM:
        raise InvalidSpec(f"policy.team {asked!r} is no team; known are {', '.join(sorted(known))}")
    if asked != mine and not (mine != DEFAULT_TEAM and within(known, asked, mine)) and not _open(known, asked, mine):
        raise InvalidSpec(
            f"policy.team {asked!r}: DAG {origin.dag!r} belongs to team {mine!r} and may only name it or a team below it; "
            "leave policy.team out, or change whose the DAG is with `airflow dla teams apply`"
        )
    team = known.get(asked)
    return replace(policy, team=asked, preemptible=policy.preemptible or (team is not None and team.preemptible))


def _open(teams: Mapping[str, TeamSpec], asked: str, mine: str) -> bool:
    """Whether a DAG that belongs to nobody may name a team: one that claims no DAGs, nor any team above it."""
    if mine != DEFAULT_TEAM:
        return False
    closed = [team for team in teams.values() if team.dags or team.bundles or team.airflow_teams]
    return not any(within(teams, asked, team.name) for team in closed)
