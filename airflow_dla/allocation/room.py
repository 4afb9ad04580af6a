"""Making room for a demand that waits: on one node, by shrinking first and by preemption where that is not enough.

Shrinking takes from elastic grants what they have above their minima. Only where that is not
enough, preemptible jobs are chosen that matter less: so that the one that matters most of them
matters as little as possible, then as few as possible, then with as little lost work as
possible. Nothing that is chosen could be left out.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.lending import Lending
from airflow_dla.allocation.living import Living
from airflow_dla.allocation.outlook import View
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.table import Bools, Floats, Ints
from airflow_dla.allocation.victims import TINY, WHOLE, Fit, Unit, cost_of, total
from airflow_dla.specs import Demand, Node

#: On how many nodes, the cheapest by a first estimate, the jobs that stop are chosen with care.
_NODES = 4


@dataclass(frozen=True, slots=True)
class Claimant:
    """A demand that room is made for.

    Parameters
    ----------
    row : int
    demand : `Demand`
    standing : int
        Its priority, aged.
    least : tuple of float
        What it needs of each resource.
    reclaims : tuple of str
        Guaranteed resources that it takes back; empty for one that goes by priority.
    """

    row: int
    demand: Demand
    standing: int
    least: tuple[float, ...]
    reclaims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """How room is made for a demand.

    Parameters
    ----------
    claimant : `Claimant`
    node : int
    victims : tuple of int
        Live grants that stop, gangs complete.
    shrunk : mapping of int to float array, shape (R,)
        What other live grants give back.
    cost : tuple
        Whether anybody stops, how much it matters, how many stop, what work is lost, s, and how many shrink.
    """

    claimant: Claimant
    node: int
    victims: tuple[int, ...]
    shrunk: Mapping[int, Floats]
    cost: tuple[float, ...]


class Rooms:
    """What nodes have once all that was told is done, while room is being made.

    Parameters
    ----------
    cluster : sequence of `Node`
    living : `Living`
    view : `View`
        Who is served without any change.
    policy : `Policy`
    lending : `Lending`
    now : float
    """

    def __init__(self, cluster: Sequence[Node], living: Living, view: View, policy: Policy, lending: Lending, *, now: float) -> None:
        self.cluster, self.living, self.asked, self.offered = cluster, living, view.asked, view.offered
        self.policy, self.lending, self.now = policy, lending, now
        self.free, self.quota = view.free(), view.solution.quota.copy()
        self.amounts, self.spare = living.amounts.copy(), living.spare.copy()
        self.gone = np.zeros(len(living.held), dtype=bool)
        self.devices = {node: np.array(found.unpromised()) for node, found in view.solution.devices.items()}
        self._on = [np.flatnonzero(living.node == node) for node in range(len(cluster))]
        self._seats = {node: {gpu: seat for seat, gpu in enumerate(cluster[node].gpu_ids)} for node in self.devices}

    def find(self, claimant: Claimant, *, kept: Collection[int] = ()) -> Room | None:
        """Return the cheapest way to make room on one node, None when there is none.

        Parameters
        ----------
        kept : collection of int
            Nodes that are kept for somebody else.
        """
        alive = np.flatnonzero(~self.gone)
        shrinks, stops = np.zeros(len(self.gone), dtype=bool), np.zeros(len(self.gone), dtype=bool)
        shrinks[alive] = (self.spare[alive] > 0).any(axis=1) & self._may_shrink(claimant, alive)
        stops[alive] = self._may_stop(claimant, alive)
        rooms: list[Room] = []
        for node in self._estimated(claimant, self._able(claimant, kept), shrinks, stops):
            here = self._on[node]
            room = self._room(claimant, node, here[shrinks[here]], here[stops[here]])
            rooms += [] if room is None else [room]
            if len(rooms) == _NODES:
                break
        return min(rooms, key=lambda room: (*room.cost, self.cluster[room.node].name), default=None)

    def _estimated(self, claimant: Claimant, nodes: Sequence[int], shrinks: Bools, stops: Bools) -> list[int]:
        """Order the nodes where there would be room by who stops if those that matter least do, or the best one alone."""
        living, need = self.living, self.asked.minimum[claimant.row]
        room = self.free.copy()
        np.add.at(room, living.node[shrinks], self.spare[shrinks])
        missing = np.where(need > 0, np.maximum(0.0, need - room - self.offered.slack), 0.0)
        lost = np.maximum(0.0, self.now - living.since)
        rows = np.flatnonzero(stops)
        rows = rows[np.lexsort((rows, lost[rows], living.standing[rows], living.node[rows]))]
        frees = self.amounts[rows] - self.spare[rows] * shrinks[rows, None]
        cost: dict[int, tuple[float, ...]] = {node: (0.0,) for node in nodes if not missing[node].any()}
        start = np.searchsorted(living.node[rows], np.arange(len(self.cluster) + 1)).tolist()
        for node in nodes:
            part = slice(start[node], start[node + 1])
            if node in cost or part.start == part.stop:
                continue
            enough = np.flatnonzero((np.cumsum(frees[part], axis=0) >= missing[node]).all(axis=1))
            if not len(enough):
                continue
            first, mine = int(enough[0]), rows[part]
            cost[node] = (1.0, float(living.standing[mine[first]]), first + 1.0, float(lost[mine[: first + 1]].sum()))
            alone = np.flatnonzero((frees[part] >= missing[node]).all(axis=1))
            if len(alone):
                best = mine[alone[0]]
                cost[node] = min(cost[node], (1.0, float(living.standing[best]), 1.0, float(lost[best])))
        return sorted(cost, key=lambda node: (cost[node], self.cluster[node].name))

    def leftover(self, claimant: Claimant, *, kept: Collection[int] = ()) -> Room | None:
        """Return a node where a demand fits as it is, None when there is none."""
        need = self.asked.minimum[claimant.row]
        for node in self._able(claimant, kept):
            fit = Fit(
                need=need,
                room=self.free[node] + self.offered.slack[node],
                quota=self.quota[self.asked.team[claimant.row]] * (1 + TINY),
                devices=self.devices.get(node),
                gpu=self.asked.gpu,
            )
            if fit.holds([]):
                return Room(claimant, node, (), {}, ())
        return None

    def apart(self) -> Rooms:
        """Return a copy that can be changed without changing this one."""
        other = copy.copy(self)
        other.free, other.quota, other.amounts, other.spare = (part.copy() for part in (self.free, self.quota, self.amounts, self.spare))
        other.gone, other.devices = self.gone.copy(), {node: free.copy() for node, free in self.devices.items()}
        other.lending = self.lending.copy()
        return other

    def _able(self, claimant: Claimant, kept: Collection[int]) -> list[int]:
        """Return the nodes that a demand may use and that are large enough, by name."""
        need = self.asked.minimum[claimant.row]
        able = self.offered.allowed[self.asked.kind[claimant.row]] & (need <= self.offered.capacity + self.offered.slack).all(axis=1)
        return sorted((node for node in np.flatnonzero(able).tolist() if node not in kept), key=lambda node: self.cluster[node].name)

    def take(self, room: Room) -> None:
        """Count a room as made and given to its claimant."""
        for row in room.victims:
            held = self.living.held[row]
            self.gone[row] = True
            self.free[self.living.node[row]] += self.amounts[row]
            self._give_back(row)
            self.lending.take(held.demand.team, self._named(self.amounts[row]), sign=-1.0)
            self._count_quota(held.demand.team, self.amounts[row])
        for row, taken in room.shrunk.items():
            self.amounts[row] -= taken
            self.spare[row] = np.maximum(0.0, self.spare[row] - taken)
            self.free[room.node] += taken
            self._count_quota(self.living.held[row].demand.team, taken)
        need, team = self.asked.minimum[room.claimant.row], room.claimant.demand.team
        self.free[room.node] -= need
        self._count_quota(team, -need)
        self.lending.take(team, self._named(need))
        self._occupy(room.node, need)

    def _count_quota(self, team: str, more: Floats) -> None:
        if team in self.asked.teams:
            self.quota[self.asked.teams.index(team)] += more

    def _give_back(self, row: int) -> None:
        node = int(self.living.node[row])
        if node in self.devices:
            self.devices[node] += self._shares(row, node)

    def _occupy(self, node: int, need: Floats) -> None:
        gpu = self.asked.gpu
        if gpu is None or node not in self.devices or need[gpu] <= 0:
            return
        free, asks = self.devices[node], float(need[gpu])
        if asks >= 1:
            free[np.flatnonzero(free >= WHOLE)[: int(asks)]] = 0.0
        else:
            fitting = np.flatnonzero(free + TINY >= asks)
            free[fitting[np.argmin(free[fitting])]] -= asks

    def _shares(self, row: int, node: int) -> Floats:
        grant = self.living.held[row].grant
        shares = np.zeros(len(self.devices[node]))
        for gpu in grant.gpu_ids:
            if gpu in self._seats[node]:
                shares[self._seats[node][gpu]] = min(1.0, grant.amounts.get("gpu", 1.0))
        return shares

    # One node

    def _room(self, claimant: Claimant, node: int, elastic: Ints, stops: Ints) -> Room | None:
        need = self.asked.minimum[claimant.row]
        chosen = self._victims(claimant, node, elastic, stops)
        if chosen is None:
            return None
        victims = tuple(sorted(row for unit in chosen for row in unit.rows))
        freed = self.amounts[[row for row in victims if self.living.node[row] == node]].sum(axis=0)
        shrunk = self._shrunk(need - self.free[node] - freed, elastic[~np.isin(elastic, victims)], node)
        if not (victims or shrunk):
            return None
        return Room(claimant, node, victims, shrunk, (float(bool(victims)), *cost_of(chosen), float(len(shrunk))))

    def _may_shrink(self, claimant: Claimant, rows: Ints) -> Bools:
        mine = self.living.standing[rows] <= claimant.standing
        if not self.policy.teams:
            return mine
        facts = zip(rows.tolist(), mine.tolist(), strict=True)
        return np.array(
            [self._is_borrowed(claimant, row) or (own and not self._is_guarded(claimant, row)) for row, own in facts], dtype=bool
        )

    def _may_stop(self, claimant: Claimant, rows: Ints) -> Bools:
        """Return which jobs, their whole gangs with them, may be preempted for a demand."""
        living = self.living
        may = living.preemptible[rows].copy()
        if not claimant.reclaims:
            may &= (living.standing[rows] < claimant.standing) & (self.now - living.since[rows] >= self.policy.min_run_s)
        if self.policy.teams or living.gangs:
            may[may] = [all(self._may_stop_one(claimant, one) for one in living.together(row)) for row in rows[may].tolist()]
        return may

    def _may_stop_one(self, claimant: Claimant, row: int) -> bool:
        return bool(self.living.preemptible[row] and not self.gone[row]) and self._matters_less(claimant, row, self.lending)

    def _matters_less(self, claimant: Claimant, row: int, lending: Lending) -> bool:
        if self._is_borrowed(claimant, row, lending):
            return True
        less = self.living.standing[row] < claimant.standing and self.now - self.living.since[row] >= self.policy.min_run_s
        return bool(less) and not self._is_guarded(claimant, row, lending)

    def _is_guarded(self, claimant: Claimant, row: int, lending: Lending | None = None) -> bool:
        held = self.living.held[row]
        return (lending or self.lending).guards(held.demand.team, held.grant.amounts, claimant.demand.team)

    def _is_borrowed(self, claimant: Claimant, row: int, lending: Lending | None = None) -> bool:
        """Return whether a grant has what the claimant's team is guaranteed and takes back."""
        held, known = self.living.held[row], lending or self.lending
        return any(
            held.grant.amounts.get(resource, 0.0) > 0 and known.borrows(held.demand.team, resource, claimant.demand.team)
            for resource in claimant.reclaims
        )

    def _victims(self, claimant: Claimant, node: int, elastic: Ints, stops: Ints) -> list[Unit] | None:
        """Return the cheapest jobs whose end, with all that shrinking frees, makes room; None when there are none."""
        need = self.asked.minimum[claimant.row]
        fit = Fit(
            need=need,
            room=self.free[node] + self.spare[elastic].sum(axis=0) + self.offered.slack[node],
            quota=self.quota[self.asked.team[claimant.row]] * (1 + TINY),
            devices=self.devices.get(node),
            gpu=self.asked.gpu,
        )
        if fit.holds([]):
            return []
        units = self._units(claimant, node, elastic, stops)
        units.sort(key=lambda unit: (unit.standing, unit.lost, unit.rows))
        first = self._cheapest(claimant, units, fit)
        if first is None or len(first) == 1:
            return first
        # None can do with jobs that all matter less; of those that matter as little, fewer may do.
        below = [unit for unit in units if unit.standing <= max(one.standing for one in first)]
        alone = next((found for unit in below if (found := self._cheapest(claimant, [unit], fit))), None)
        largest = self._cheapest(claimant, sorted(below, key=lambda unit: (-fit.gain(unit), unit.lost, unit.rows)), fit)
        return min((found for found in (first, alone, largest) if found is not None), key=cost_of)

    def _units(self, claimant: Claimant, node: int, elastic: Ints, stops: Ints) -> list[Unit]:
        """Return what stops together, a gang once."""
        living, frees = self.living, self.amounts.copy()
        frees[elastic] -= self.spare[elastic]
        lost, nothing = np.maximum(0.0, self.now - living.since), np.zeros(self.amounts.shape[1])
        units = []
        for rows in sorted({living.together(row) for row in stops.tolist()}):
            here = [row for row in rows if living.node[row] == node]
            own = [row for row in rows if living.held[row].demand.team == claimant.demand.team]
            unit = Unit(
                rows=rows,
                frees=total(frees, here, nothing),
                devices=np.sum([self._shares(row, node) for row in here], axis=0) if node in self.devices else None,
                own=total(self.amounts, own, nothing),
                standing=int(max(living.standing[row] for row in rows)),
                lost=float(sum(lost[row] for row in rows)),
            )
            units.append(unit)
        return units

    def _cheapest(self, claimant: Claimant, order: Sequence[Unit], fit: Fit) -> list[Unit] | None:
        """Add jobs in order until there is room, then leave out, the dearest first, whoever is not needed."""
        chosen: list[Unit] = []
        for unit in self._while_borrowed(claimant, order):
            chosen.append(unit)
            if fit.holds(chosen):
                break
        else:
            return None
        for unit in sorted(chosen, key=lambda one: (one.standing, one.lost, one.rows), reverse=True):
            fewer = [one for one in chosen if one is not unit]
            chosen = fewer if fit.holds(fewer) else chosen
        return chosen

    def _while_borrowed(self, claimant: Claimant, order: Sequence[Unit]) -> Iterator[Unit]:
        """Yield those that may stop after those before them have: a team gives back no more than it borrowed."""
        if not self.policy.teams:
            yield from order
            return
        lending = self.lending.copy()
        for unit in order:
            if all(self._matters_less(claimant, row, lending) for row in unit.rows):
                for row in unit.rows:
                    lending.take(self.living.held[row].demand.team, self._named(self.amounts[row]), sign=-1.0)
                yield unit

    def _named(self, amounts: Floats) -> dict[str, float]:
        return dict(zip(self.asked.resources, amounts.tolist(), strict=True))

    def _shrunk(self, missing: Floats, elastic: Ints, node: int) -> dict[int, Floats]:
        """Take what is missing from as few as possible, those that matter least first."""
        slack, capacity = self.offered.slack[node], self.offered.capacity[node]
        missing = np.where(missing > slack, missing, 0.0)
        useful = (np.minimum(self.spare[elastic], missing) / np.where(capacity > 0, capacity, 1.0)).sum(axis=1)
        order = elastic[np.lexsort((elastic, -useful, self.living.standing[elastic]))]
        chosen = [row for row in order.tolist() if (self.spare[row] * (missing > 0)).any()]
        for row in chosen[::-1]:
            fewer = [one for one in chosen if one != row]
            chosen = fewer if (self.spare[fewer].sum(axis=0) + slack >= missing).all() else chosen
        taken: dict[int, Floats] = {}
        for row in chosen:
            taken[row] = np.minimum(self.spare[row], missing)
            missing = missing - taken[row]
        return {row: part for row, part in taken.items() if (part > 0).any()}
