"""Nodes whose capacity changes with what others do there: looked at live, and written down."""

from __future__ import annotations

import logging

from airflow_dla.control.workspace import Workspace
from airflow_dla.errors import DlaError, LedgerUnavailable
from airflow_dla.runtime import Discovers
from airflow_dla.specs import Node

log = logging.getLogger(__name__)


def refresh_nodes(workspace: Workspace) -> None:
    """Look at the machines of a workspace's engines and write down what is there; an error of one disturbs no other.

    Whoever follows jobs calls this as often as it likes: a node that somebody has heard of
    within the last 20 s is left alone. One that does not answer is granted nothing until it
    does. Who only reads (a command) makes no nodes.
    """
    if workspace.kind == "other" or not workspace.discovered:
        return
    now = workspace.ledger.now()
    fresh = {
        row.node.name for row in workspace.ledger.nodes() if row.silent_since is None and 0 <= now - row.seen_at < workspace.timing.look_s
    }
    for name, place in workspace.discovered.items():
        if name not in fresh:
            _refresh(workspace, name, place)


def at_most(workspace: Workspace, node: str | None) -> tuple[Node, ...] | None:
    """Return the nodes as they are when nobody but us uses their machines; None when a machine does not answer.

    Parameters
    ----------
    workspace : `Workspace`
    node : str or None
        The only one that matters.
    """
    nodes = {row.node.name: row.node for row in workspace.ledger.nodes()}
    try:
        whole = {name: place.whole() for name, place in workspace.discovered.items() if node in {None, name}}
    except (DlaError, OSError) as error:
        log.warning("A node cannot be looked at: %s", error)
        return None
    return tuple({**nodes, **whole}.values())


def _refresh(workspace: Workspace, name: str, place: Discovers) -> None:
    try:
        workspace.ledger.register_node(place.discover(), host=workspace.host)
    except LedgerUnavailable:
        raise
    except (DlaError, OSError) as error:
        log.warning("Node %s cannot be looked at: %s", name, error)
        workspace.ledger.node_answered(name, answered=False)
