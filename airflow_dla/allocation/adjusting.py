"""Changing what is already held: shrink first, then preempt, then let what runs grow.

Room is made for a demand that waits only where nothing that is already becoming free will do,
and only after asking what the next plan would decide: whoever room is made for is the one that
gets it, and nobody stops without somebody starting. What was chosen is told to the holders,
`targets` and `preempted`; it is granted when they have confirmed.

Guarantees
----------
* Nobody is preempted who is not preemptible, and nobody for a demand that matters no more;
  what a team holds within its guarantee is never taken by another.
* Priorities of what waits and what runs age alike, so no two jobs ever preempt each other in turn.
* A demand of lower priority shrinks nobody, and nobody shrinks below the minimum.
* The sum of what is charged never exceeds what nodes have: what shrinks or stops is charged
  until that is confirmed, what grows at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_dla.allocation.growing import grow
from airflow_dla.allocation.living import changes, is_elastic
from airflow_dla.allocation.making import Live, Made, given_back, make_room
from airflow_dla.allocation.problem import Plan, Policy
from airflow_dla.allocation.resizing import Resizing
from airflow_dla.allocation.room import Room
from airflow_dla.allocation.rules import written
from airflow_dla.specs import Demand, Grant, Held, Node
from airflow_dla.specs.grants import describe_amounts

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Coming:
    """Room that is being made for a demand.

    Parameters
    ----------
    node : str
    at : float
        About when it is there, seconds since the epoch.
    text : str
        Who makes it, one clause.
    """

    node: str
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What should become of live grants.

    Parameters
    ----------
    targets : mapping of live grant to `Grant`
        What each should change to: the same node and GPUs, other amounts of CPUs or memory.
    preempted : mapping of live grant to str
        Those that should stop, and for whom and why, one sentence.
    coming : mapping of demand to `Coming`
        Those that wait for room that is being made for them.
    again_at : float or None
        When time alone may change the answer, seconds since the epoch.
    """

    targets: Mapping[str, Grant] = field(default_factory=dict)
    preempted: Mapping[str, str] = field(default_factory=dict)
    coming: Mapping[str, Coming] = field(default_factory=dict)
    again_at: float | None = None


def adjust(  # noqa: PLR0917 what `plan` takes, and its answer
    cluster: Sequence[Node], held: Sequence[Held], pending: Sequence[Demand], answer: Plan, policy: Policy, now: float
) -> Adjustment:
    """Decide what live grants should change to, and which should stop, for those that wait.

    Parameters
    ----------
    cluster : sequence of `Node`
    held : sequence of `Held`
        In any order.
    pending : sequence of `Demand`
        What `answer` was given for.
    answer : `Plan`
        What `plan` granted beside what is charged.
    policy : `Policy`
    now : float
        Seconds since the epoch.

    Raises
    ------
    SolverFailed
        If a linear programme is needed and does not end at an optimum.

    Examples
    --------
    >>> from airflow_dla.allocation.plan import plan
    >>> from airflow_dla.specs import Request
    >>> def job(name, cpu, **more):
    ...     return Demand(id=name, request=Request.from_mapping({"cpu": cpu}), **more)
    >>> room = [Node(name="n1", capacity={"cpu": 8.0})]
    >>> runs = [Held(demand=job("batch", 8, preemptible=True), grant=Grant(id="batch", node="n1", amounts={"cpu": 8.0}))]
    >>> waits = [job("urgent", 4, priority=5)]
    >>> answer = plan(room, [one.charged() for one in runs], waits, Policy(), 600.0)
    >>> adjust(room, runs, waits, answer, Policy(), 600.0).preempted["batch"]
    'stops so that urgent, which has priority 5 and needs 4 cpu on n1, can start: its own priority is 0'
    """
    live = Live(held, pending, answer)
    made = make_room(cluster, live, policy, now)
    resizing = Resizing(cluster, [grant for _, grant in live.charged])
    targets = _shrunk(made, resizing)
    told = {*targets, *(one.grant.id for one, _ in made.stopped())}
    elastic = [one for one in live.stays if is_elastic(one.demand) and changes(one) and one.grant.id not in told]
    usable = [demand for demand in live.waits if elastic and answer.waiting[demand.id].binding not in {"quota", "budget"}]
    grown = grow(cluster, elastic, live.charged, usable, policy=policy, now=now)
    for one in elastic:
        if one.grant.id in grown:
            amounts = grown[one.grant.id]
            why = f"grows to {describe_amounts(amounts)}: nobody who waits could use it"
            targets[one.grant.id] = resizing.target(one.grant, amounts, why)
    return Adjustment(
        targets=targets,
        preempted={one.grant.id: _why(one, room, made, cluster, now) for one, room in made.stopped()},
        coming=_coming(made, live, cluster, policy, now),
        again_at=made.again_at,
    )


def _shrunk(made: Made, resizing: Resizing) -> dict[str, Grant]:
    named = {one.grant.id: one.grant for one in made.held}
    whom: dict[str, list[str]] = {}
    for room in made.rooms:
        for row in room.shrunk:
            whom.setdefault(made.held[row].grant.id, []).append(room.claimant.demand.id)
    targets = {}
    for name, less in given_back(made.rooms, made.held, made.resources).items():
        amounts = {resource: named[name].amounts[resource] - amount for resource, amount in less.items()}
        reason = f"gives {describe_amounts(less)} back so that {_listed(whom[name])} can start"
        targets[name] = resizing.target(named[name], amounts, reason)
    return targets


def _why(stops: Held, room: Room, made: Made, cluster: Sequence[Node], now: float) -> str:
    """Say for whom a job stops, and by which rule."""
    demand, node = room.claimant.demand, cluster[room.node].name
    needs = f"needs {_needs(room, made)} on {node}"
    if stops.grant.node != node:
        return f"stops with its gang so that {demand.id}, which {needs}, can start"
    if room.claimant.reclaims and stops.demand.team != demand.team:
        waited = f"within the guarantee of team {demand.team} and has waited for {now - demand.created_at:.0f} s"
        return f"gives back what team {stops.demand.team} borrowed: {demand.id}, which {needs}, is {waited}"
    matters = f"which has priority {demand.priority} and {needs}"
    return f"stops so that {demand.id}, {matters}, can start: its own priority is {stops.demand.priority}"


def _needs(room: Room, made: Made) -> str:
    asked = room.claimant.least
    return ", ".join(written(name, amount) for name, amount in zip(made.resources, asked, strict=True) if amount > 0)


def _coming(made: Made, live: Live, cluster: Sequence[Node], policy: Policy, now: float) -> dict[str, Coming]:
    """Say who makes room for those that wait for it."""
    at = now + policy.grace_s
    going = {one.grant.id: one.grant.node for one in [*live.leaving, *live.shrinking]}
    found = {}
    for name, node in made.served:
        stop = [one.grant.id for one in live.leaving if one.grant.node == node]
        shrink = [one.grant.id for one in live.shrinking if one.grant.node == node]
        if stop or shrink:
            found[name] = Coming(node, at, _clause(stop, shrink, policy))
        elif going:
            found[name] = Coming(node, at, _clause(sorted(going), [], policy))
    for room in made.rooms:
        stop, shrink = ([made.held[row].grant.id for row in rows] for rows in (room.victims, room.shrunk))
        node = cluster[room.node].name
        found[room.claimant.demand.id] = Coming(node, at, _clause(stop, shrink, policy))
    return found


def _clause(stop: Sequence[str], shrink: Sequence[str], policy: Policy) -> str:
    stops = f"{_listed(stop)} {'stops' if len(stop) == 1 else 'stop'} within about {policy.grace_s:.0f} s" if stop else ""
    gives = f"{_listed(shrink)} {'gives' if len(shrink) == 1 else 'give'} something back" if shrink else ""
    return " and ".join(filter(None, [stops, gives]))


def _listed(names: Sequence[str]) -> str:
    """Name a few, and how many there are besides."""
    shown, more = ", ".join(names[:_NAMED]), len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown
