"""What a plan would decide if nodes had something else to account for: who would be served, and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from airflow_dla.allocation.lending import reclaiming
from airflow_dla.allocation.living import summed
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.solve import Solution, solve
from airflow_dla.allocation.table import Asked, Floats, Offered, raised, read_cluster, read_demands
from airflow_dla.specs import Demand, Grant, Node

#: A live grant and the team that holds it.
Owned = tuple[str, Grant]


@dataclass(frozen=True, slots=True)
class View:
    """What would be: who is placed, and what is left beside the minima.

    Parameters
    ----------
    asked : `Asked`
    offered : `Offered`
    solution : `Solution`
    """

    asked: Asked
    offered: Offered
    solution: Solution

    def served(self, row: int) -> bool:
        """Return whether a demand would start."""
        return bool(self.solution.where[row] >= 0)

    def free(self) -> Floats:
        """Return what the minima of those served leave of each node, shape (G, R)."""
        where = self.solution.where
        placed = np.flatnonzero(where >= 0)
        taken = np.zeros_like(self.offered.free)
        np.add.at(taken, where[placed], self.asked.minimum[placed])
        left: Floats = self.offered.free - taken
        return left


class Outlook:
    """Asks what a plan would decide; the demands are read once.

    Parameters
    ----------
    cluster : sequence of `Node`
    pending : sequence of `Demand`
    policy : `Policy`
    now : float

    Attributes
    ----------
    row : dict of str to int
        Row of each demand.
    """

    def __init__(self, cluster: Sequence[Node], pending: Sequence[Demand], policy: Policy, now: float) -> None:
        self.cluster, self.pending, self.policy, self.now = cluster, pending, policy, now
        self.asked = read_demands(pending, policy, now)
        self.row = {demand.id: row for row, demand in enumerate(pending)}

    def offered(self, live: Iterable[Owned]) -> Offered:
        """Return what there would be for those that wait."""
        owned = list(live)
        return read_cluster(self.cluster, [grant for _, grant in owned], self.asked, self._policy(owned))

    def given(self, live: Iterable[Owned]) -> View:
        """Return what would be if these were the live grants."""
        owned = list(live)
        policy, asked = self._policy(owned), self.asked
        if policy.reclaims != self.policy.reclaims:
            asked = replace(asked, aged=raised(self.pending, asked.created, self.now, policy))
        offered = read_cluster(self.cluster, [grant for _, grant in owned], asked, policy)
        return View(asked, offered, solve(asked, offered, policy))

    def _policy(self, owned: Iterable[Owned]) -> Policy:
        """Return the policy with what teams would use, and who would take back what was lent."""
        used = summed((team, grant.amounts) for team, grant in owned)
        return replace(self.policy, used=used, reclaims=reclaiming(self.pending, self.policy.teams, used, self.now))

    def grants(self, view: View) -> dict[str, Grant]:
        """Return the minima of those who would start, with the GPUs they would get."""
        devices = {row: (node, seats) for node, found in view.solution.devices.items() for row, seats in found.hand_out().items()}
        return {demand.id: self._grant(view, row, devices.get(row)) for row, demand in enumerate(self.pending) if view.served(row)}

    def _grant(self, view: View, row: int, seats: tuple[int, tuple[int, ...]] | None) -> Grant:
        node = self.cluster[int(view.solution.where[row])]
        least = view.asked.minimum[row]
        return Grant(
            id=self.pending[row].id,
            node=node.name,
            amounts={name: float(least[column]) for column, name in enumerate(view.asked.resources) if least[column] > 0},
            gpu_ids=() if seats is None else tuple(node.gpu_ids[seat] for seat in seats[1]),
        )
