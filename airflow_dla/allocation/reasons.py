"""Why a demand waits, or got less than it wanted, in numbers and in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from airflow_dla.allocation.backfill import Promise
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.solve import Solution
from airflow_dla.allocation.table import RELATIVE, Asked, Bools, Floats, Ints, Offered, read_cluster, read_demands
from airflow_dla.specs import RESOURCES, Demand, Node, Reason, Request

#: How a unit is written after an amount: only where it is not the resource itself.
_UNITS: Final[Mapping[str, str]] = {name: f" {unit}" if unit in {"GiB", "MB/s"} else "" for name, unit in RESOURCES.items()}
_SUFFIXES: Final[Mapping[str, str]] = {name: f"{unit} {name}" for name, unit in _UNITS.items()}

_SHED: Final[Mapping[str, str]] = {
    "strict": "those before it took the rest",
    "proportional": "all shed in proportion to what they want",
    "water-filling": "all share alike until they have what they want",
}


@dataclass(frozen=True, slots=True)
class Nearest:
    """For each of w demands, the node where least is missing.

    Parameters
    ----------
    node : int array, shape (w,)
        -1 where a demand may use no node at all.
    column : int array, shape (w,)
        Resource of which most is missing there, relative to the largest node.
    shortfall : float array, shape (w,)
        How much of it is missing; 0 or less where nothing is.
    room : float array, shape (w,)
        How much of it there is.
    """

    node: Ints
    column: Ints
    shortfall: Floats
    room: Floats


def nearest(asked: Asked, offered: Offered, room: Floats, rows: Ints) -> Nearest:
    """Find where least is missing for each of some demands.

    Parameters
    ----------
    room : float array, shape (G, R)
        What is free, or what there is at all.
    rows : int array, shape (w,)
    """
    size, kind = asked.minimum[rows], asked.kind[rows]
    largest = offered.capacity.max(axis=0, initial=0.0)
    scale = 1.0 / np.where(largest > 0, largest, 1.0)
    scaled, columns = np.ascontiguousarray((size * scale).T), range(len(scale))
    best, node = np.full(len(rows), np.inf), np.full(len(rows), -1, dtype=np.intp)
    for place, free in enumerate((room * scale).tolist()):
        worst = scaled[0] - free[0]
        for column in columns[1:]:
            np.maximum(worst, scaled[column] - free[column], out=worst)
        better = offered.allowed[kind, place] & (worst < best)
        best[better], node[better] = worst[better], place
    return _at(size, scale, room, node)


def _at(size: Floats, scale: Floats, room: Floats, node: Ints) -> Nearest:
    there = room[node] if len(room) else np.zeros_like(size)
    missing = size - there
    column = np.argmax(np.where(size > 0, missing * scale, -np.inf), axis=1)
    at = (np.arange(len(size)), column)
    return Nearest(node=node, column=column, shortfall=missing[at], room=there[at])


def never_grantable(cluster: Sequence[Node], demand: Demand) -> Reason | None:
    """Say why a demand can never be granted, however long it waits; None when it can.

    Compares with what nodes have at all, whatever others hold of it now. A demand bound
    to one node by name may wait for that node to come back, and a cluster without nodes
    may get some.

    Examples
    --------
    >>> laptop = Node(name="laptop", capacity={"cpu": 8})
    >>> never_grantable([laptop], Demand(id="a", request=Request.from_mapping({"cpu": 9}))).text
    'can never be granted: asks 9 cpu, the largest node it may use, laptop, has 8 cpu'
    """
    asked = read_demands([demand], Policy())
    offered = read_cluster(cluster, [], asked, Policy())
    rows = np.zeros(1, dtype=np.intp)
    found = nearest(asked, offered, offered.capacity, rows)
    return _never(asked, offered, found, 0, 0) if is_never(asked, offered, found, rows)[0] else None


def is_never(asked: Asked, offered: Offered, found: Nearest, rows: Ints) -> Bools:
    """Return which of some demands are larger than every node, from where they are nearest to fit."""
    if not offered.names:
        return np.zeros(len(rows), dtype=bool)
    nowhere = found.node < 0
    unnamed = np.array([node is None for _, node, _ in asked.kinds])[asked.kind[rows]]
    too_large = found.shortfall > offered.slack[found.node, found.column]
    return np.where(nowhere, unnamed, too_large)


def _never(asked: Asked, offered: Offered, found: Nearest, place: int, row: int) -> Reason:
    node = int(found.node[place])
    if node < 0:
        return _nowhere(asked, row, never=True)
    resource, room, shortfall = asked.resources[found.column[place]], float(found.room[place]), float(found.shortfall[place])
    needs = _written(resource, room + shortfall)
    return Reason(
        binding=resource,
        node=offered.names[node],
        shortfall=shortfall,
        never=True,
        unblock=(
            f"ask for at most {_written(resource, room)}" if room > 0 else f"ask for no {resource}",
            f"add a node with {needs}" if room > 0 else f"name {resource} in the capacity of a node that has {needs}",
        ),
        text=f"can never be granted: asks {needs}, the largest node it may use, {offered.names[node]}, has {_written(resource, room)}",
    )


def _nowhere(asked: Asked, row: int, *, never: bool, position: int = 0) -> Reason:
    place, node, gpu_type = asked.kinds[asked.kind[row]]
    if node is not None:
        binding, wanted = "node", f"node {node!r}"
    elif gpu_type is not None:
        binding, wanted = "gpu_type", f"node with GPUs of type {gpu_type!r}"
    else:
        binding, wanted = "place", f"node of place {place!r}"
    where = f" in place {place!r}" if place != "any" and binding != "place" else ""
    start = "can never be granted" if never else "waits"
    return Reason(
        binding=binding,
        position=position,
        never=never,
        unblock=(f"add a {wanted}{where}", f"ask for another {binding}"),
        text=f"{start}: there is no {wanted}{where}",
    )


@dataclass(frozen=True, slots=True)
class Reasons:
    """Writes the reasons of one plan.

    Parameters
    ----------
    asked, offered, solution, policy
        The problem and its answer.
    prices : mapping of resource to float
        Shadow prices of the cluster.
    """

    asked: Asked
    offered: Offered
    solution: Solution
    policy: Policy
    prices: Mapping[str, float]

    def waiting(self, rows: Ints, found: Nearest, largest: Nearest) -> Iterator[Reason]:
        """Write a reason for each of `rows`, which wait, in the order of admission.

        Parameters
        ----------
        found, largest : `Nearest`
            Where least is missing of what is free, and of what there is at all.
        """
        never = is_never(self.asked, self.offered, largest, rows)
        positions = np.cumsum(~never)
        beyond_quota = np.asarray((self.asked.minimum[rows] > self.solution.quota[self.asked.team[rows]] * (1 + RELATIVE)).any(axis=1))
        facts = zip(
            rows.tolist(), never.tolist(), beyond_quota.tolist(), positions.tolist(),
            found.node.tolist(), found.column.tolist(), found.shortfall.tolist(), found.room.tolist(), strict=True,
        )  # fmt: skip
        apart = np.asarray((self.asked.minimum[rows] > self.solution.lent[self.asked.team[rows]] * (1 + RELATIVE)).any(axis=1))
        barred, kept = self.solution.admission.barred, self.solution.kept
        for place, (row, hopeless, beyond, position, node, column, shortfall, room) in enumerate(facts):
            if hopeless:
                yield _never(self.asked, self.offered, largest, place, row)
            elif row in barred:
                yield self._unaffordable(row, barred[row], position)
            elif beyond:
                yield self._over_quota(row, position)
            elif node >= 0 and shortfall <= self.offered.slack[node, column] and apart[place]:
                yield self._guaranteed_to_others(row, node, position)
            elif kept is not None and kept.head == row:
                yield self._head(kept, self._short(node, column, shortfall, room, position) if shortfall > 0 else None, position)
            elif kept is not None and node >= 0 and shortfall <= self.offered.slack[node, column]:
                yield self._kept_back(kept, position)
            elif node < 0:
                yield self._no_node(row, position)
            elif shortfall <= self.offered.slack[node, column]:
                yield self._scattered(row, node, column, position)
            else:
                yield self._short(node, column, shortfall, room, position)

    def _short(self, node: int, column: int, shortfall: float, room: float, position: int) -> Reason:
        resource, name = self.asked.resources[column], self.offered.names[node]
        more = f"{shortfall:g}{_UNITS[resource]}"
        room = max(room, 0.0)
        wait, add = f"wait until {more} more {resource} are free on {name}", f"add {more} {resource}"
        lower = f"lower the minimum of {resource} to {room:g}{_UNITS[resource]}"
        return Reason(
            binding=resource,
            node=name,
            shortfall=shortfall,
            price=self.prices.get(resource, 0.0),
            position=position,
            unblock=(wait, lower, add) if room > 0 else (wait, add),
            text=f"waits as number {position}: needs {_written(resource, room + shortfall)}, {name} has {room:g} free",
        )

    def _scattered(self, row: int, node: int, column: int, position: int) -> Reason:
        """Explain a demand that sums would admit: no single GPU, or no free moment, holds it."""
        gpu = self.asked.gpu
        column = column if gpu is None or self.asked.minimum[row, gpu] == 0 else gpu
        resource, name = self.asked.resources[column], self.offered.names[node]
        needs = _written(resource, float(self.asked.minimum[row, column]))
        return Reason(
            binding=resource,
            node=name,
            price=self.prices.get(resource, 0.0),
            position=position,
            unblock=(f"wait until {needs} are free in one piece on {name}",),
            text=f"waits as number {position}: needs {needs} in one piece, what is free on {name} is scattered",
        )

    def _unaffordable(self, row: int, tokens: float, position: int) -> Reason:
        team = self.asked.teams[self.asked.team[row]]
        return Reason(
            binding="budget",
            shortfall=tokens,
            position=position,
            unblock=(f"wait until the budget of team {team} is refilled", f"raise the budget of team {team} by {tokens:g} tokens"),
            text=f"waits as number {position}: costs {tokens:g} tokens, more than the budget of team {team} leaves",
        )

    def _guaranteed_to_others(self, row: int, node: int, position: int) -> Reason:
        team, missing = self.asked.teams[self.asked.team[row]], self.asked.minimum[row] - self.solution.lent[self.asked.team[row]]
        column = int(np.argmax(np.where(self.asked.minimum[row] > 0, missing, -np.inf)))
        more = _written(self.asked.resources[column], max(0.0, float(missing[column])))
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

    def _head(self, kept: Promise, short: Reason | None, position: int) -> Reason:
        """Explain the head of the queue: what it lacks, and when it starts if that is known."""
        name = self.offered.names[kept.node]
        known = bool(np.isfinite(kept.at))
        reason = short or self._scattered(kept.head, kept.node, 0, position)
        promised = f"it starts on {name} at about {kept.at:.0f}" if known else f"{name} is kept for it"
        return replace(reason, expected_start=kept.at if known else None, text=f"{reason.text}; {promised}")

    def _kept_back(self, kept: Promise, position: int) -> Reason:
        """Explain a demand that would fit, but would delay the head of the queue."""
        name = self.offered.names[kept.node]
        head = f"the head of the queue, which needs {_written(self._binding(kept), self._needed(kept))},"
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

    def _over_quota(self, row: int, position: int) -> Reason:
        left = self.solution.quota[self.asked.team[row]]
        missing = self.asked.minimum[row] - left
        column = int(np.argmax(np.where(np.isfinite(left), missing, -np.inf)))
        resource, team = self.asked.resources[column], self.asked.teams[self.asked.team[row]]
        more, needs = _written(resource, float(missing[column])), _written(resource, float(self.asked.minimum[row, column]))
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

    def _no_node(self, row: int, position: int) -> Reason:
        if self.offered.names:
            return _nowhere(self.asked, row, never=False, position=position)
        return Reason(
            binding="node",
            position=position,
            unblock=("register a node: start a worker or name the capacity in the workspace's connection",),
            text=f"waits as number {position}: there is no node yet",
        )

    def shrunk(self, rows: Ints) -> Iterator[Reason]:
        """Write a reason for each of `rows`, which got less than they wanted."""
        wanted, got, permitted = self.asked.wanted[rows], self.solution.amounts[rows], self.solution.permitted[rows]
        column = np.argmax((wanted - got) / np.where(wanted > 0, wanted, 1.0), axis=1)
        at = (np.arange(len(rows)), column)
        by_quota = permitted[at] < wanted[at] * (1 - RELATIVE)
        nodes = self.solution.where[rows]
        facts = zip(nodes.tolist(), column.tolist(), wanted[at].tolist(), got[at].tolist(), by_quota.tolist(), rows.tolist(), strict=True)
        for node, resource, want, have, capped, row in facts:
            team = self.asked.teams[self.asked.team[row]]
            yield self._less(node, self.asked.resources[resource], want, have, team if capped else None)

    def _less(self, node: int, resource: str, want: float, have: float, team: str | None) -> Reason:
        name, unit = self.offered.names[node], _UNITS[resource]
        more = f"+{want - have:g}{unit} {resource}"
        why = _SHED[self.policy.shedding] if team is None else f"the quota of team {team} leaves no more"
        return Reason(
            binding=resource if team is None else "quota",
            node=name,
            shortfall=want - have,
            price=self.prices.get(resource, 0.0),
            unblock=(f"{more} on {name}", "raise its priority or weight") if team is None else (f"{more} in the quota of team {team}",),
            text=f"got {have:g} of {want:g}{unit} {resource} on {name}: {why}",
        )


def grant_reason(request: Request, node: str, amounts: Mapping[str, float], shrunk: Reason | None) -> str:
    """Say in one sentence why a grant is as large as it is.

    Examples
    --------
    >>> grant_reason(Request.from_mapping({"cpu": "1-2"}), "laptop", {"cpu": 2.0}, None)
    'asked 1-2 cpu, got 2 cpu: all that was wanted was free on laptop'
    >>> grant_reason(Request.from_mapping({"cpu": 2}), "laptop", {"cpu": 2.0}, None)
    'got all it asked, 2 cpu: it was free on laptop'
    """
    if shrunk is not None:
        return f"asked {_ranges(request)}, {shrunk.text}"
    got = ", ".join([f"{value:g}{_SUFFIXES[resource]}" for resource, value in amounts.items()])
    ranged = _ranges(request)
    if not ranged:
        return f"got all it asked, {got}: it was free on {node}"
    return f"asked {ranged}, got {got}: all that was wanted was free on {node}"


def _ranges(request: Request) -> str:
    texts = [
        f"{found.minimum:g}-{found.wanted:g}{_UNITS[resource]}{'/gpu' if found.per_gpu else ''} {resource}"
        for resource, found in request.amounts.items()
        if found.minimum != found.wanted
    ]
    return ", ".join(texts)


def _written(resource: str, value: float) -> str:
    return f"{value:g}{_SUFFIXES[resource]}"
