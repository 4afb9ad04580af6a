"""Why a demand waits, or got less than it wanted, in numbers and in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from airflow_dla.allocation.gang_reasons import gang_reasons
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.rules import Rules, unit_after, written
from airflow_dla.allocation.solve import Solution
from airflow_dla.allocation.table import RELATIVE, Asked, Bools, Floats, Ints, Offered, read_cluster, read_demands
from airflow_dla.specs import Demand, Node, Reason, Request

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
    # A node that is not there may come back; one that is there has the labels it has.
    hopeless = np.array([kind.node is None or kind.node in offered.names for kind in asked.kinds])[asked.kind[rows]]
    too_large = found.shortfall > offered.slack[found.node, found.column]
    return np.where(nowhere, hopeless, too_large)


def _never(asked: Asked, offered: Offered, found: Nearest, place: int, row: int) -> Reason:
    node = int(found.node[place])
    if node < 0:
        return _nowhere(asked, offered, row, never=True)
    resource, room, shortfall = asked.resources[found.column[place]], float(found.room[place]), float(found.shortfall[place])
    needs = written(resource, room + shortfall)
    return Reason(
        binding=resource,
        node=offered.names[node],
        shortfall=shortfall,
        never=True,
        unblock=(
            f"ask for at most {written(resource, room)}" if room > 0 else f"ask for no {resource}",
            f"add a node with {needs}" if room > 0 else f"name {resource} in the capacity of a node that has {needs}",
        ),
        text=f"can never be granted: asks {needs}, the largest node it may use, {offered.names[node]}, has {written(resource, room)}",
    )


def _nowhere(asked: Asked, offered: Offered, row: int, *, never: bool, position: int = 0) -> Reason:
    kind = asked.kinds[asked.kind[row]]
    labels = ", ".join(f"{label}={value}" for label, value in kind.labels)
    carrying = " and ".join([f"labels {labels}"] * bool(labels) + [f"GPUs of type {kind.gpu_type!r}"] * bool(kind.gpu_type))
    node = f"node {kind.node!r}" if kind.node is not None else "node"
    binding, wanted, other = "place", f"{node} of place {kind.place!r}", "another place"
    if kind.node is not None and kind.node not in offered.names:
        binding, wanted, other = "node", node, "another node"
    elif carrying:
        binding, other = ("labels", "other labels") if labels else ("gpu_type", "another gpu_type")
        wanted = f"{node} with {carrying}"
    where = f" in place {kind.place!r}" if kind.place != "any" and binding != "place" else ""
    start = "can never be granted" if never else "waits"
    return Reason(
        binding=binding,
        position=position,
        never=never,
        unblock=(f"add a {wanted}{where}", f"ask for {other}"),
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
        rules = Rules(self.asked, self.offered, self.solution, self.policy)
        gangs = gang_reasons(self.asked, self.offered, self.solution, rules=rules, never=rows[never], prices=self.prices)
        never |= np.isin(rows, list(gangs.never))
        positions = np.cumsum(~never)
        beyond_quota = np.asarray((self.asked.minimum[rows] > self.solution.quota[self.asked.team[rows]] * (1 + RELATIVE)).any(axis=1))
        facts = zip(
            rows.tolist(), never.tolist(), beyond_quota.tolist(), positions.tolist(),
            found.node.tolist(), found.column.tolist(), found.shortfall.tolist(), found.room.tolist(), strict=True,
        )  # fmt: skip
        apart = np.asarray((self.asked.minimum[rows] > self.solution.lent[self.asked.team[rows]] * (1 + RELATIVE)).any(axis=1))
        fits = self._fits(found).tolist()
        aside, kept = {*self.solution.admission.barred, *self.solution.refused}, self.solution.kept
        for place, (row, hopeless, beyond, position, node, column, shortfall, room) in enumerate(facts):
            if hopeless and row not in gangs.never:
                yield _never(self.asked, self.offered, largest, place, row)
            elif row in aside:
                yield rules.aside(row, node, position)
            elif gangs.has(row):
                yield gangs.reason(row, position)
            elif beyond:
                yield rules.quota(self.asked.team[row], self.asked.minimum[row], position)
            elif fits[place] and apart[place]:
                yield rules.guarantee(self.asked.team[row], self.asked.minimum[row], node, position)
            elif kept is not None and row in kept.heads:
                lacking = self._short(node, column, shortfall, room, position)
                yield rules.head(lacking if shortfall > 0 else self._scattered(row, kept.node, 0, position))
            elif node >= 0 and not fits[place]:
                yield self._short(node, column, shortfall, room, position)
            else:
                yield self._out_of_place(row, node, column, position, rules)

    def _out_of_place(self, row: int, node: int, column: int, position: int, rules: Rules) -> Reason:
        """Explain a demand that may use no node, or that would fit by the sums."""
        if node < 0:
            return self._no_node(row, position)
        return self._scattered(row, node, column, position) if self.solution.kept is None else rules.kept_back(position)

    def _fits(self, found: Nearest) -> Bools:
        """Return for which demands nothing is missing where they are nearest to fit."""
        fits, there = np.zeros(len(found.node), dtype=bool), np.flatnonzero(found.node >= 0)
        fits[there] = found.shortfall[there] <= self.offered.slack[found.node[there], found.column[there]]
        return fits

    def _short(self, node: int, column: int, shortfall: float, room: float, position: int) -> Reason:
        resource, name = self.asked.resources[column], self.offered.names[node]
        more = f"{shortfall:g}{unit_after(resource)}"
        room = max(room, 0.0)
        wait, add = f"wait until {more} more {resource} are free on {name}", f"add {more} {resource}"
        lower = f"lower the minimum of {resource} to {room:g}{unit_after(resource)}"
        return Reason(
            binding=resource,
            node=name,
            shortfall=shortfall,
            price=self.prices.get(resource, 0.0),
            position=position,
            unblock=(wait, lower, add) if room > 0 else (wait, add),
            text=f"waits as number {position}: needs {written(resource, room + shortfall)}, {name} has {room:g} free",
        )

    def _scattered(self, row: int, node: int, column: int, position: int) -> Reason:
        """Explain a demand that sums would admit: no single GPU, or no free moment, holds it."""
        gpu = self.asked.gpu
        column = column if gpu is None or self.asked.minimum[row, gpu] == 0 else gpu
        resource, name = self.asked.resources[column], self.offered.names[node]
        needs = written(resource, float(self.asked.minimum[row, column]))
        return Reason(
            binding=resource,
            node=name,
            price=self.prices.get(resource, 0.0),
            position=position,
            unblock=(f"wait until {needs} are free in one piece on {name}",),
            text=f"waits as number {position}: needs {needs} in one piece, what is free on {name} is scattered",
        )

    def _no_node(self, row: int, position: int) -> Reason:
        if self.offered.names:
            return _nowhere(self.asked, self.offered, row, never=False, position=position)
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
        prices = [self.prices.get(resource, 0.0) for resource in self.asked.resources]
        # Jobs that asked for the same and got the same share one reason: nothing takes longer than to write one.
        known: dict[tuple[int, int, float, float, str | None], Reason] = {}
        for node, resource, want, have, capped, row in facts:
            team = self.asked.teams[self.asked.team[row]] if capped else None
            key = (node, resource, want, have, team)
            if key not in known:
                name = self.offered.names[node]
                known[key] = self._less(name, self.asked.resources[resource], want, have, price=prices[resource], team=team)
            yield known[key]

    def _less(self, name: str, resource: str, want: float, have: float, *, price: float, team: str | None) -> Reason:
        unit, short = unit_after(resource), want - have
        if team is not None:
            return Reason(
                binding="quota",
                node=name,
                shortfall=short,
                price=price,
                unblock=(f"+{short:g}{unit} {resource} in the quota of team {team}",),
                text=f"got {have:g} of {want:g}{unit} {resource} on {name}: the quota of team {team} leaves no more",
            )
        return Reason(
            binding=resource,
            node=name,
            shortfall=short,
            price=price,
            unblock=(f"+{short:g}{unit} {resource} on {name}", "raise its priority or weight"),
            text=f"got {have:g} of {want:g}{unit} {resource} on {name}: {_SHED[self.policy.shedding]}",
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
    got = _template(tuple(amounts)) % tuple(amounts.values())
    ranged = _ranges(request)
    if not ranged:
        return f"got all it asked, {got}: it was free on {node}"
    return f"asked {ranged}, got {got}: all that was wanted was free on {node}"


def _ranges(request: Request) -> str:
    texts = [
        _range(resource, found.minimum, found.wanted, found.per_gpu)
        for resource, found in request.amounts.items()
        if found.minimum != found.wanted
    ]
    return ", ".join(texts)


# To fill in a template takes half as long as to join its parts.
@lru_cache(maxsize=256)
def _template(resources: tuple[str, ...]) -> str:
    return ", ".join(f"%g{unit_after(resource)} {resource}" for resource in resources)


# Many ask for the same few amounts, and to write a number takes longer than to look it up.
@lru_cache(maxsize=4096)
def _range(resource: str, minimum: float, wanted: float, per_gpu: bool) -> str:  # noqa: FBT001 positional, since that is what is looked up
    return f"{minimum:g}-{wanted:g}{unit_after(resource)}{'/gpu' if per_gpu else ''} {resource}"
