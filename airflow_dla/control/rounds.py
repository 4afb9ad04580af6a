"""The allocation round: read the ledger, decide, write, under one lock."""

from __future__ import annotations

import time

from airflow_dla.allocation import Policy, allocate, never_grantable
from airflow_dla.control.workspace import Workspace
from airflow_dla.errors import NeverGrantable
from airflow_dla.ledger import Decision, Round, Snapshot
from airflow_dla.specs import Demand


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
    """
    found = allocate(snapshot.nodes, snapshot.held, snapshot.pending, policy, snapshot.now)
    answer, adjustment = found.plan, found.adjustment
    return Decision(
        grants=answer.grants,
        reasons={**answer.waiting, **answer.shrunk},
        targets=adjustment.targets,
        preempted=adjustment.preempted,
        again_at=adjustment.again_at,
    )


def refuse_never_grantable(workspace: Workspace, demand: Demand) -> None:
    """Refuse a demand that no node could ever meet, before it waits for ever.

    Raises
    ------
    NeverGrantable
        Naming the resource, the largest node, and what would do.
    """
    nodes = tuple(row.node for row in workspace.ledger.nodes())
    reason = never_grantable(nodes, demand)
    if reason is not None:
        raise NeverGrantable(reason.text)
