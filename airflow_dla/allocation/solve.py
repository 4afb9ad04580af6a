"""Arrays in, arrays out: admission, placement and settling, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from airflow_dla.allocation import auction, fair, greedy, lp, price
from airflow_dla.allocation.admission import Admission
from airflow_dla.allocation.backfill import Kept, Promise, promise
from airflow_dla.allocation.devices import Devices
from airflow_dla.allocation.holding import holding
from airflow_dla.allocation.limits import TeamTree, read_teams
from airflow_dla.allocation.placement import Packing, place
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.settling import Settling
from airflow_dla.allocation.table import RELATIVE, Asked, Bools, Floats, Ints, Offered

#: A strategy says in which order demands are admitted.
ADMISSIONS: Final[Mapping[str, Callable[[Asked, Offered, Policy], Admission]]] = {
    "lp": lp.admission,
    "greedy": greedy.admission,
    "fair": fair.admission,
    "price": price.admission,
    "auction": auction.admission,
}

#: So many heads of the queue are tried that turn out to wait for somebody who is expected.
_HEADS: Final = 4


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer, as arrays.

    Parameters
    ----------
    order : int array, shape (n,)
        Demands in the order of admission.
    where : int array, shape (n,)
        Node of each demand, -1 for those that wait.
    amounts : float array, shape (n, R)
        What each got; 0 for those that wait.
    permitted : float array, shape (n, R)
        What each wants, or what the quota of its team leaves of it.
    free : float array, shape (G, R)
        What is left of each node.
    quota : float array, shape (T, R)
        What teams may still be granted.
    lent : float array, shape (T, R)
        What there is for each team that no other is guaranteed; infinite without teams.
    price : float array, shape (G, R)
        Shadow price of each resource of each node.
    devices : dict of int to `Devices`
        With everything placed on them.
    admission : `Admission`
        What the strategy answered.
    kept : `Promise` or None
        What backfill keeps for the head of the queue.
    refused : mapping of demand to hold
        Demands that would fit, had nothing been kept for jobs that are expected.
    """

    order: Ints
    where: Ints
    amounts: Floats
    permitted: Floats
    free: Floats
    quota: Floats
    lent: Floats
    price: Floats
    devices: Mapping[int, Devices]
    admission: Admission
    kept: Promise | None
    refused: Mapping[int, int]


def solve(asked: Asked, offered: Offered, policy: Policy) -> Solution:
    """Decide who gets how much of which node.

    Raises
    ------
    SolverFailed
        If HiGHS is needed and does not end at an optimum.
    """
    admission = _together(asked, offered, ADMISSIONS[policy.strategy](asked, offered, policy))
    turn = shedding_order(asked)
    tree = _tree(asked, offered, policy)
    packing, kept, refused = _placed(asked, offered, admission, turn, tree, drain_after_s=policy.drain_after_s)
    held = packing.held_back()
    settling = Settling(asked, replace(offered, free=offered.free - held), policy, packing, rows=turn[packing.where[turn] >= 0])
    settling.settle()
    permitted, amounts, quota = asked.wanted.copy(), np.zeros(asked.minimum.shape), offered.quota.copy()
    permitted[settling.rows], amounts[settling.rows] = settling.permitted, settling.low
    np.subtract.at(quota, asked.team, amounts)
    lent = np.full(quota.shape, np.inf)
    if tree is not None:
        own = tree.held(asked.team, amounts)
        quota, lent = np.minimum(quota, tree.permitted(own)), tree.available(own)
    return Solution(
        order=admission.order,
        where=packing.where,
        amounts=amounts,
        permitted=permitted,
        free=settling.room() + held,
        quota=quota,
        lent=lent,
        price=settling.price,
        devices=settling.devices,
        admission=admission,
        kept=kept,
        refused=refused,
    )


def _together(asked: Asked, offered: Offered, admission: Admission) -> Admission:
    """Order the members of each gang one after the other, and take back nodes that were chosen for a part of a gang."""
    gangs, where = asked.gangs, admission.where
    if gangs is None:
        return admission
    if where is not None:
        nowhere = np.flatnonzero((where < 0) & (gangs.of >= 0))
        where = where.copy()
        where[gangs.with_all_of(nowhere)] = -1
    return replace(admission, order=gangs.gathered(admission.order, greedy.dominant_share(asked, offered)), where=where)


def left_out(asked: Asked, admission: Admission) -> Bools:
    """Return which demands are not served now, whatever is free: barred ones, and all of a gang of which one is barred or not here."""
    out = np.zeros(len(asked), dtype=bool)
    out[list(admission.barred)] = True
    if asked.gangs is not None:
        out[asked.gangs.with_all_of(np.flatnonzero(out | ~asked.gangs.complete()))] = True
    return out


def _tree(asked: Asked, offered: Offered, policy: Policy) -> TeamTree | None:
    if not policy.teams:
        return None
    return read_teams(policy.teams, asked.teams, asked.resources, offered.capacity.sum(axis=0), policy.used)


def _placed(
    asked: Asked, offered: Offered, admission: Admission, turn: Ints, tree: TeamTree | None, *, drain_after_s: float
) -> tuple[Packing, Promise | None, Mapping[int, int]]:
    """Place demands; once more with what expected jobs need kept, and once more with what the head of the queue does."""
    order = admission.order[~left_out(asked, admission)[admission.order]]

    def placed(*kept: Kept) -> Packing:
        return place(asked, offered, order, turn, where=admission.where, tree=tree, kept=kept)

    packing = placed()
    held = holding(asked, offered, order, packing.where)
    if held.kept:
        packing = placed(*held.kept)
    refused = held.refused(asked, offered, packing.where, packing.free[:, : len(asked.resources)])
    if offered.leaving is None:
        return packing, None, refused
    beyond: Bools = np.asarray((asked.minimum > np.maximum(packing.quota, 0.0)[asked.team] * (1 + RELATIVE)).any(axis=1))
    if tree is not None:
        beyond |= (asked.minimum > tree.available(packing.own)[asked.team] + tree.slack).any(axis=1)
    for _ in range(_HEADS):
        beyond[list(refused)] = True
        kept = promise(asked, offered, order, packing.where, beyond, drain_after_s=drain_after_s)
        if kept is None:
            break
        last = placed(kept.kept(len(offered.names)), *held.kept)
        waiting = held.refused(asked, offered, last.where, last.free[:, : len(asked.resources)])
        if not set(waiting) & set(kept.heads):
            return last, kept, waiting
        # Who would fit now, were nobody expected, waits for no end of others: he heads no queue.
        refused = {**waiting, **refused}
    return packing, None, refused


def shedding_order(asked: Asked) -> Ints:
    """Order demands for strict shedding: by priority, then weight, age and id."""
    return np.lexsort((asked.rank, asked.created, -asked.weight, -asked.priority))
