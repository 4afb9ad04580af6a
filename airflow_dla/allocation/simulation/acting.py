"""What a reason says would unblock a demand, done: to see whether it is true."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from airflow_dla.allocation.plan import plan
from airflow_dla.allocation.problem import Plan, Policy
from airflow_dla.allocation.teams import TeamShare
from airflow_dla.specs import Demand, Grant, Node, Range, Request, Step, Unblock
from airflow_dla.specs.resources import mig_profile

_MORE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Problem:
    """What `plan` takes.

    Parameters
    ----------
    nodes : tuple of `Node`
    live : tuple of `Grant`
    pending : tuple of `Demand`
    policy : `Policy`
    now : float
        Seconds since the epoch.
    """

    nodes: tuple[Node, ...]
    live: tuple[Grant, ...]
    pending: tuple[Demand, ...]
    policy: Policy
    now: float

    def plan(self) -> Plan:
        """Decide."""
        return plan(self.nodes, self.live, self.pending, self.policy, self.now)

    def after(self, answer: Plan) -> Problem:
        """Return what the next round sees: what was granted is live, the rest waits on."""
        demands = {demand.id: demand for demand in self.pending}
        used = {team: dict(amounts) for team, amounts in self.policy.used.items()}
        spent: dict[str, float] = {}
        for name, grant in answer.grants.items():
            own = used.setdefault(demands[name].team, {})
            for resource, amount in grant.amounts.items():
                own[resource] = own.get(resource, 0.0) + amount
            spent[demands[name].team] = spent.get(demands[name].team, 0.0) + answer.payments.get(name, 0.0)
        policy = replace(
            self.policy,
            used=used,
            budgets={team: max(0.0, tokens - spent.get(team, 0.0)) for team, tokens in self.policy.budgets.items()},
            ends=None if self.policy.ends is None else {**self.policy.ends, **self._ends(answer, demands)},
            begun={**self.policy.begun, **{name: (self.now, end - self.now) for name, end in self._ends(answer, demands).items()}},
        )
        waiting = tuple(demand for demand in self.pending if demand.id in answer.waiting)
        return replace(self, live=(*self.live, *answer.grants.values()), pending=waiting, policy=policy)

    def _ends(self, answer: Plan, demands: Mapping[str, Demand]) -> dict[str, float]:
        runs = {name: self.policy.runs.get(name, demands[name].run_s) for name in answer.grants}
        return {name: self.now + run for name, run in runs.items() if run is not None}


def unblocks(problem: Problem, answer: Plan, demand: str, unblock: str) -> bool:
    """Return whether a demand starts in the next round once the steps of an unblock have been taken.

    Parameters
    ----------
    problem : `Problem`
    answer : `Plan`
        Of that problem.
    demand : str
        One that waits, or got less than it wanted.
    unblock : `Unblock`
        One of those that its reason names.
    """
    assert isinstance(unblock, Unblock), "what a plan says would unblock a demand has its steps in numbers"
    if demand in answer.grants:
        before, after = answer.grants[demand], _taken(_settled(problem, answer), answer, demand, unblock).plan().grants[demand]
        return any(after.amounts[resource] > amount * (1 + _MORE) for resource, amount in before.amounts.items())
    if answer.waiting[demand].never:
        # It may still have to wait for others, but not for ever.
        changed = _taken(replace(problem, live=()), answer, demand, unblock)
        alone = replace(changed, pending=tuple(one for one in changed.pending if one.id == demand))
        return not alone.plan().waiting.get(demand, answer.waiting[demand]).never or demand in alone.plan().grants
    return demand in _taken(problem.after(answer), answer, demand, unblock).plan().grants


def _settled(problem: Problem, answer: Plan) -> Problem:
    """Return the problem of those who have a node, and stay there."""
    placed = (replace(one, node=answer.grants[one.id].node) for one in problem.pending if one.id in answer.grants)
    return replace(problem, pending=tuple(placed))


def _taken(problem: Problem, answer: Plan, demand: str, unblock: Unblock) -> Problem:
    for step in unblock.steps:
        problem = _served(problem, answer, demand) if step.kind == "served" else _STEPS[step.kind](problem, step, demand)
    return problem


def _served(problem: Problem, answer: Plan, demand: str) -> Problem:
    """Let those that go first have started: elsewhere, since what it frees is told apart."""
    if demand in answer.grants:
        return problem
    steady = problem.policy.strategy in {"lp", "greedy"}
    last = answer.waiting[demand].position if steady else math.inf
    kept = tuple(one for one in problem.pending if one.id == demand or answer.waiting[one.id].position >= last)
    return replace(problem, pending=kept)


def _freed(problem: Problem, step: Step, demand: str) -> Problem:  # noqa: ARG001 every step is taken alike
    """Take from live grants of a node just what shall be free; without a node, all of it."""
    if step.node is None:
        return replace(problem, live=(), policy=replace(problem.policy, used={}, reserves={}))
    left, node = dict(step.amounts), next(node for node in problem.nodes if node.name == step.node)
    live = [_shrunk(grant, node, left) if grant.node == step.node else grant for grant in problem.live]
    # What is held back for a forecast comes back as well.
    reserves = {resource: max(0.0, amount - left.get(resource, 0.0)) for resource, amount in problem.policy.reserves.items()}
    return replace(problem, live=tuple(live), policy=replace(problem.policy, reserves=reserves))


def _shrunk(grant: Grant, node: Node, left: dict[str, float]) -> Grant:
    amounts, dropped = dict(grant.amounts), set[str]()
    for resource, amount in grant.amounts.items():
        own = [one for one in grant.gpu_ids if one in node.ids_of(resource)]
        taken = min(amount, left.get(resource, 0.0))
        if own and taken > 0:
            taken = min(amount, float(math.ceil(taken - _MORE)))
            dropped.update(own[math.ceil(amount - taken - _MORE) :])
        amounts[resource] = amount - taken
        left[resource] = left.get(resource, 0.0) - taken
    return replace(grant, amounts=amounts, gpu_ids=tuple(one for one in grant.gpu_ids if one not in dropped))


def _returned(problem: Problem, step: Step, demand: str) -> Problem:  # noqa: ARG001
    """Let a team hold less than it does, then those that borrow."""
    used = {team: dict(amounts) for team, amounts in problem.policy.used.items()}
    shares = {team.name: team for team in problem.policy.teams}
    for resource, amount in step.amounts.items():
        left = amount
        for team in sorted(used, key=lambda name: (name != step.team, name)):
            held = used[team].get(resource, 0.0)
            own = 0.0 if team == step.team or team not in shares else _kept(shares[team], resource)
            taken = min(left, max(0.0, held - own))
            used[team][resource] = held - taken
            left -= taken
    return replace(problem, policy=replace(problem.policy, used=used))


def _kept(team: TeamShare, resource: str) -> float:
    """Return what a team lends to nobody, so that giving it back helps nobody."""
    guaranteed = team.guaranteed.get(resource, 0.0)
    return max(0.0, guaranteed - team.lend.get(resource, math.inf))


def _lower(problem: Problem, step: Step, demand: str) -> Problem:
    return _changed(problem, demand, lambda one: replace(one, request=_lowered(one.request, step.amounts)))


def _lowered(request: Request, to: Mapping[str, float]) -> Request:
    amounts = dict(request.amounts)
    gpus = to.get("gpu", amounts["gpu"].minimum if "gpu" in amounts else 0.0)
    for resource, most in to.items():
        found = amounts[resource]
        times = max(gpus, min(1.0, amounts["gpu"].wanted)) if found.per_gpu else 1.0
        amounts[resource] = Range(min(found.minimum, most / times), found.wanted, found.per_gpu)
    return replace(request, amounts=MappingProxyType(amounts))


def _capacity(problem: Problem, step: Step, demand: str) -> Problem:  # noqa: ARG001
    nodes = tuple(grown(node, step.amounts) if node.name == step.node else node for node in problem.nodes)
    return replace(problem, nodes=nodes)


def grown(node: Node, more: Mapping[str, float]) -> Node:
    """Return a node that has more; where it hands out ids of GPUs or slices, with ids for those that were added."""
    capacity = {resource: node.capacity.get(resource, 0.0) + more.get(resource, 0.0) for resource in {**node.capacity, **more}}
    new = {
        resource: tuple(f"added-{resource}-{place}" for place in range(math.ceil(amount)))
        for resource, amount in more.items()
        if node.ids_of(resource)
    }
    slices = {
        profile: (*ids, *next((new[name] for name in new if mig_profile(name) == profile), ())) for profile, ids in node.mig_ids.items()
    }
    return replace(node, capacity=capacity, gpu_ids=(*node.gpu_ids, *new.get("gpu", ())), mig_ids=slices)


def _node(problem: Problem, step: Step, demand: str) -> Problem:
    asked = next(one for one in problem.pending if one.id == demand)
    labels = dict(asked.request.labels) | ({} if asked.request.gpu_type is None else {"gpu_type": asked.request.gpu_type})
    place = "local" if asked.place == "any" else asked.place
    added = Node(name=asked.node or "added", place=place, capacity=dict(step.amounts), labels=labels)
    return replace(problem, nodes=(*(node for node in problem.nodes if node.name != added.name), added))


def _quota(problem: Problem, step: Step, demand: str) -> Problem:  # noqa: ARG001
    team = step.team or ""
    own = dict(problem.policy.quotas.get(team, {}))
    own = {resource: most + step.amounts.get(resource, 0.0) for resource, most in own.items()}
    return replace(problem, policy=replace(problem.policy, quotas={**problem.policy.quotas, team: own}))


def _guarantee(problem: Problem, step: Step, demand: str) -> Problem:  # noqa: ARG001
    found = {team.name: team for team in problem.policy.teams}
    team = found.get(step.team or "", TeamShare(name=step.team or ""))
    found[team.name] = replace(
        team,
        guaranteed={
            **team.guaranteed,
            **{resource: max(most, team.guaranteed.get(resource, 0.0)) for resource, most in step.amounts.items()},
        },
        lend={**team.lend, **dict.fromkeys(step.amounts, 0.0)},
    )
    return replace(problem, policy=replace(problem.policy, teams=tuple(found.values())))


def _budget(problem: Problem, step: Step, demand: str) -> Problem:  # noqa: ARG001
    return replace(problem, policy=replace(problem.policy, budgets={**problem.policy.budgets, step.team or "": step.value}))


def _priority(problem: Problem, step: Step, demand: str) -> Problem:
    return _changed(problem, demand, lambda one: replace(one, priority=int(step.value)))


def _elsewhere(problem: Problem, step: Step, demand: str) -> Problem:  # noqa: ARG001
    return _changed(
        problem, demand, lambda one: replace(one, place="any", node=None, request=replace(one.request, gpu_type=None, labels={}))
    )


def _run(problem: Problem, step: Step, demand: str) -> Problem:
    return replace(problem, policy=replace(problem.policy, runs={**problem.policy.runs, demand: step.value}))


def _changed(problem: Problem, demand: str, change: Callable[[Demand], Demand]) -> Problem:
    return replace(problem, pending=tuple(change(one) if one.id == demand else one for one in problem.pending))


_STEPS: Final[Mapping[str, Callable[[Problem, Step, str], Problem]]] = {
    "freed": _freed,
    "returned": _returned,
    "refilled": _budget,
    "lower": _lower,
    "capacity": _capacity,
    "node": _node,
    "quota": _quota,
    "guarantee": _guarantee,
    "budget": _budget,
    "priority": _priority,
    "elsewhere": _elsewhere,
    "run": _run,
}
