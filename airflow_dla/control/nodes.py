"""Nodes whose capacity changes with what others do there: looked at live, and written down."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

from airflow_dla.control.silence import written_off
from airflow_dla.control.workspace import Workspace
from airflow_dla.errors import DlaError, LedgerUnavailable
from airflow_dla.ledger import NodeRow
from airflow_dla.runtime import Discovers
from airflow_dla.specs import Node

log = logging.getLogger(__name__)


def refresh_nodes(workspace: Workspace) -> None:
    """Look at the machines of a workspace's places and write down what is there; an error of one disturbs no other.

    Whoever follows jobs calls this as often as it likes: a place that somebody has heard of
    within the last 20 s is left alone. One that does not answer is granted nothing until it
    does, nor is a node that its cluster does not have any more. Who only reads (a command)
    makes no nodes.
    """
    if workspace.kind == "other" or not workspace.discovered:
        return
    now, known = workspace.ledger.now(), defaultdict(list)
    for row in workspace.ledger.nodes():
        known[workspace.name_of(row.node.name)].append(row)
    for name, place in workspace.discovered.items():
        if not any(row.silent_since is None and 0 <= now - row.seen_at < workspace.timing.look_s for row in known[name]):
            _refresh(workspace, name, place, known[name])


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
        looked = {name: place for name, place in workspace.discovered.items() if node is None or workspace.name_of(node) == name}
        whole = {found.name: found for place in looked.values() for found in place.whole()}
    except (DlaError, OSError) as error:
        log.warning("A node cannot be looked at: %s", error)
        return None
    return tuple({**nodes, **whole}.values())


def _refresh(workspace: Workspace, name: str, place: Discovers, known: Sequence[NodeRow]) -> None:
    try:
        found = place.discover()
        workspace.ledger.register_nodes(found, host=workspace.host)
    except LedgerUnavailable:
        raise
    except (DlaError, OSError) as error:
        log.warning("Place %s cannot be looked at: %s", name, error)
        for row in known:
            workspace.ledger.node_answered(row.node.name, answered=False)
        return
    there = {node.name for node in found}
    _miss(workspace, [row.node.name for row in known if row.node.name not in there])


def _miss(workspace: Workspace, gone: Sequence[str]) -> None:
    """Grant nothing more on nodes that their cluster does not have any more; forget those that are long gone and hold nothing."""
    lost = [name for name in gone if written_off(workspace, name)]
    held = {lease.grant.node for lease in workspace.ledger.leases()} if lost else set()
    for name in lost:
        if name not in held:
            workspace.ledger.remove_node(name)
