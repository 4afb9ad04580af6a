"""The allocation round: read the ledger, decide, write, under one lock."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Final

from airflow_dla.allocation import Policy, never_grantable
from airflow_dla.allocation.accounts import EVERY_S, carried, ceilings, changed, exhausted, paid
from airflow_dla.allocation.rounds import Allocation, allocate
from airflow_dla.allocation.standing import effective
from airflow_dla.allocation.teams import TeamShare, team_share
from airflow_dla.allocation.terms import term_over
from airflow_dla.allocation.timing import next_change
from airflow_dla.control.forecast import foresee, given_up_at
from airflow_dla.control.nodes import at_most
from airflow_dla.control.workspace import Workspace
from airflow_dla.errors import NeverGrantable
from airflow_dla.ledger import Decision, Round, Snapshot
from airflow_dla.specs import Account, Demand, Held, Reason, TeamSpec

_UNDESCRIBED: Final = TeamSpec(name="default")


def run_round(workspace: Workspace, *, force: bool = False) -> Round:
    """Grant what can be granted; whoever comes first works for all who wait."""
    began = time.monotonic()
    outcome = workspace.ledger.round(
        lambda snapshot: decide(snapshot, workspace.policy),
        holder=workspace.follower,
        lease_s=workspace.timing.lease_s,
        force=force,
    )
    if not outcome.skipped:
        workspace.metrics.timing("dla.allocation.round", time.monotonic() - began)
        workspace.metrics.gauge("dla.allocation.waiting", outcome.waiting)
        workspace.metrics.gauge("dla.allocation.granted", len(outcome.granted))
    return outcome


def decide(snapshot: Snapshot, policy: Policy) -> Decision:
    """Turn what a round read into what it writes; pure.

    Parameters
    ----------
    snapshot : `Snapshot`
    policy : `Policy`
        As it was configured; what teams are, have used and may spend is added from the snapshot.

    Notes
    -----
    Priorities count as `effective` says: no higher than the team may have, raised by a deadline.
    """
    # A default team of which nobody said anything limits nothing, and to know it costs milliseconds.
    teams = tuple(team for team in snapshot.teams if team != _UNDESCRIBED)
    now, policy = snapshot.now, foresee(snapshot, policy)
    accounts = carried(teams, snapshot.accounts, snapshot.held, now, half_life_s=policy.half_life_s, term_s=policy.term_s)
    policy = team_policy(policy, teams, accounts)
    if policy.strategy == "auction":
        policy = dataclasses.replace(policy, over=term_over(snapshot.held, snapshot.accounts, now, policy.term_s))
    pending, held = _effective(snapshot, ceilings(teams))
    empty = exhausted(teams, accounts)
    served = [demand for demand in pending if not (empty and demand.team in empty and _wants_gpu(demand))]
    found = allocate(snapshot.nodes, held, served, policy, now)
    bills = changed(paid(accounts, _payments(found, snapshot)), snapshot.accounts, _renewing(snapshot, policy))
    waiting = [demand for demand in pending if demand.id not in found.plan.grants]
    times = [next_change(held, waiting, found.policy, now), found.adjustment.again_at, *_refills(waiting, teams, accounts, policy)]
    times.append(given_up_at(policy, found.plan.waiting, now))
    counts = bool(teams) or policy.strategy in {"fair", "auction"}
    if counts and (snapshot.held or found.plan.grants):
        times.append(now + EVERY_S)
    return Decision(
        grants=found.plan.grants,
        reasons={**found.plan.waiting, **found.plan.shrunk, **_barred(pending, served, empty, accounts)},
        targets=found.adjustment.targets,
        preempted=found.adjustment.preempted,
        accounts=bills if counts else (),
        again_at=min((at for at in times if at is not None and at > now), default=None),
    )


def _effective(snapshot: Snapshot, most: Mapping[str, int]) -> tuple[list[Demand], list[Held]]:
    """Return what waits and what is held with the priorities that count."""
    now = snapshot.now
    pending = [effective(demand, most, now) if most or demand.deadline is not None else demand for demand in snapshot.pending]
    held = [dataclasses.replace(one, demand=effective(one.demand, most, now)) for one in snapshot.held]
    return pending, held


def _renewing(snapshot: Snapshot, policy: Policy) -> frozenset[str]:
    """Return the teams of which a term is over: that it was sold again must be written."""
    return frozenset(one.demand.team for one in snapshot.held if one.grant.id in policy.over)


def team_policy(policy: Policy, teams: Sequence[TeamSpec], accounts: Mapping[str, Account]) -> Policy:
    """Return a policy that knows the teams: what they are guaranteed, borrow and lend, weigh, and may spend.

    What the connection says of a team goes before what ``teams.yaml`` says of its weight and
    tokens; of two quotas the smaller counts.
    """
    shares = tuple(team_share(team, accounts[team.name].past_use) for team in teams)
    if policy.strategy == "fair":
        described = {team.name for team in teams}
        shares += tuple(TeamShare(name=name, past_use=account.past_use) for name, account in accounts.items() if name not in described)
    if not shares:
        return policy
    quotas = {team.name: dict(team.quota) for team in teams if team.quota}
    for name, most in policy.quotas.items():
        mine = quotas.setdefault(name, {})
        mine.update({resource: min(amount, mine.get(resource, amount)) for resource, amount in most.items()})
    tokens = {team.name: accounts[team.name].tokens or 0.0 for team in teams if team.tokens is not None}
    return dataclasses.replace(
        policy,
        teams=shares,
        quotas=quotas,
        weights={**{team.name: team.weight for team in teams}, **policy.weights},
        budgets={**tokens, **policy.budgets},
    )


def _wants_gpu(demand: Demand) -> bool:
    return "gpu" in demand.request.amounts and demand.request.amounts["gpu"].wanted > 0


def _barred(
    pending: Sequence[Demand], served: Sequence[Demand], empty: Mapping[str, TeamSpec], accounts: Mapping[str, Account]
) -> dict[str, Reason]:
    """Say of those whose team's GPU-hours are spent why they wait, and until when."""
    reasons: dict[str, Reason] = {}
    if len(pending) == len(served):
        return reasons
    plays = {demand.id for demand in served}
    for position, demand in enumerate((one for one in pending if one.id not in plays), start=len(served) + 1):
        team = empty[demand.team]
        until = accounts[team.name].period_at + team.period_s
        reasons[demand.id] = Reason(
            binding="budget",
            position=position,
            expected_start=until,
            unblock=(f"wait until the next period of team {team.name} begins at about {until:.0f}", f"raise gpu_hours of team {team.name}"),
            text=f"waits: team {team.name} has spent its {team.gpu_hours:g} GPU-hours of this period",
        )
    return reasons


def _refills(waiting: Sequence[Demand], teams: Sequence[TeamSpec], accounts: Mapping[str, Account], policy: Policy) -> list[float]:
    """Return when budgets are filled again for which somebody waits."""
    asking = {demand.team for demand in waiting}
    periods = [accounts[team.name].period_at + team.period_s for team in teams if team.gpu_hours is not None] if asking else []
    auction = policy.strategy == "auction"
    terms = [
        accounts[team.name].refilled_at + policy.term_s for team in teams if auction and team.tokens is not None and team.name in asking
    ]
    return periods + terms


def _payments(found: Allocation, snapshot: Snapshot) -> list[tuple[str, float]]:
    team = {demand.id: demand.team for demand in (*snapshot.pending, *(one.demand for one in snapshot.held))}
    return [(team[name], tokens) for name, tokens in (*found.plan.payments.items(), *found.renewals.items())]


def refuse_never_grantable(workspace: Workspace, demand: Demand) -> None:
    """Refuse a demand that no node could ever meet, before it waits for ever.

    What others use of a machine now they may leave, and a machine that does not answer may
    come back: for either a demand may wait.

    Raises
    ------
    NeverGrantable
        Naming the resource, the largest node, and what would do.
    """
    nodes = tuple(row.node for row in workspace.ledger.nodes())
    reason = never_grantable(nodes, demand)
    if reason is None:
        return
    whole = at_most(workspace, demand.node)
    if whole is not None and never_grantable(whole, demand) is not None:
        raise NeverGrantable(reason.text)
