"""The ledger's own check of a decision: whoever decided, no node gives more than it has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from airflow_dla.errors import LedgerError
from airflow_dla.ledger.records import Decision, Snapshot
from airflow_dla.specs import Grant, Node

#: Rounding that a solver may leave, relative to the capacity and at least absolute.
_TOLERANCE = 1e-9


def check(snapshot: Snapshot, decision: Decision) -> None:
    """Refuse a decision that grants what is not there.

    Raises
    ------
    LedgerError
        If a grant is for nobody who waits or on no node, a resource of a node would be
        exceeded, or a GPU would be granted twice.
    """
    if not decision.grants:
        return
    nodes = {node.name: node for node in snapshot.nodes}
    pending = {demand.id for demand in snapshot.pending}
    for id_, grant in decision.grants.items():
        _check_grant(id_, grant, pending, nodes)
    touched = {grant.node for grant in decision.grants.values()}
    by_node: defaultdict[str, list[Grant]] = defaultdict(list)
    for grant in (*snapshot.live, *decision.grants.values()):
        if grant.node in touched:
            by_node[grant.node].append(grant)
    for name, grants in by_node.items():
        _check_amounts(nodes[name], grants, _asked(decision, name))
        _check_gpus(nodes[name], grants)


def _check_grant(id_: str, grant: Grant, pending: set[str], nodes: dict[str, Node]) -> None:
    if id_ != grant.id or id_ not in pending:
        raise _refused(f"grant {grant.id!r} answers no demand that waits (it stands under {id_!r})")
    if grant.node not in nodes:
        raise _refused(f"grant {id_!r} is on node {grant.node!r}; known are {', '.join(sorted(nodes)) or 'none'}")
    unknown = [gpu for gpu in grant.gpu_ids if gpu not in nodes[grant.node].gpu_ids]
    if unknown:
        raise _refused(f"grant {id_!r} names the GPUs {', '.join(unknown)}, which node {grant.node!r} does not hand out")


def _asked(decision: Decision, node: str) -> set[str]:
    """Return the resources that new grants take from a node: only those can be exceeded by them."""
    mine = (grant.amounts.items() for grant in decision.grants.values() if grant.node == node)
    return {resource for amounts in mine for resource, amount in amounts if amount > 0}


def _check_amounts(node: Node, grants: list[Grant], resources: set[str]) -> None:
    for resource in sorted(resources):
        used = sum(grant.amounts.get(resource, 0.0) for grant in grants)
        capacity = node.capacity.get(resource, 0.0)
        if used > capacity + _TOLERANCE * max(1.0, capacity):
            raise _refused(f"node {node.name!r} has {capacity:g} {resource}, {used:g} would be granted")


def _check_gpus(node: Node, grants: list[Grant]) -> None:
    if not node.gpu_ids:
        return
    shares: defaultdict[str, float] = defaultdict(float)
    for gpu, share in _gpu_shares(grants):
        shares[gpu] += share
        if shares[gpu] > 1 + _TOLERANCE:
            raise _refused(f"GPU {gpu!r} of node {node.name!r} would be granted twice")


def _gpu_shares(grants: Iterable[Grant]) -> Iterator[tuple[str, float]]:
    """Yield each GPU id with the part of it that a grant takes: a whole one unless it asked for less."""
    for grant in grants:
        asked = grant.amounts.get("gpu", 0.0)
        share = asked if 0 < asked < 1 else 1.0
        yield from ((gpu, share) for gpu in grant.gpu_ids)
        if asked >= 1 and len(grant.gpu_ids) != asked:
            raise _refused(f"grant {grant.id!r} of {asked:g} GPUs names {len(grant.gpu_ids)}; it must name each that it gets")


def _refused(what: str) -> LedgerError:
    return LedgerError(f"allocation refused, nothing was written: {what}; this is a defect of the strategy, please report it")
