"""Grants that belong to no job: asked for, waited for and kept, many at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from airflow_dla.control.rounds import decide
from airflow_dla.control.workspace import Workspace
from airflow_dla.ledger import Answer, Lease
from airflow_dla.specs import Demand


def ask(workspace: Workspace, wanted: Sequence[Demand] = (), *, waiting: Collection[str] = ()) -> dict[str, Answer]:
    """Write demands, let a round decide, and return the answers to them and to those made before.

    An id that is not returned is unknown: it was cancelled, or its grant was taken away.
    """
    return workspace.ledger.admit(
        wanted,
        lambda snapshot: decide(snapshot, workspace.policy),
        holder=workspace.follower,
        lease_s=workspace.timing.lease_s,
        waiting=waiting,
    )


def keep(workspace: Workspace, ids: Sequence[str]) -> frozenset[str]:
    """Renew leases and return those still held; whoever should change is told that it cannot.

    What runs behind such a grant is not ours to change, and a round that waits for it would
    wait in vain.
    """
    held = workspace.ledger.renew(ids, holder=workspace.follower, lease_s=workspace.timing.lease_s)
    for name, answer in ask(workspace, waiting=held).items():
        if isinstance(answer, Lease) and answer.target is not None:
            workspace.ledger.resized(name, target=answer.target, applied=False)
    return held
