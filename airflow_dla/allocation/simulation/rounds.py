"""The round of a policy alone: `plan`, with all that live grants say about use and ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from airflow_dla.allocation.lifetimes import left_s
from airflow_dla.allocation.plan import plan
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.rounds import allocate
from airflow_dla.allocation.simulation.replay import Decide, Scene
from airflow_dla.specs import Grant, Held, Reason


@dataclass(frozen=True, slots=True)
class Ruled:
    """What a round decided; as `airflow_dla.allocation.simulation.replay.Ruling` says."""

    grants: Mapping[str, Grant] = field(default_factory=dict)
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    targets: Mapping[str, Grant] = field(default_factory=dict)
    preempted: Mapping[str, str] = field(default_factory=dict)
    again_at: float | None = None


def planned(policy: Policy, *, known_ends: bool = False) -> Decide:
    """Return the round that grants what `plan` says, and stops and resizes nobody.

    Parameters
    ----------
    policy : `Policy`
    known_ends : bool
        Whether the expected run times of demands are used: nobody delays the head of the queue then.
    """

    def decide(scene: Scene) -> Ruled:
        answer = plan(scene.nodes, scene.live, scene.pending, facts(policy, scene, known_ends=known_ends), scene.now)
        return Ruled(grants=answer.grants, reasons={**answer.waiting, **answer.shrunk})

    return decide


def round_of(policy: Policy) -> Decide:
    """Return the round as it is held, with all that it may do: preempt, resize; nobody is told when he starts."""
    policy = replace(policy, told=0)

    def decide(scene: Scene) -> Ruled:
        found = allocate(scene.nodes, scene.held, scene.pending, policy, scene.now)
        return Ruled(
            grants=found.plan.grants,
            reasons={**found.plan.waiting, **found.plan.shrunk},
            targets=found.adjustment.targets,
            preempted=found.adjustment.preempted,
            again_at=found.adjustment.again_at,
        )

    return decide


def facts(policy: Policy, scene: Scene, *, known_ends: bool) -> Policy:
    """Return a policy with what live grants add to it: use by team, and when they should end."""
    policy = replace(policy, used=used_by_team(scene.held))
    if not known_ends:
        return policy
    began = {held.grant.id: (held.since, held.demand.run_s) for held in scene.held if held.demand.run_s is not None}
    left = left_s(
        np.array([expected for _, expected in began.values()]),
        np.array([scene.now - since for since, _ in began.values()]),
        0.5,
        policy.spread,
    )
    return replace(policy, begun=began, ends=dict(zip(began, (scene.now + left).tolist(), strict=True)))


def used_by_team(held: Iterable[Held]) -> dict[str, dict[str, float]]:
    """Return what the live grants of each team sum to."""
    used: dict[str, dict[str, float]] = {}
    for one in held:
        own = used.setdefault(one.demand.team, {})
        for resource, amount in one.charged().amounts.items():
            own[resource] = own.get(resource, 0.0) + amount
    return used
