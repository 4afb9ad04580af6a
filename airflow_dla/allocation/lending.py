"""Who borrows from whom, and who may take back what it is guaranteed.

A resource that a team is guaranteed is its own: what it holds of it within the guarantee no
other team ever takes. What it holds beyond is borrowed. A resource for which a team has no
guarantee is guarded by priorities alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from airflow_dla.allocation.teams import TeamShare
from airflow_dla.specs import Demand

_EQUAL = 1e-9

Amounts = Mapping[str, float]


class Lending:
    """What teams hold and are guaranteed, their children's included, while room is being made.

    Parameters
    ----------
    teams : sequence of `TeamShare`
    used : mapping of team to mapping of resource to float
        What each holds itself.

    Examples
    --------
    >>> teams = [TeamShare(name="vision", guaranteed={"gpu": 4.0}), TeamShare(name="speech")]
    >>> lending = Lending(teams, {"vision": {"gpu": 2.0}, "speech": {"gpu": 6.0}})
    >>> lending.guards("vision", {"gpu": 2.0}, "speech"), lending.guards("speech", {"gpu": 6.0}, "vision")
    (True, False)
    >>> lending.claim("vision", {"gpu": 2.0})
    ('gpu',)
    """

    def __init__(self, teams: Sequence[TeamShare], used: Mapping[str, Amounts]) -> None:
        self._teams = {team.name: team for team in teams}
        self._own: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._held: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._guaranteed: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        for team in teams:
            for above in self._line(team.name):
                for resource, amount in team.guaranteed.items():
                    self._guaranteed[above][resource] += amount
        for name, amounts in used.items():
            self.take(name, amounts)

    def copy(self) -> Lending:
        """Return the same again, to try something out."""
        return Lending(tuple(self._teams.values()), self._own)

    def take(self, team: str, amounts: Amounts, *, sign: float = 1.0) -> None:
        """Count amounts that a team takes, or gives back where the sign is -1."""
        for resource, amount in amounts.items():
            self._own[team][resource] += sign * amount
            for above in self._line(team):
                self._held[above][resource] += sign * amount

    def claim(self, team: str, amounts: Amounts) -> tuple[str, ...]:
        """Return the guaranteed resources that a demand asks for; none if it would go beyond the guarantee."""
        share = self._teams.get(team)
        named = [resource for resource, amount in amounts.items() if amount > 0 and share and share.guaranteed.get(resource)]
        if share is None or any(not self._within(team, share, resource, amounts[resource]) for resource in named):
            return ()
        return tuple(named)

    def _within(self, team: str, share: TeamShare, resource: str, more: float) -> bool:
        return self._own[team][resource] + more <= share.guaranteed[resource] * (1 + _EQUAL)

    def guards(self, team: str, amounts: Amounts, other: str) -> bool:
        """Return whether what a team holds is within its guarantee, so that another team may not take it."""
        if team == other:
            return False
        named = [resource for resource, amount in amounts.items() if amount > 0 and self._named(team, resource, other)]
        return bool(named) and not any(self.borrows(team, resource, other) for resource in named)

    def borrows(self, team: str, resource: str, other: str) -> bool:
        """Return whether a team holds more of a resource than it, and what lies above it apart from the other, is guaranteed."""
        return team != other and all(
            self._held[above][resource] > self._guaranteed[above][resource] * (1 + _EQUAL) for above in self._apart(team, other)
        )

    def _named(self, team: str, resource: str, other: str) -> bool:
        return any(self._guaranteed[above][resource] > 0 for above in self._apart(team, other))

    def _apart(self, team: str, other: str) -> list[str]:
        """Return a team and what lies above it, up to where the other belongs as well; at least the team itself."""
        shared = set(self._line(other))
        return [above for above in self._line(team) if above not in shared] or [team]

    def _line(self, team: str) -> list[str]:
        line = [team]
        while (share := self._teams.get(line[-1])) and share.parent is not None:
            line.append(share.parent)
        return line


def reclaiming(pending: Iterable[Demand], teams: Sequence[TeamShare], used: Mapping[str, Amounts], now: float) -> frozenset[str]:
    """Return the demands that may take back what their teams lent.

    Those that have waited for as long as their team says, and that fit its guarantee
    together, the highest priority and the oldest first.

    Parameters
    ----------
    used : mapping of team to mapping of resource to float
        What each holds itself.
    now : float
        Seconds since the epoch.
    """
    after = {team.name: team.reclaim_after_s for team in teams if team.reclaim_after_s is not None and team.guaranteed}
    if not after:
        return frozenset()
    lending, found = Lending(teams, used), set()
    mine = (demand for demand in pending if now - demand.created_at >= after.get(demand.team, float("inf")))
    for demand in sorted(mine, key=lambda one: (-one.priority, one.created_at, one.id)):
        least = minima(demand)
        if lending.claim(demand.team, least):
            lending.take(demand.team, least)
            found.add(demand.id)
    return frozenset(found)


def minima(demand: Demand) -> dict[str, float]:
    """Return the least that a demand must be granted, per-GPU values multiplied out.

    Examples
    --------
    >>> from airflow_dla.specs import Request
    >>> minima(Demand(id="a", request=Request.from_mapping({"gpu": 2, "cpu": "4/gpu"})))
    {'gpu': 2.0, 'cpu': 8.0}
    """
    asked = demand.request.amounts
    gpu = asked.get("gpu")
    times = max(gpu.minimum, min(1.0, gpu.wanted)) if gpu else 1.0
    return {resource: found.minimum * (times if found.per_gpu else 1.0) for resource, found in asked.items()}
