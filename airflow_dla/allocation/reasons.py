"""Why a demand waits, or got less than it wanted, in numbers and in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from airflow_dla.allocation.gang_reasons import gang_reasons
from airflow_dla.allocation.growth import Growth
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.remedies import Remedies
from airflow_dla.allocation.rules import Rules, listed, moment, unit_after, written
from airflow_dla.allocation.solve import Solution
from airflow_dla.allocation.starts import starts
from airflow_dla.allocation.table import RELATIVE, Asked, Bools, Floats, Ints, Offered, read_cluster, read_demands
from airflow_dla.specs import Demand, Node, Reason, Request, Step, Unblock

_SHED: Final[Mapping[str, str]] = {
    "strict": "those before it took the rest",
    "proportional": "all shed in proportion to what they want",
    "water-filling": "all share alike until they have what they want",
}
#: What keeps demands out that would fit: nobody knows until when.
_RULES: Final = ("budget", "quota", "guarantee", "node", "place", "gpu_type", "labels", "gang", "expected")


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


def nearest(asked: Asked, offered: Offered, room: Floats, rows: Ints, *, able: bool = False) -> Nearest:
    """Find where least is missing for each of some demands.

    Parameters
    ----------
    room : float array, shape (G, R)
        What is free, or what there is at all.
    rows : int array, shape (w,)
    able : bool
        Whether only nodes count that could hold the demand if they were empty.
    """
    size, kind = asked.minimum[rows], asked.kind[rows]
    largest = offered.capacity.max(axis=0, initial=0.0)
    scale = 1.0 / np.where(largest > 0, largest, 1.0)
    scaled, columns = np.ascontiguousarray((size * scale).T), range(len(scale))
    most = offered.capacity + offered.slack
    small = (size.max(axis=0, initial=0.0) > most).any(axis=1)
    best, node = np.full(len(rows), np.inf), np.full(len(rows), -1, dtype=np.intp)
    for place, free in enumerate((room * scale).tolist()):
        worst = scaled[0] - free[0]
        for column in columns[1:]:
            np.maximum(worst, scaled[column] - free[column], out=worst)
        better = offered.allowed[kind, place] & (worst < best)
        if able and small[place]:
            better &= (size <= most[place]).all(axis=1)
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
        unblock=_larger_nodes(asked, offered, row, node),
        text=f"can never be granted: asks {needs}, the largest node it may use, {offered.names[node]}, has {written(resource, room)}",
    )


def _asks(asked: Asked, row: int) -> dict[str, float]:
    return {resource: float(value) for resource, value in zip(asked.resources, asked.minimum[row], strict=True) if value > 0}


def _larger_nodes(asked: Asked, offered: Offered, row: int, node: int) -> tuple[Unblock, ...]:
    """Say what would make a demand fit a node, or a node fit it: in all that is short, not only in what is short most."""
    need, room = asked.minimum[row], offered.capacity[node]
    short = need > room + offered.slack[node]
    asks = _asks(asked, row)
    most = {resource: float(value) for resource, value, less in zip(asked.resources, room, short, strict=True) if less}
    if "gpu" in most and asked.wanted[row, asked.resources.index("gpu")] > 1:
        most["gpu"] = float(np.floor(most["gpu"]))
    said = [f"at most {written(resource, value)}" if value > 0 else f"no {resource}" for resource, value in most.items()]
    fewer = Unblock(f"ask for {', '.join(said)}", (Step(kind="lower", amounts=most),))
    if len(most) == 1 and not room[short].any():
        resource = next(iter(most))
        sentence = f"name {resource} in the capacity of a node that has {written(resource, asks[resource])}"
        return fewer, Unblock(sentence, (Step(kind="capacity", amounts={resource: asks[resource]}, node=offered.names[node]),))
    return fewer, Unblock(f"add a node with {listed(asks)}", (Step(kind="node", amounts=asks),))


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
    added = Unblock(f"add a {wanted}{where} that has {listed(_asks(asked, row))}", (Step(kind="node", amounts=_asks(asked, row)),))
    elsewhere = bool((asked.minimum[row] <= offered.capacity + offered.slack).all(axis=1).any())
    return Reason(
        binding=binding,
        position=position,
        never=never,
        unblock=(added, Unblock(f"ask for {other}", (Step(kind="elsewhere"),))) if never and elsewhere else (added,),
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
        reasons = self._waiting(rows, found, largest)
        if self.offered.leaving is None or not self.policy.told:
            yield from reasons
            return
        each = list(reasons)
        yield from self._with_starts(rows, each)

    def _with_starts(self, rows: Ints, reasons: list[Reason]) -> Iterator[Reason]:
        """Add to reasons when those start who wait for room."""
        roomless = [not (reason.never or reason.binding in _RULES) for reason in reasons]
        queue = rows[np.array(roomless, dtype=bool)][: self.policy.told]
        if not len(queue):
            yield from reasons
            return
        told = starts(self.asked, self.offered, self.policy, queue=queue, where=self.solution.where, amounts=self.solution.amounts)
        times = dict(zip(queue.tolist(), zip(told.low.tolist(), told.middle.tolist(), told.high.tolist(), strict=True), strict=True))
        for row, reason in zip(rows.tolist(), reasons, strict=True):
            low, middle, high = times.get(row, (np.inf, np.inf, np.inf))
            # Members of a gang stand in the way of others, but start together: the promise alone says when.
            alone = self.asked.gangs is None or self.asked.gangs.of[row] < 0
            yield _told(reason, low, middle, high) if alone and middle < np.inf else reason

    def _waiting(self, rows: Ints, found: Nearest, largest: Nearest) -> Iterator[Reason]:
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
        refused, barred, kept = self.solution.refused, self.solution.admission.barred, self.solution.kept
        remedies = Remedies(self.asked, self.offered, self.solution, self.policy, rows)
        for place, (row, hopeless, beyond, position, node, column, shortfall, room) in enumerate(facts):
            if hopeless and row not in gangs.never:
                yield _never(self.asked, self.offered, largest, place, row)
                continue
            if gangs.has(row) and row not in barred and row not in refused:
                yield gangs.reason(row, position)
                continue
            if node < 0:
                yield self._no_node(row, position)
                continue
            fitting, head = fits[place], kept is not None and row in kept.heads
            behind = kept is not None and fitting and not (head or row in barred or row in refused or beyond or apart[place])
            unblock = () if row in refused else remedies.waiting(place, node, kept=behind)
            if row in barred or row in refused:
                yield rules.aside(row, node, position, unblock)
            elif beyond:
                yield rules.quota(self.asked.team[row], self.asked.minimum[row], position, unblock)
            elif fitting and apart[place]:
                yield rules.guarantee(self.asked.team[row], self.asked.minimum[row], node, position, unblock)
            elif behind:
                yield rules.kept_back(position, unblock)
            else:
                lacking = self._short(node, column, shortfall=shortfall, room=room, position=position, unblock=unblock)
                reason = self._scattered(row, node, column, position, unblock) if fitting else lacking
                yield rules.head(reason) if head else reason

    def _fits(self, found: Nearest) -> Bools:
        """Return for which demands nothing is missing where they are nearest to fit."""
        fits, there = np.zeros(len(found.node), dtype=bool), np.flatnonzero(found.node >= 0)
        fits[there] = found.shortfall[there] <= self.offered.slack[found.node[there], found.column[there]]
        return fits

    def _short(self, node: int, column: int, *, shortfall: float, room: float, position: int, unblock: tuple[str, ...]) -> Reason:
        resource, name = self.asked.resources[column], self.offered.names[node]
        room = max(room, 0.0)
        return Reason(
            binding=resource,
            node=name,
            shortfall=shortfall,
            price=self.prices.get(resource, 0.0),
            position=position,
            unblock=unblock,
            text=f"waits as number {position}: needs {written(resource, room + shortfall)}, {name} has {room:g} free",
        )

    def _scattered(self, row: int, node: int, column: int, position: int, unblock: tuple[str, ...]) -> Reason:
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
            unblock=unblock,
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
        remedies = Growth(self.asked, self.solution, self.policy, self.offered.names)
        # Jobs that asked for the same and got the same share one reason: nothing takes longer than to write one.
        known: dict[tuple[int, int, float, float, str | None], Reason] = {}
        for node, resource, want, have, capped, row in facts:
            team = self.asked.teams[self.asked.team[row]] if capped else None
            key = (node, resource, want, have, team)
            if key not in known:
                unblock = remedies.of(row, node, resource, team)
                name = self.offered.names[node]
                known[key] = self._less(
                    name, self.asked.resources[resource], want, have, price=prices[resource], team=team, unblock=unblock
                )
            yield known[key]

    def _less(
        self, name: str, resource: str, want: float, have: float, *, price: float, team: str | None, unblock: tuple[str, ...]
    ) -> Reason:
        why = _SHED[self.policy.shedding] if team is None else f"the quota of team {team} leaves no more"
        return Reason(
            binding=resource if team is None else "quota",
            node=name,
            shortfall=want - have,
            price=price,
            unblock=unblock,
            text=f"got {have:g} of {want:g}{unit_after(resource)} {resource} on {name}: {why}",
        )


def _told(reason: Reason, low: float, middle: float, high: float) -> Reason:
    span = f", between {moment(low)} and {moment(high)} in 4 of 5 cases" if high < np.inf else ""
    return replace(
        reason,
        expected_start=middle,
        start_low=low,
        start_high=high if high < np.inf else None,
        text=f"{reason.text}; it should start at about {moment(middle)}{span}",
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
