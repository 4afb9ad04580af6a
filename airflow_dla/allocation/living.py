"""Live grants as arrays: what each holds, what it could spare, and how much it matters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from airflow_dla.allocation.table import Bools, Floats, Ints, waited
from airflow_dla.specs import Demand, Grant, Held, Node

#: What can change while a job runs; whoever holds GPUs keeps them until it ends.
CHANGEABLE: Final = ("cpu", "memory")

_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Living:
    """L live grants that nobody has asked to stop, as they will be once what was told is done; R resources.

    Parameters
    ----------
    held : tuple of `Held`
        By id.
    node : int array, shape (L,)
    amounts : float array, shape (L, R)
    spare : float array, shape (L, R)
        What each has above its minimum and could give back; 0 where it cannot change.
    standing : int array, shape (L,)
        Priority, aged like that of a demand that waits.
    since : float array, shape (L,)
    preemptible : bool array, shape (L,)
    gangs : mapping of str to tuple of int
        Rows of each gang.
    """

    held: tuple[Held, ...]
    node: Ints
    amounts: Floats
    spare: Floats
    standing: Ints
    since: Floats
    preemptible: Bools
    gangs: Mapping[str, tuple[int, ...]]

    def together(self, row: int) -> tuple[int, ...]:
        """Return the rows that stop when one does: its gang's, or its own."""
        gang = self.held[row].demand.gang
        return (row,) if gang is None else self.gangs[gang]


def read_living(cluster: Sequence[Node], held: Iterable[Held], resources: Sequence[str], *, now: float, ageing_s: float | None) -> Living:
    """Turn live grants into arrays; those that stop, and those on nodes that are not here, are left out."""
    place = {node.name: row for row, node in enumerate(cluster)}
    here = tuple(sorted((one for one in held if not one.stopping and one.grant.node in place), key=lambda one: one.grant.id))
    shape = (len(here), len(resources))
    created = np.array([one.demand.created_at for one in here], dtype=float)
    gangs: defaultdict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(here):
        if one.demand.gang is not None:
            gangs[one.demand.gang].append(row)
    return Living(
        held=here,
        node=np.array([place[one.grant.node] for one in here], dtype=np.intp),
        amounts=np.array([[settled(one).amounts.get(name, 0.0) for name in resources] for one in here], dtype=float).reshape(shape),
        spare=np.array([_spare(one, resources) for one in here], dtype=float).reshape(shape),
        standing=np.array([one.demand.priority for one in here], dtype=np.intp) + waited(created, now, ageing_s),
        since=np.array([one.since for one in here], dtype=float),
        preemptible=np.array([one.demand.preemptible for one in here], dtype=bool),
        gangs={gang: tuple(rows) for gang, rows in gangs.items()},
    )


def settled(held: Held) -> Grant:
    """Return what a live grant will be once its holder has done what it was told."""
    return held.target or held.grant


def changes(held: Held) -> bool:
    """Return whether a live grant may be told to change: nothing else is under way, and a change was never refused."""
    return held.target is None and not (held.rigid or held.stopping)


def is_elastic(demand: Demand) -> bool:
    """Return whether a demand can run with more or less of what can change."""
    return any(found.minimum < found.wanted for name in CHANGEABLE if (found := demand.request.amounts.get(name)) is not None)


def span(demand: Demand, grant: Grant, resource: str) -> tuple[float, float]:
    """Return the least and the most of a resource that a live grant may have with the GPUs it holds.

    Examples
    --------
    >>> from airflow_dla.specs import Request
    >>> job = Demand(id="a", request=Request.from_mapping({"gpu": 2, "cpu": "2-4/gpu"}))
    >>> span(job, Grant(id="a", node="n1", amounts={"gpu": 2.0, "cpu": 6.0}), "cpu")
    (4.0, 8.0)
    """
    found = demand.request.amounts[resource]
    gpu = demand.request.amounts.get("gpu")
    times = max(grant.amounts.get("gpu", 0.0), min(1.0, gpu.wanted)) if found.per_gpu and gpu else 1.0
    return found.minimum * times, found.wanted * times


def _spare(held: Held, resources: Sequence[str]) -> list[float]:
    grant, asked = held.grant, held.demand.request.amounts
    if not changes(held):
        return [0.0] * len(resources)
    return [
        _above(grant.amounts.get(name, 0.0), span(held.demand, grant, name)[0]) if name in CHANGEABLE and name in asked else 0.0
        for name in resources
    ]


def _above(amount: float, least: float) -> float:
    return amount - least if amount - least > _TINY * amount else 0.0


def summed(live: Iterable[tuple[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return what teams hold, from the team and the amounts of every grant."""
    used: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for team, amounts in live:
        for resource, amount in amounts.items():
            used[team][resource] += amount
    return {team: dict(amounts) for team, amounts in used.items()}
