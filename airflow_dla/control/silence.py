"""Nodes that give no answer: until when their jobs are waited for."""

from __future__ import annotations

from airflow_dla.control.workspace import Workspace


def answered(workspace: Workspace, node: str) -> None:
    """Remember that a node told of one of its jobs.

    A cluster tells of jobs also for a node that it has lost: whether anything may be granted
    there is for those to say who look at its nodes.
    """
    if node in workspace.runtimes:
        workspace.ledger.node_answered(node, answered=True)


def written_off(workspace: Workspace, node: str) -> bool:
    """Remember that a node was asked in vain; return whether it has been silent for so long that its jobs are lost.

    One that the ledger does not know any more is.
    """
    row = workspace.ledger.node_answered(node, answered=False)
    if row is None:
        return True
    return row.silent_since is not None and workspace.ledger.now() - row.silent_since >= workspace.timing.silent_s
