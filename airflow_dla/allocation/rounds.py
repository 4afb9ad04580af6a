"""One round: grant what fits now, keep what is becoming free for those it is made for, and change what is held.

A job that was told to stop, or to give something back, holds it until it has. In the meantime
nobody may slip into a part of it that is already there: what those lack who will be served once
all is done (`Outlook`) is held for them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from airflow_dla.allocation.adjusting import Adjustment, Coming, adjust
from airflow_dla.allocation.gangs import started_gangs
from airflow_dla.allocation.lending import reclaiming
from airflow_dla.allocation.living import settled, summed
from airflow_dla.allocation.outlook import Outlook
from airflow_dla.allocation.plan import plan
from airflow_dla.allocation.problem import Plan, Policy
from airflow_dla.allocation.table import charged_gpus
from airflow_dla.allocation.terms import Resale, sell_again
from airflow_dla.specs import Demand, Grant, Held, Node, Reason

_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a round decides.

    Parameters
    ----------
    plan : `Plan`
        New grants, and a reason for every demand that waits or got less; those that wait for
        room that is being made are told so.
    adjustment : `Adjustment`
        What becomes of live grants.
    renewals : mapping of live grant to float
        Tokens that those pay who keep what they won for another term.
    policy : `Policy`
        With what the round knows of live grants.
    """

    plan: Plan = field(default_factory=Plan)
    adjustment: Adjustment = field(default_factory=Adjustment)
    renewals: Mapping[str, float] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)


def allocate(cluster: Sequence[Node], held: Sequence[Held], pending: Sequence[Demand], policy: Policy, now: float) -> Allocation:
    """Decide one round: `plan` beside what is charged, then `adjust`.

    Parameters
    ----------
    cluster : sequence of `Node`
    held : sequence of `Held`
        In any order.
    pending : sequence of `Demand`
        In any order; ids are unique.
    policy : `Policy`
        What teams use, when grants end and who reclaims is taken from what is held.
    now : float
        Seconds since the epoch.

    Raises
    ------
    SolverFailed
        If a linear programme is needed and does not end at an optimum.
    """
    policy = situated(policy, held, pending, now)
    resale = sell_again(cluster, held, pending, policy, now) if policy.strategy == "auction" and policy.over else Resale()
    if resale.lost or resale.payments:
        held = [replace(one, stopping=True) if one.grant.id in resale.lost else one for one in held]
        policy = situated(_charged(policy, held, resale.payments), held, pending, now)
    answer = _planned(cluster, held, pending, policy, now)
    # Who waits for somebody who is expected has the room: none is made for him.
    hoping = [demand for demand in pending if demand.id not in answer.waiting or answer.waiting[demand.id].binding != "expected"]
    found = adjust(cluster, held, hoping, answer, policy, now)
    waiting = {name: _coming(reason, found.coming.get(name)) for name, reason in answer.waiting.items()}
    return Allocation(
        plan=replace(answer, waiting=waiting),
        adjustment=replace(found, preempted={**found.preempted, **resale.lost}),
        renewals=resale.payments,
        policy=policy,
    )


def _charged(policy: Policy, held: Sequence[Held], payments: Mapping[str, float]) -> Policy:
    """Take what live grants paid for their next term from the budgets of their teams."""
    budgets = dict(policy.budgets)
    for one in held:
        if one.demand.team in budgets:
            budgets[one.demand.team] = max(0.0, budgets[one.demand.team] - payments.get(one.grant.id, 0.0))
    return replace(policy, budgets=budgets)


def situated(policy: Policy, held: Sequence[Held], pending: Sequence[Demand], now: float) -> Policy:
    """Return a policy with what live grants tell: what teams use, when grants end, who takes back what was lent, which gangs run.

    A job that runs longer than expected is expected to run twice as long, and so on; one that
    was told to stop ends soon. Ends that nobody knows are left out.
    """
    used = summed((one.demand.team, one.charged().amounts) for one in held)
    ends = {one.grant.id: end for one in held if (end := _end(one, policy, now)) is not None}
    reclaims = reclaiming(pending, policy.teams, used, now)
    started = started_gangs([one for one in held if not one.stopping])
    begun = {one.grant.id: (one.since, one.demand.run_s) for one in held if one.demand.run_s is not None and not one.stopping}
    return replace(
        policy, used=used, ends={**(policy.ends or {}), **ends}, begun={**begun, **policy.begun}, reclaims=reclaims, started=started
    )


def _end(held: Held, policy: Policy, now: float) -> float | None:
    if held.stopping:
        return now + policy.grace_s
    run_s = held.demand.run_s
    if run_s is None:
        return None
    while held.since + run_s <= now:
        run_s *= 2.0
    return held.since + run_s


def _planned(cluster: Sequence[Node], held: Sequence[Held], pending: Sequence[Demand], policy: Policy, now: float) -> Plan:
    """Plan beside what is charged; what is becoming free is held for those who will be served then."""
    charged = [one.charged() for one in held]
    answer = plan(cluster, charged, pending, policy, now)
    leaving = [one for one in held if one.stopping or one.charged().amounts != settled(one).amounts]
    if not (leaving and answer.waiting):
        return answer
    outlook = Outlook(cluster, pending, policy, now)
    stay = [(one.demand.team, settled(one)) for one in held if not one.stopping]
    freeing, team = {one.grant.node for one in leaving}, {demand.id: demand.team for demand in pending}
    # Where nothing is given back, nobody waits for anything: what fits there is granted now.
    future = {name: grant for name, grant in outlook.grants(outlook.given(stay)).items() if grant.node in freeing}
    promised: dict[str, Grant] = {}
    while more := {name: future[name] for name in answer.waiting if name in future and name not in promised}:
        promised |= more
        holds = _holds(cluster, leaving, charged, promised.values())
        ends = {**(policy.ends or {}), **{hold.id: now + policy.grace_s for hold in holds}}
        used = _used(policy.used, leaving, [(team[name], grant) for name, grant in promised.items()])
        answer = plan(cluster, [*charged, *holds], pending, replace(policy, used=used, ends=ends), now)
    return answer


def _freed(held: Held) -> dict[str, float]:
    """Return what a live grant will give back."""
    stays: Mapping[str, float] = {} if held.stopping else settled(held).amounts
    return {name: amount - stays.get(name, 0.0) for name, amount in held.charged().amounts.items()}


def _holds(cluster: Sequence[Node], leaving: Iterable[Held], charged: Sequence[Grant], promised: Iterable[Grant]) -> list[Grant]:
    """Return as grants what those who are promised room lack beside what will be given back, node by node."""
    lacking: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    seats: defaultdict[str, list[Grant]] = defaultdict(list)
    for grant in promised:
        seats[grant.node].append(grant)
        for name, amount in grant.amounts.items():
            lacking[grant.node][name] += amount
    for one in leaving:
        for name, amount in _freed(one).items():
            lacking[one.grant.node][name] -= amount
    nodes = {node.name: node for node in cluster}
    holds = []
    for name, amounts in lacking.items():
        node = nodes.get(name)
        if node is None or name not in seats:
            continue
        needs = {resource: amount for resource, amount in amounts.items() if amount > 0 and not (resource == "gpu" and node.gpu_ids)}
        holds.append(Grant(id=f"room on {name}", node=name, amounts=needs))
        holds += _devices(node, charged, seats[name])
    return holds


def _devices(node: Node, charged: Sequence[Grant], promised: Iterable[Grant]) -> list[Grant]:
    """Return as grants what is free of each GPU that somebody is promised."""
    if not node.gpu_ids:
        return []
    asked: defaultdict[str, float] = defaultdict(float)
    for grant in promised:
        for gpu in grant.gpu_ids:
            asked[gpu] += min(1.0, grant.amounts.get("gpu", 1.0))
    used = charged_gpus(node, charged)
    shares = {gpu: min(1.0, share, 1.0 - used[gpu]) for gpu, share in asked.items()}
    return [
        Grant(id=f"room on {gpu} of {node.name}", node=node.name, amounts={"gpu": share}, gpu_ids=(gpu,))
        for gpu, share in shares.items()
        if share > _TINY
    ]


def _used(
    used: Mapping[str, Mapping[str, float]], leaving: Iterable[Held], promised: Iterable[tuple[str, Grant]]
) -> dict[str, dict[str, float]]:
    """Return what teams use, with what those who are promised room lack beside what their teams will give back."""
    more: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for team, grant in promised:
        for name, amount in grant.amounts.items():
            more[team][name] += amount
    for one in leaving:
        for name, amount in _freed(one).items():
            more[one.demand.team][name] -= amount
    teams = {*used, *more}
    return {
        team: {name: used.get(team, {}).get(name, 0.0) + max(0.0, more[team].get(name, 0.0)) for name in {*used.get(team, {}), *more[team]}}
        for team in teams
    }


def _coming(reason: Reason, coming: Coming | None) -> Reason:
    """Say instead of why it waits that its room is being made, and by whom."""
    if coming is None:
        return reason
    text = f"waits as number {reason.position}: room is being made on {coming.node}: {coming.text}"
    return replace(reason, node=coming.node, expected_start=coming.at, unblock=(f"wait until {coming.text}",), text=text)
