"""Nodes, followers and agents, and what says that a round is due."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, or_, select, update

from airflow_dla.ledger import rows
from airflow_dla.ledger.history import record
from airflow_dla.ledger.records import FollowerKind, NodeRow
from airflow_dla.ledger.schema import agents, expected, followers, nodes, wakes, workspace
from airflow_dla.ledger.transaction import Transaction
from airflow_dla.specs import AgentSpec, Node

#: A follower that was not heard of for so long is forgotten.
_FORGOTTEN_S = 86_400.0


def identity(tx: Transaction) -> str:
    """Return the workspace's id."""
    return str(tx.connection.execute(select(workspace.c.id)).scalar_one())


def now(tx: Transaction) -> float:
    """Return the database's time."""
    return tx.now


def mark_due(tx: Transaction, why: str) -> None:
    """Say that something changed which the next round must know."""
    tx.insert_all(wakes, [{"why": why}])


def register_nodes(tx: Transaction, found: Sequence[Node], *, host: str) -> None:
    """Insert or update nodes."""
    for node in found:
        _register(tx, node, host)


def _register(tx: Transaction, node: Node, host: str) -> None:
    written = rows.dump(node.to_mapping())
    known = tx.connection.execute(select(nodes.c.node, nodes.c.silent_since).where(nodes.c.name == node.name)).one_or_none()
    tx.upsert(nodes, name=node.name, node=written, host=host, seen_at=tx.now, silent_since=None)
    if known is not None and known.silent_since is not None:
        mark_due(tx, "node")
    if known is None or written != known.node:
        record(tx, "node.registered", node.name, {"capacity": dict(node.capacity), "place": node.place})
        mark_due(tx, "node")


def remove_node(tx: Transaction, name: str) -> None:
    """Take a node out; the next round tells those that now wait in vain."""
    if tx.connection.execute(delete(nodes).where(nodes.c.name == name)).rowcount:
        record(tx, "node.removed", name, {})
        mark_due(tx, "node")


def all_nodes(tx: Transaction) -> tuple[NodeRow, ...]:
    """Return every node, by name."""
    return tuple(rows.node_row(row) for row in tx.connection.execute(select(nodes).order_by(nodes.c.name)))


def node_answered(tx: Transaction, name: str, *, answered: bool) -> NodeRow | None:
    """Remember an answer, or the first of a row of silences; a silent node is granted nothing until it answers."""
    spoke_again = nodes.c.name == name, nodes.c.silent_since.is_not(None)
    if answered and tx.connection.execute(select(nodes.c.name).where(*spoke_again)).one_or_none():
        mark_due(tx, "node")
    heard = {"seen_at": tx.now, "silent_since": None} if answered else {"silent_since": func.coalesce(nodes.c.silent_since, tx.now)}
    tx.connection.execute(update(nodes).where(nodes.c.name == name).values(**heard))
    row = tx.connection.execute(select(nodes).where(nodes.c.name == name)).one_or_none()
    return None if row is None else rows.node_row(row)


def heartbeat(tx: Transaction, follower: str, kind: FollowerKind, host: str) -> None:
    """Write a follower's row."""
    tx.upsert(followers, id=follower, kind=kind, host=host, seen_at=tx.now)


def heard_of(tx: Transaction, *, within_s: float) -> tuple[tuple[str, FollowerKind, str], ...]:
    """Return the followers heard of lately, by id."""
    query = select(followers).where(followers.c.seen_at >= tx.now - within_s).order_by(followers.c.id)
    return tuple((row.id, row.kind, row.host) for row in tx.connection.execute(query))


def put_agent(tx: Transaction, agent: AgentSpec) -> None:
    """Insert or update an agent."""
    written = rows.dump(agent.to_mapping())
    known = tx.connection.execute(select(agents.c.agent).where(agents.c.name == agent.name)).scalar_one_or_none()
    if written != known:
        tx.upsert(agents, name=agent.name, agent=written, updated_at=tx.now)
        record(tx, "agent.changed", agent.name, agent.to_mapping())


def all_agents(tx: Transaction) -> tuple[AgentSpec, ...]:
    """Return every agent, by name."""
    return tuple(rows.agent(row) for row in tx.connection.execute(select(agents).order_by(agents.c.name)))


def claim_reaping(tx: Transaction, *, interval_s: float) -> float | None:
    """Take the reaper's turn by compare-and-set, and forget followers long gone and what is expected no more.

    A clock that was set back makes the turn due, with no seconds passed.
    """
    last = tx.connection.execute(select(workspace.c.reaped_at)).scalar_one()
    passed = interval_s if last is None else tx.now - last
    if 0 <= passed < interval_s:
        return None
    unchanged = or_(workspace.c.reaped_at == last, workspace.c.reaped_at.is_(None))
    if not tx.connection.execute(update(workspace).where(unchanged).values(reaped_at=tx.now)).rowcount:
        return None
    tx.connection.execute(delete(followers).where(followers.c.seen_at < tx.now - _FORGOTTEN_S))
    tx.connection.execute(delete(expected).where(expected.c.until < tx.now))
    return max(passed, 0.0)
