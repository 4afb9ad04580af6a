"""Why a demand waits that would fit, had a rule not kept it out: quotas, guarantees, budgets, the head of the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from airflow_dla.allocation.backfill import Promise
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.solve import Solution
from airflow_dla.allocation.table import Asked, Offered
from airflow_dla.specs import RESOURCES, Reason

#: How a unit is written after an amount: only where it is not the resource itself.
UNITS: Final[Mapping[str, str]] = {name: f" {unit}" if unit in {"GiB", "MB/s"} else "" for name, unit in RESOURCES.items()}
#: How the resource is written after an amount, its unit included.
SUFFIXES: Final[Mapping[str, str]] = {name: f"{unit} {name}" for name, unit in UNITS.items()}


@dataclass(frozen=True, slots=True)
class Rules:
    """Writes the reasons that rules have.

    Parameters
    ----------
    asked, offered, solution, policy
        The problem and its answer.
    """

    asked: Asked
    offered: Offered
    solution: Solution
    policy: Policy

    def budget(self, row: int, tokens: float, position: int) -> Reason:
        """Explain a demand that its team cannot pay."""
        team = self.asked.teams[self.asked.team[row]]
        return Reason(
            binding="budget",
            shortfall=tokens,
            position=position,
            unblock=(f"wait until the budget of team {team} is refilled", f"raise the budget of team {team} by {tokens:g} tokens"),
            text=f"waits as number {position}: costs {tokens:g} tokens, more than the budget of team {team} leaves",
        )

    def guarantee(self, row: int, node: int, position: int) -> Reason:
        """Explain a demand that would fit into what other teams do not lend."""
        team, missing = self.asked.teams[self.asked.team[row]], self.asked.minimum[row] - self.solution.lent[self.asked.team[row]]
        column = int(np.argmax(np.where(self.asked.minimum[row] > 0, missing, -np.inf)))
        more = written(self.asked.resources[column], max(0.0, float(missing[column])))
        return Reason(
            binding="guarantee",
            node=self.offered.names[node],
            shortfall=max(0.0, float(missing[column])),
            position=position,
            unblock=(
                f"wait until {more} more that may be borrowed come back",
                f"let other teams lend {more} more",
                f"guarantee team {team} {more} more",
            ),
            text=f"waits as number {position}: what is free on {self.offered.names[node]} is guaranteed to other teams, which lend no more",
        )

    def head(self, reason: Reason) -> Reason:
        """Add to why the head of the queue waits where, and if that is known when, it starts."""
        kept = self._promise()
        name, known = self.offered.names[kept.node], bool(np.isfinite(kept.at))
        promised = f"it starts on {name} at about {kept.at:.0f}" if known else f"{name} is kept for it"
        return replace(reason, expected_start=kept.at if known else None, text=f"{reason.text}; {promised}")

    def _promise(self) -> Promise:
        assert self.solution.kept is not None, "only where something is kept for the head of the queue"
        return self.solution.kept

    def kept_back(self, position: int) -> Reason:
        """Explain a demand that would fit, but would delay the head of the queue."""
        kept = self._promise()
        name = self.offered.names[kept.node]
        head = f"the head of the queue, which needs {written(self._binding(kept), self._needed(kept))},"
        until = f" at about {kept.at:.0f}" if np.isfinite(kept.at) else ""
        return Reason(
            binding="queue",
            node=name,
            position=position,
            unblock=(f"wait until the head of the queue has started on {name}{until}", "raise its priority above that of the head"),
            text=f"waits as number {position}: what is free on {name} is kept for {head} so that nobody delays it",
        )

    def _binding(self, kept: Promise) -> str:
        return self.asked.resources[self._column(kept)]

    def _needed(self, kept: Promise) -> float:
        return float(self.asked.minimum[kept.head, self._column(kept)])

    def _column(self, kept: Promise) -> int:
        capacity = self.offered.capacity[kept.node]
        lacking = (self.asked.minimum[kept.head] - self.offered.free[kept.node]) / np.where(capacity > 0, capacity, 1.0)
        return int(np.argmax(np.where(self.asked.minimum[kept.head] > 0, lacking, -np.inf)))

    def quota(self, row: int, position: int) -> Reason:
        """Explain a demand beyond the quota or the borrowing limit of its team."""
        left = self.solution.quota[self.asked.team[row]]
        missing = self.asked.minimum[row] - left
        column = int(np.argmax(np.where(np.isfinite(left), missing, -np.inf)))
        resource, team = self.asked.resources[column], self.asked.teams[self.asked.team[row]]
        more, needs = written(resource, float(missing[column])), written(resource, float(self.asked.minimum[row, column]))
        return Reason(
            binding="quota",
            shortfall=float(missing[column]),
            position=position,
            unblock=self._more_quota(team, more),
            text=f"waits as number {position}: needs {needs}, the quota of team {team} leaves {max(0.0, float(left[column])):g}",
        )

    def _more_quota(self, team: str, more: str) -> tuple[str, ...]:
        if not self.policy.teams:
            return (f"wait until team {team} gives {more} back", f"raise the quota of team {team} by {more}")
        return (
            f"wait until team {team}, or a team that borrows from it, gives {more} back",
            f"raise the guarantee or the borrowing limit of team {team} by {more}",
        )


@lru_cache(maxsize=4096)
def written(resource: str, value: float) -> str:
    """Write an amount with its unit and resource.

    Examples
    --------
    >>> written("memory", 1.5)
    '1.5 GiB memory'
    """
    return f"{value:g}{SUFFIXES[resource]}"
