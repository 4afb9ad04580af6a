"""Growth: what is free once everything that waits was served goes to elastic jobs that run with less than they want.

Only what nobody who waits could use is given away: nothing grows on a node that might still
serve a waiting demand. A grant grows only when it gains enough to be worth a change, and not
right after its start.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from airflow_dla.allocation.living import CHANGEABLE, span, summed
from airflow_dla.allocation.outlook import Owned
from airflow_dla.allocation.plan import plan
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.table import read_cluster, read_demands
from airflow_dla.specs import Demand, Held, Node, Range, Request

_EQUAL = 1e-9

#: Free amounts by node, then resource.
Free = Mapping[str, Mapping[str, float]]


def grow(
    cluster: Sequence[Node], held: Iterable[Held], live: Sequence[Owned], waits: Sequence[Demand], *, policy: Policy, now: float
) -> dict[str, dict[str, float]]:
    """Share what is free among elastic grants by the policy's shedding, within the limits of teams.

    Parameters
    ----------
    cluster : sequence of `Node`
    held : iterable of `Held`
        Those that may be told to change.
    live : sequence of owned grants
        All that is charged to nodes.
    waits : sequence of `Demand`
        Those that might start on what is free.
    policy : `Policy`
    now : float

    Returns
    -------
    dict of live grant to dict of resource to float
        The amounts that change.
    """
    free = _left(cluster, live, policy)
    growing = _hungry(held, free, policy, now)
    if growing:
        wanted = _wanted_nodes(cluster, waits, policy, now)
        growing = [one for one in growing if one.grant.node not in wanted]
    if not growing:
        return {}
    names = {one.grant.id for one in growing}
    rest = summed((team, grant.amounts) for team, grant in live if grant.id not in names)
    sharing = dataclasses.replace(policy, strategy="lp", reserves={}, ends=None, used=rest, reclaims=frozenset())
    answer = plan(_nodes(growing, free), [], [_want(one) for one in growing], sharing, now)
    changed = {one.grant.id: _worth(one, answer.grants[one.grant.id].amounts, policy) for one in growing if one.grant.id in answer.grants}
    return {name: amounts for name, amounts in changed.items() if amounts}


def _left(cluster: Sequence[Node], live: Iterable[Owned], policy: Policy) -> dict[str, dict[str, float]]:
    """Return what live grants and reserves leave of the CPUs and the memory of each node."""
    free = {
        node.name: {name: node.capacity[name] - policy.reserves.get(name, 0.0) for name in CHANGEABLE if name in node.capacity}
        for node in cluster
    }
    for _, grant in live:
        for name in free.get(grant.node, {}):
            free[grant.node][name] -= grant.amounts.get(name, 0.0)
    return free


def _hungry(held: Iterable[Held], free: Free, policy: Policy, now: float) -> list[Held]:
    """Return those that could grow by enough, and have run long enough."""
    return [one for one in held if one.grant.node in free and now - one.since >= policy.min_run_s and _gains(one, free, policy)]


def _wanted_nodes(cluster: Sequence[Node], waits: Sequence[Demand], policy: Policy, now: float) -> set[str]:
    """Return the nodes that some demand which waits could ever use."""
    if not waits:
        return set()
    asked = read_demands(waits, policy, now)
    offered = read_cluster(cluster, [], asked, policy)
    able = [
        (offered.allowed[asked.kind, row] & (asked.minimum <= offered.capacity[row] + offered.slack[row]).all(axis=1)).any()
        for row in range(len(cluster))
    ]
    return {node.name for node, wanted in zip(cluster, able, strict=True) if wanted}


def _elastic(held: Held) -> dict[str, tuple[float, float]]:
    """Return what a grant has and wants of the resources that can change, where it wants more."""
    asked = held.demand.request.amounts
    spans = {name: (held.grant.amounts.get(name, 0.0), span(held.demand, held.grant, name)[1]) for name in CHANGEABLE if name in asked}
    return {name: (has, wants) for name, (has, wants) in spans.items() if has < wants * (1 - _EQUAL)}


def _gains(held: Held, free: Free, policy: Policy) -> bool:
    room = free[held.grant.node]
    wants = _elastic(held).items()
    return any(min(room.get(name, 0.0), want - has) >= policy.min_gain * want * (1 - _EQUAL) > 0 for name, (has, want) in wants)


def _worth(held: Held, got: Mapping[str, float], policy: Policy) -> dict[str, float]:
    least = {name: policy.min_gain * want * (1 - _EQUAL) for name, (_, want) in _elastic(held).items()}
    return {name: got[name] for name, gain in least.items() if got[name] - held.grant.amounts.get(name, 0.0) >= gain > 0}


def _nodes(hungry: Sequence[Held], free: Free) -> list[Node]:
    capacity: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for one in hungry:
        for name in CHANGEABLE:
            capacity[one.grant.node][name] += one.grant.amounts.get(name, 0.0)
    return [
        Node(name=name, place="any", capacity={key: has + max(0.0, free[name].get(key, 0.0)) for key, has in amounts.items()})
        for name, amounts in capacity.items()
    ]


def _want(held: Held) -> Demand:
    """Ask for what a grant has, at least, and for what it wants, where it is."""
    asked = {}
    for name in CHANGEABLE:
        if name in held.demand.request.amounts:
            has = held.grant.amounts.get(name, 0.0)
            asked[name] = Range(has, max(has, span(held.demand, held.grant, name)[1]))
    return dataclasses.replace(
        held.demand, request=Request(asked), place="any", node=held.grant.node, gang=None, gang_size=1, deadline=None, run_s=None
    )
