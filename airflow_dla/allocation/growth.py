"""What would give a demand more that got less than it wanted, in words and in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.rules import listed, written
from airflow_dla.allocation.solve import Solution
from airflow_dla.allocation.table import RELATIVE, Asked, Bools, Floats
from airflow_dla.specs import Step, Unblock


class Growth:
    """Finds what would let demands grow that have a node.

    What is added is shared with all who lack something there: what is named is enough for all
    of them. Those who wait are served before anybody grows.

    Parameters
    ----------
    asked, solution, policy
        The problem and its answer.
    names : sequence of str
        Of the nodes.
    """

    def __init__(self, asked: Asked, solution: Solution, policy: Policy, names: Sequence[str]) -> None:
        self.asked, self.solution, self.policy, self.names = asked, solution, policy, names

    @cached_property
    def _short(self) -> Floats:
        return np.where((self.solution.where >= 0)[:, None], np.maximum(0.0, self.asked.wanted - self.solution.amounts), 0.0)

    @cached_property
    def _waiting(self) -> Bools:
        return np.asarray(self.solution.where < 0)

    def of(self, row: int, node: int, column: int, team: str | None) -> tuple[Unblock, ...]:
        """Say what would give one demand more of a resource.

        Parameters
        ----------
        row, node, column : int
            The demand, its node, and the resource of which it lacks most.
        team : str or None
            Its team where that team's quota is what it lacks.
        """
        return tuple(self._enough(row, node, column, team)) + tuple(self._first(row, node, column, team))

    def _enough(self, row: int, node: int, column: int, team: str | None) -> Iterator[Unblock]:
        parts, steps = [], []
        if self._waiting.any():
            parts.append("once those who wait have started, ")
            steps.append(Step(kind="served"))
        at = len(parts)
        if team is not None:
            said, step = self._quota(row, column, team)
            parts.append(said)
            steps.append(step)
        # What follows the GPUs may stop below the quota, where the GPUs end.
        if team is None or self.asked.coupled[row] or self.solution.free[node, column] <= RELATIVE:
            more = self._room(row, node, column)
            parts.append(f"+{listed(more)} on {self.names[node]}")
            steps.append(Step(kind="capacity", amounts=more, node=self.names[node]))
        yield Unblock("".join(parts[:at]) + " and ".join(parts[at:]), tuple(steps))

    def _room(self, row: int, node: int, column: int) -> dict[str, float]:
        """Return what all on a node lack; where amounts follow the GPUs, of all that the demand lacks."""
        short = self._short[self.solution.where == node].sum(axis=0)
        columns = np.flatnonzero(self._short[row]).tolist() if self.asked.coupled[row] else [column]
        return {self.asked.resources[one]: float(short[one]) for one in columns}

    def _quota(self, row: int, column: int, team: str) -> tuple[str, Step]:
        own, resource = self.asked.team == self.asked.team[row], self.asked.resources[column]
        more = float(self._short[own, column].sum())
        if resource in self.policy.quotas.get(team, {}):
            return f"+{written(resource, more)} in the quota of team {team}", Step(kind="quota", amounts={resource: more}, team=team)
        held = self.policy.used.get(team, {}).get(resource, 0.0) + float(self.solution.amounts[own, column].sum())
        most = held + more
        said = f"a guarantee of {written(resource, most)} for team {team}, of which it lends none"
        return said, Step(kind="guarantee", amounts={resource: most}, team=team)

    def _first(self, row: int, node: int, column: int, team: str | None) -> Iterator[Unblock]:
        """Yield what takes from others on its node what they have above their minima.

        Only strict shedding has such a step: by the other rules a larger weight takes from
        others what they, too, still want, and sometimes nothing at all.
        """
        if self.policy.shedding != "strict":
            return
        others = self.solution.where == node
        others[row] = False
        beyond = self.solution.amounts[others, column] - self.asked.minimum[others, column]
        if team is not None or self.asked.coupled[row] or not (beyond > RELATIVE).any():
            return
        most = int(self.asked.priority.max()) + 1
        yield Unblock(f"raise its priority to {most}", (Step(kind="priority", value=float(most)),))
