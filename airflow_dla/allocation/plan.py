"""The decision as a whole: objects in, objects out; the arithmetic lies in `solve`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import TypeVar

import numpy as np

from airflow_dla.allocation.devices import charged_cpus, hand_out_cpus
from airflow_dla.allocation.problem import Plan, Policy
from airflow_dla.allocation.reasons import Reasons, grant_reason, is_never, nearest
from airflow_dla.allocation.solve import Solution, solve
from airflow_dla.allocation.table import RELATIVE, Asked, Ints, idle_slices, read_cluster, read_demands
from airflow_dla.specs import Demand, Grant, Node, Reason
from airflow_dla.specs.grants import make_grant

_OPTIMAL = 1e-9
_LATE = "its deadline cannot be met any more, even if it starts now"
_Made = TypeVar("_Made")


def plan(cluster: Sequence[Node], live: Sequence[Grant], pending: Sequence[Demand], policy: Policy, now: float) -> Plan:
    r"""Decide who gets how much of which node, and say why the others wait.

    Minima are admitted in the order of the strategy, each demand on the fullest node that
    fits; one that does not fit waits, a later one that fits may start. What nodes have
    above the minima is then shared out by the policy's shedding, up to what is wanted.
    Quotas and the limits of teams hold for both. Where the policy gives the ends of live
    grants, one that may start may not delay the head of the queue. Live grants are constants: never shrunk, grown or preempted.

    Parameters
    ----------
    cluster : sequence of `Node`
        A resource that a node does not name is not offered there.
    live : sequence of `Grant`
        What is granted already, charged to its node.
    pending : sequence of `Demand`
        In any order; ids are unique.
    policy : `Policy`
    now : float
        Seconds since the epoch.

    Returns
    -------
    `Plan`
        Every demand is in `grants` or in `waiting`; one that got less than it wanted is
        also in `shrunk`.

    Raises
    ------
    SolverFailed
        If a linear programme is needed and does not end at an optimum.

    Notes
    -----
    The answer does not depend on the order of `pending`, nor on units: k times as much of
    everything gives k times the amounts.

    Examples
    --------
    >>> from airflow_dla.specs import Request
    >>> room = [Node(name="n1", capacity={"cpu": 60})]
    >>> asked = [Demand(id=name, request=Request.from_mapping({"cpu": cpu})) for name, cpu in [("a", 50), ("b", 30)]]
    >>> answer = plan(room, [], asked, Policy(), 0.0)
    >>> answer.grants["a"].text()
    '50 cpu on n1'
    >>> answer.waiting["b"].text
    'waits as number 1: needs 30 cpu, n1 has 10 free'
    """
    if not pending:
        return Plan(prices=_no_prices(cluster))
    asked = read_demands(pending, policy, now)
    offered = read_cluster(cluster, live, asked, policy, now)
    solution = solve(asked, offered, policy)
    queue = solution.order[solution.where[solution.order] < 0]
    found = nearest(asked, offered, solution.free, queue, able=True)
    largest = nearest(asked, offered, offered.capacity, queue)
    short = (found.shortfall > 0) & (found.node >= 0) & ~is_never(asked, offered, largest, queue)
    prices = _prices(cluster, asked, solution, queue[short], found.column[short])
    reasons = Reasons(asked, offered, solution, policy, prices)
    names = [demand.id for demand in pending]
    # In the order of `pending`, as demands lie in memory: in any other, to read them takes far longer.
    rows = np.flatnonzero(solution.where >= 0)
    fewer = _shrunk(asked, solution)
    shrunk = dict(zip(fewer.tolist(), reasons.shrunk(fewer), strict=True))
    grants = _grants(cluster, live, pending, rows=rows, asked=asked, solution=solution, shrunk=shrunk)
    late = _too_late(pending, policy, now)
    waiting = dict(zip([names[row] for row in queue.tolist()], reasons.waiting(queue, found, largest), strict=True))
    return Plan(
        grants=_by_name(names, solution.order, rows, grants),
        waiting=_warned(late, waiting),
        shrunk=_warned(late, _by_name(names, solution.order, fewer, shrunk.values())),
        prices=prices,
        payments=_payments(names, solution),
        status=_status(solution.admission.gap(solution.where)),
    )


def _by_name(names: Sequence[str], order: Ints, rows: Ints, made: Iterable[_Made]) -> dict[str, _Made]:
    """Return by id what was made for each of `rows`, which ascend; the ids follow `order`."""
    place = np.full(len(names), -1, dtype=np.intp)
    place[rows] = np.arange(len(rows))
    order = order[place[order] >= 0]
    found = list(made)
    return dict(zip([names[row] for row in order.tolist()], [found[at] for at in place[order].tolist()], strict=True))


def _too_late(pending: Sequence[Demand], policy: Policy, now: float) -> list[str]:
    """Return the demands that would miss their deadline even if they started now."""
    due = [demand for demand in pending if demand.deadline is not None]
    return [demand.id for demand in due if now + policy.runs.get(demand.id, demand.run_s or 0.0) > (demand.deadline or 0.0)]


def _warned(late: Sequence[str], reasons: dict[str, Reason]) -> dict[str, Reason]:
    """Add to the reasons of those that are late already that they are."""
    known = {name: reasons[name] for name in late if name in reasons and not reasons[name].never}
    return reasons | {name: replace(why, text=f"{why.text}; {_LATE}") for name, why in known.items()}


def _payments(names: Sequence[str], solution: Solution) -> dict[str, float]:
    asked = solution.admission.payments
    if asked is None:
        return {}
    return {names[row]: float(asked[row]) for row in solution.order.tolist() if solution.where[row] >= 0}


def _status(gap: float) -> str:
    return f"within {gap:.1%} of the best bound" if gap > _OPTIMAL else "optimal"


def _no_prices(cluster: Sequence[Node]) -> dict[str, float]:
    return {resource: 0.0 for node in cluster for resource in node.capacity}


def _prices(cluster: Sequence[Node], asked: Asked, solution: Solution, queue: Ints, column: Ints) -> dict[str, float]:
    """Take the market's prices, else the dearest node's, or the weight of who waits first: what it would give for a unit."""
    if solution.admission.price is not None:
        cleared = dict(zip(asked.resources, solution.admission.price.tolist(), strict=True))
        return {resource: cleared.get(resource, 0.0) for resource in _no_prices(cluster)}
    highest = solution.price.max(axis=0, initial=0.0)
    first = np.zeros(len(highest))
    first[column[::-1]] = asked.weight[queue[::-1]]
    found = dict(zip(asked.resources, np.maximum(highest, first).tolist(), strict=True))
    return {resource: found.get(resource, 0.0) for resource in _no_prices(cluster)}


def _shrunk(asked: Asked, solution: Solution) -> Ints:
    less = np.logical_or.reduce(solution.amounts < asked.wanted * (1 - RELATIVE), axis=1)
    return np.flatnonzero(less & (solution.where >= 0))


def _grants(
    cluster: Sequence[Node],
    live: Sequence[Grant],
    pending: Sequence[Demand],
    *,
    rows: Ints,
    asked: Asked,
    solution: Solution,
    shrunk: Mapping[int, Reason],
) -> Iterator[Grant]:
    """Make the grant of each of `rows`, in the order of `pending`."""
    columns = {resource: column for column, resource in enumerate(asked.resources)}
    cpu_ids, gpu_ids = _cpu_ids(cluster, live, asked, solution), _gpu_ids(cluster, solution)
    gpu_ids.update(_slice_ids(cluster, live, asked, solution))
    names = [node.name for node in cluster]
    for row, place, values in zip(rows.tolist(), solution.where[rows].tolist(), solution.amounts[rows].tolist(), strict=True):
        demand, node = pending[row], names[place]
        request = demand.request
        own = {resource: values[columns[resource]] for resource in request.amounts}
        reason = grant_reason(request, node, own, shrunk.get(row))
        cpus, gpus = cpu_ids.get(row, ()), gpu_ids.get(row, ())
        yield make_grant(name=demand.id, node=node, amounts=own, cpu_ids=cpus, gpu_ids=gpus, reason=reason)


def _cpu_ids(cluster: Sequence[Node], live: Sequence[Grant], asked: Asked, solution: Solution) -> dict[int, tuple[int, ...]]:
    if "cpu" not in asked.resources:
        return {}
    held: dict[str, list[tuple[tuple[int, ...], float]]] = defaultdict(list)
    for grant in live:
        held[grant.node].append((grant.cpu_ids, grant.amounts.get("cpu", 0.0)))
    column = asked.resources.index("cpu")
    given: dict[int, tuple[int, ...]] = {}
    for node, own in zip(cluster, _placed_on_each(cluster, solution), strict=True):
        if node.cpu_ids and len(own):
            charged = charged_cpus(node.cpu_ids, held[node.name])
            chosen = hand_out_cpus(node.cpu_ids, charged, solution.amounts[own, column].tolist())
            given.update(zip(own.tolist(), chosen, strict=True))
    return given


def _placed_on_each(cluster: Sequence[Node], solution: Solution) -> list[Ints]:
    """Return the demands on each node, in the order of admission."""
    places = solution.where[solution.order]
    grouped = np.argsort(places, kind="stable")
    bounds = np.searchsorted(places[grouped], np.arange(len(cluster) + 1))
    return [solution.order[grouped[start:end]] for start, end in pairwise(bounds.tolist())]


def _slice_ids(cluster: Sequence[Node], live: Sequence[Grant], asked: Asked, solution: Solution) -> dict[int, tuple[str, ...]]:
    """Hand out slices of GPUs, each to one grant, in the order of admission."""
    given: defaultdict[int, tuple[str, ...]] = defaultdict(tuple)
    for column in asked.slices:
        idle: dict[int, Iterator[str]] = {}
        for row in solution.order[solution.amounts[solution.order, column] > 0].tolist():
            place = int(solution.where[row])
            if place not in idle:
                idle[place] = iter(idle_slices(cluster[place], live, asked.resources[column]))
            given[row] += tuple(islice(idle[place], round(solution.amounts[row, column])))
    return given


def _gpu_ids(cluster: Sequence[Node], solution: Solution) -> dict[int, tuple[str, ...]]:
    given: dict[int, tuple[str, ...]] = {}
    for place, devices in solution.devices.items():
        ids = cluster[place].gpu_ids
        given.update({row: tuple(ids[seat] for seat in seats) for row, seats in devices.hand_out().items()})
    return given
