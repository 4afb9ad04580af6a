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
        self._said: dict[tuple[int, int, str | None, bool], tuple[Unblock, ...]] = {}

    @cached_property
    def _short(self) -> Floats:
        return np.where((self.solution.where >= 0)[:, None], np.maximum(0.0, self.asked.wanted - self.solution.amounts), 0.0)

    @cached_property
    def _short_on(self) -> Floats:
        """What all on a node lack, shape (G, R)."""
        return self._on_nodes(self._short)

    @cached_property
    def _beyond(self) -> Bools:
        """Who has more than the minimum, shape (n, R)."""
        return np.asarray(self.solution.amounts - self.asked.minimum > RELATIVE)

    @cached_property
    def _beyond_on(self) -> Floats:
        """How many on a node have more than their minima, shape (G, R)."""
        return self._on_nodes(self._beyond.astype(float))

    def _on_nodes(self, values: Floats) -> Floats:
        placed = self.solution.where >= 0
        found = np.zeros(self.solution.free.shape)
        np.add.at(found, self.solution.where[placed], values[placed])
        return found

    @cached_property
    def _somebody_waits(self) -> bool:
        return bool((self.solution.where < 0).any())

    @cached_property
    def _most(self) -> int:
        return int(self.asked.priority.max()) + 1

    def of(self, row: int, node: int, column: int, team: str | None) -> tuple[Unblock, ...]:
        """Say what would give one demand more of a resource.

        Parameters
        ----------
        row, node, column : int
            The demand, its node, and the resource of which it lacks most.
        team : str or None
            Its team where that team's quota is what it lacks.
        """
        # What the GPUs do not govern depends on the row in nothing else, and thousands may lack the same.
        key = (node, column, team, bool(self._beyond_on[node, column] > self._beyond[row, column]))
        if self.asked.coupled[row]:
            return tuple(self._enough(row, node, column, team))
        if key not in self._said:
            self._said[key] = tuple(self._enough(row, node, column, team)) + tuple(self._first(team, others=key[-1]))
        return self._said[key]

    def _enough(self, row: int, node: int, column: int, team: str | None) -> Iterator[Unblock]:
        parts, steps = [], []
        if self._somebody_waits:
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
        short = self._short_on[node]
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

    def _first(self, team: str | None, *, others: bool) -> Iterator[Unblock]:
        """Yield what takes from others on its node what they have above their minima, where there are any.

        Only strict shedding has such a step: by the other rules a larger weight takes from
        others what they, too, still want, and sometimes nothing at all.
        """
        if self.policy.shedding == "strict" and team is None and others:
            yield Unblock(f"raise its priority to {self._most}", (Step(kind="priority", value=float(self._most)),))
