"""Why a demand waits that would fit, had a rule not kept it out: quotas, guarantees, budgets, the head of the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from airflow_dla.allocation.backfill import Promise
from airflow_dla.allocation.forecast.holds import Hold, clock
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.solve import Solution
from airflow_dla.allocation.table import Asked, Floats, Offered
from airflow_dla.specs import Reason, unit_of


@lru_cache(maxsize=256)
def unit_after(resource: str) -> str:
    """Return how the unit is written after an amount: only where it is not the resource itself."""
    unit = unit_of(resource)
    return f" {unit}" if unit in {"GiB", "MB/s"} else ""


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

    def aside(self, row: int, node: int, position: int, unblock: tuple[str, ...]) -> Reason:
        """Explain a demand that would fit, had its team the tokens, or were nobody else expected."""
        barred = self.solution.admission.barred
        if row in barred:
            return self.budget(row, barred[row], position, unblock)
        return self.expected(self.policy.holds[self.solution.refused[row]], node, position)

    def budget(self, row: int, tokens: float, position: int, unblock: tuple[str, ...]) -> Reason:
        """Explain a demand that its team cannot pay."""
        team = self.asked.teams[self.asked.team[row]]
        return Reason(
            binding="budget",
            shortfall=tokens,
            position=position,
            unblock=unblock,
            text=f"waits as number {position}: costs {tokens:g} tokens, more than the budget of team {team} leaves",
        )

    def guarantee(self, of: int, need: Floats, node: int, position: int, unblock: tuple[str, ...] = ()) -> Reason:
        """Explain what would fit into what other teams do not lend to one of them."""
        team, missing = self.asked.teams[of], need - self.solution.lent[of]
        column = int(np.argmax(np.where(need > 0, missing, -np.inf)))
        more = written(self.asked.resources[column], max(0.0, float(missing[column])))
        return Reason(
            binding="guarantee",
            node=self.offered.names[node],
            shortfall=max(0.0, float(missing[column])),
            position=position,
            unblock=unblock
            or (f"wait until {more} more that may be borrowed come back", f"guarantee team {team} {more} more and let it lend none of it"),
            text=f"waits as number {position}: what is free on {self.offered.names[node]} is guaranteed to other teams, which lend no more",
        )

    def head(self, reason: Reason) -> Reason:
        """Add to why the head of the queue waits where it starts, and if that is known about when."""
        kept = self._promise()
        names, known = self._kept_nodes(kept), bool(np.isfinite(kept.at))
        promised = f"it is promised {names} at about {moment(kept.at)}" if known else self._are_kept(names, kept)
        return replace(reason, expected_start=kept.at if known else None, text=f"{reason.text}; {promised}")

    def expected(self, hold: Hold, node: int, position: int) -> Reason:
        """Explain a demand that would fit, but would be in the way of a job that is expected."""
        name = self.offered.names[node]
        return Reason(
            binding="expected",
            node=name,
            position=position,
            unblock=(
                f"wait until {hold.name} has come, or is given up at about {clock(hold.until)}",
                f"raise its priority to that of {hold.name}, {hold.priority}",
                "let it end before then",
            ),
            text=f"waits as number {position}: what is free on {name} is kept for {hold.text()}",
        )

    def _promise(self) -> Promise:
        assert self.solution.kept is not None, "only where something is kept for the head of the queue"
        return self.solution.kept

    def _are_kept(self, names: str, kept: Promise) -> str:
        return f"{names} {'is' if len(kept.nodes) == 1 else 'are'} kept for it"

    def _kept_nodes(self, kept: Promise) -> str:
        return ", ".join(sorted(self.offered.names[node] for node in kept.nodes.tolist()))

    def kept_back(self, position: int, unblock: tuple[str, ...] = ()) -> Reason:
        """Explain a demand that would fit, but would delay the head of the queue."""
        kept = self._promise()
        names = self._kept_nodes(kept)
        head = f"the head of the queue, which needs {self._needed(kept)},"
        until = f" at about {moment(kept.at)}" if np.isfinite(kept.at) else ""
        return Reason(
            binding="queue",
            node=self.offered.names[kept.node],
            position=position,
            unblock=unblock
            or (f"wait until the head of the queue has started on {names}{until}", "raise its priority above that of the head"),
            text=f"waits as number {position}: what is free on {names} is kept for {head} so that nobody delays it",
        )

    def _needed(self, kept: Promise) -> str:
        """Write what the head needs most of, relative to what is free; of a gang, all its members together."""
        rows = list(kept.heads)
        need, free = self.asked.minimum[rows].sum(axis=0), self.offered.free[kept.nodes].sum(axis=0)
        capacity = self.offered.capacity[kept.nodes].sum(axis=0)
        lacking = (need - free) / np.where(capacity > 0, capacity, 1.0)
        column = int(np.argmax(np.where(need > 0, lacking, -np.inf)))
        return written(self.asked.resources[column], float(need[column]))

    def quota(self, of: int, need: Floats, position: int, unblock: tuple[str, ...] = ()) -> Reason:
        """Explain what goes beyond the quota or the borrowing limit of a team."""
        left = self.solution.quota[of]
        missing = need - left
        column = int(np.argmax(np.where(np.isfinite(left), missing, -np.inf)))
        resource, team = self.asked.resources[column], self.asked.teams[of]
        more, needs = written(resource, float(missing[column])), written(resource, float(need[column]))
        return Reason(
            binding="quota",
            shortfall=float(missing[column]),
            position=position,
            unblock=unblock or (f"wait until team {team} gives {more} back", f"raise the quota or the guarantee of team {team} by {more}"),
            text=f"waits as number {position}: needs {needs}, the quota of team {team} leaves {max(0.0, float(left[column])):g}",
        )


@lru_cache(maxsize=4096)
def written(resource: str, value: float) -> str:
    """Write an amount with its unit and resource.

    Examples
    --------
    >>> written("memory", 1.5)
    '1.5 GiB memory'
    """
    return f"{value:g}{unit_after(resource)} {resource}"


def listed(amounts: Mapping[str, float]) -> str:
    """Write amounts with their units.

    Examples
    --------
    >>> listed({"gpu": 2.0, "memory": 1.5})
    '2 gpu, 1.5 GiB memory'
    """
    return ", ".join([written(resource, value) for resource, value in amounts.items()])


def moment(at: float) -> str:
    """Write a time, seconds since the epoch, to the minute.

    Examples
    --------
    >>> moment(1_763_840_000.0)
    '2025-11-22 19:33Z'
    """
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%MZ}"
