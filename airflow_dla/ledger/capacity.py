"""The ledger's own check of a decision: whoever decided, no node gives more than it has."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from airflow_dla.errors import LedgerError
from airflow_dla.ledger.records import Decision, Snapshot
from airflow_dla.specs import Grant, Held, Node, mig_profile

#: Rounding that a solver may leave, relative to the capacity and at least absolute.
_TOLERANCE = 1e-9

#: What a process that runs cannot be given or lose.
_NOT_LIVE = ("gpu", "gpu_memory")


def check(snapshot: Snapshot, decision: Decision, *, bare: Collection[str] = ()) -> None:
    """Refuse a decision that gives what is not there, or changes what may not be changed.

    Parameters
    ----------
    snapshot : `Snapshot`
    decision : `Decision`
    bare : collection of str
        Live grants that belong to no job, so that nobody can be told to stop.

    Raises
    ------
    LedgerError
        If a grant is for nobody who waits or on no node, a resource of a node would be
        exceeded, a GPU would be granted twice, or a target or a preemption is not allowed.
    """
    held = {found.grant.id: found for found in snapshot.held}
    nodes = {node.name: node for node in snapshot.nodes}
    _check_new(snapshot, decision, nodes)
    promised = {id_: _promised(id_, target, held) for id_, target in decision.targets.items()}
    _check_preempted(decision, held, bare)
    if decision.again_at is not None and not math.isfinite(decision.again_at):
        raise _refused(f"the next round would be due at {decision.again_at}, which is no time")
    asked = _asked(decision, held, promised)
    if not asked:
        return
    by_node: defaultdict[str, list[Grant]] = defaultdict(list)
    for found in held.values():
        by_node[found.grant.node].append(promised.get(found.grant.id) or found.charged())
    for grant in decision.grants.values():
        by_node[grant.node].append(grant)
    for name, resources in asked.items():
        if name not in nodes:
            raise _refused(f"a grant on node {name!r} would grow, which may be granted from no more; known are {_known(nodes)}")
        _check_amounts(nodes[name], by_node[name], resources)
        _check_gpus(nodes[name], by_node[name])


def _check_new(snapshot: Snapshot, decision: Decision, nodes: Mapping[str, Node]) -> None:
    pending = {demand.id for demand in snapshot.pending} if decision.grants else set()
    for id_, grant in decision.grants.items():
        _check_grant(id_, grant, pending, nodes)


def _check_grant(id_: str, grant: Grant, pending: Collection[str], nodes: Mapping[str, Node]) -> None:
    if id_ != grant.id or id_ not in pending:
        raise _refused(f"grant {grant.id!r} answers no demand that waits (it stands under {id_!r})")
    if grant.node not in nodes:
        raise _refused(f"grant {id_!r} is on node {grant.node!r}; known are {_known(nodes)}")
    node = nodes[grant.node]
    known = {*node.gpu_ids, *(slice_ for ids in node.mig_ids.values() for slice_ in ids)}
    unknown = [gpu for gpu in grant.gpu_ids if gpu not in known]
    if unknown:
        raise _refused(f"grant {id_!r} names the GPUs {', '.join(unknown)}, which node {grant.node!r} does not hand out")
    for resource, amount in grant.amounts.items():
        ids = node.ids_of(resource)
        named = sum(gpu in ids for gpu in grant.gpu_ids)
        if ids and named != math.ceil(amount - _TOLERANCE):
            raise _refused(f"grant {id_!r} of {amount:g} {resource} names {named}; it must name each that it gets")


def _known(nodes: Mapping[str, Node]) -> str:
    return ", ".join(sorted(nodes)) or "none"


def _promised(id_: str, target: Grant, held: Mapping[str, Held]) -> Grant:
    """Return what a node would be charged for a grant with this target, after checking that it may have it."""
    if id_ not in held or id_ != target.id:
        raise _refused(f"target {target.id!r} is of no grant that is held (it stands under {id_!r})")
    now = held[id_]
    if now.stopping:
        raise _refused(f"grant {id_!r} would be changed, but its end is wanted")
    fixed: dict[str, tuple[object, object]] = {"node": (now.grant.node, target.node), "GPUs": (now.grant.gpu_ids, target.gpu_ids)}
    fixed |= {resource: (now.grant.amounts.get(resource, 0.0), target.amounts.get(resource, 0.0)) for resource in _not_live(now.grant)}
    for what, (old, new) in fixed.items():
        if old != new:
            raise _refused(f"grant {id_!r} would change its {what} from {old!r} to {new!r} while it is held")
    charged, then = now.charged(), dataclasses.replace(now, target=target).charged()
    for resource, amount in charged.amounts.items():
        if now.target is not None and then.amounts.get(resource, 0.0) < amount:
            raise _refused(f"grant {id_!r} was promised {amount:g} {resource}, which its holder may have taken: it cannot be unsaid")
    return then


def _not_live(grant: Grant) -> tuple[str, ...]:
    return (*_NOT_LIVE, *filter(mig_profile, grant.amounts))


def _check_preempted(decision: Decision, held: Mapping[str, Held], bare: Collection[str]) -> None:
    for id_ in decision.preempted:
        if id_ not in held:
            raise _refused(f"grant {id_!r} would be preempted, but is not held")
        if id_ in bare:
            raise _refused(f"grant {id_!r} would be preempted, but belongs to no job: nobody can be told to stop")
        if id_ in decision.targets:
            raise _refused(f"grant {id_!r} would be preempted and changed at once")


def _asked(decision: Decision, held: Mapping[str, Held], promised: Mapping[str, Grant]) -> dict[str, set[str]]:
    """Return, by node, the resources that the decision takes: only those can be exceeded by it."""
    asked: defaultdict[str, set[str]] = defaultdict(set)
    for grant in decision.grants.values():
        asked[grant.node] |= {resource for resource, amount in grant.amounts.items() if amount > 0}
    for id_, grant in promised.items():
        before = held[id_].charged().amounts
        grown = {resource for resource, amount in grant.amounts.items() if amount > before.get(resource, 0.0)}
        if grown:
            asked[grant.node] |= grown
    return asked


def _check_amounts(node: Node, grants: list[Grant], resources: set[str]) -> None:
    for resource in sorted(resources):
        used = sum(grant.amounts.get(resource, 0.0) for grant in grants)
        capacity = node.capacity.get(resource, 0.0)
        if used > capacity + _TOLERANCE * max(1.0, capacity):
            raise _refused(f"node {node.name!r} has {capacity:g} {resource}, {used:g} would be granted")


def _check_gpus(node: Node, grants: list[Grant]) -> None:
    if not (node.gpu_ids or node.mig_ids):
        return
    shares: defaultdict[str, float] = defaultdict(float)
    for gpu, share in _gpu_shares(grants):
        shares[gpu] += share
        if shares[gpu] > 1 + _TOLERANCE:
            raise _refused(f"GPU {gpu!r} of node {node.name!r} would be granted twice")


def _gpu_shares(grants: Iterable[Grant]) -> Iterator[tuple[str, float]]:
    """Yield each id of a GPU, or of a slice of one, with the part of it that a grant takes: all of it unless it asked for less."""
    for grant in grants:
        asked = grant.amounts.get("gpu", 0.0)
        share = asked if 0 < asked < 1 else 1.0
        yield from ((gpu, share) for gpu in grant.gpu_ids)


def _refused(what: str) -> LedgerError:
    return LedgerError(f"allocation refused, nothing was written: {what}; this is a defect of the strategy, please report it")
