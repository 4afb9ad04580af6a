r"""Strategy ``fair``: dominant resource fairness over a tree of teams.

Progressive filling: whose share is smallest is served next. The share of a team is the
largest part of a resource that it holds above its guarantee, by its weight,

.. math:: s_t = \frac{1}{w_t} \max_r \frac{(u_{tr} + h_{tr} - q_{tr})^+}{b_r}

with u what the team and its children hold, h what they held lately, q the guarantee and b
the cluster. Whoever stays within the guarantee goes first, by share of all it holds. Below a parent, its children
and its own demands compete alike; below a team, demands go by priority, age and id.

Since a team's share only rises as it is served, the order in which the smallest is always
next is a merge of sorted queues: it is found by sorting, parent by parent.

References
----------
Ghodsi et al.: Dominant Resource Fairness, NSDI 2011.
Bhattacharya et al.: Hierarchical Scheduling for Diverse Datacenter Workloads, SoCC 2013.
Kueue, KEP 1714 (fair sharing) and KEP 4136 (admission fair sharing).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.admission import Admission
from airflow_dla.allocation.limits import TeamTree, read_teams
from airflow_dla.allocation.placement import longest_runs
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.table import Asked, Bools, Floats, Ints, Offered

_PASSES = 3
_DIGITS = 9
_EQUAL = 1e-9


def admission(asked: Asked, offered: Offered, policy: Policy) -> Admission:
    """Order demands by the shares of their teams; those that cannot be served do not count."""
    total = offered.capacity.sum(axis=0)
    tree = read_teams(policy.teams, asked.teams, asked.resources, total, policy.used)
    queue = np.lexsort((asked.rank, asked.created, -(asked.priority + asked.aged)))
    counts = (asked.minimum <= total * (1 + _EQUAL)).all(axis=1)
    if asked.gangs is not None:
        counts &= asked.gangs.complete()
    for _ in range(_PASSES):
        order = _merged(tree, asked, queue, np.where(counts[:, None], asked.minimum, 0.0), total)
        served = _served(tree, asked, offered, order)
        if not (counts & ~served).any():
            break
        counts &= served
    return Admission(order)


def _served(tree: TeamTree, asked: Asked, offered: Offered, order: Ints) -> Bools:
    """Return which demands would be served if all nodes were one."""
    passing = order[tree.passing(tree.used, asked.team[order], asked.minimum[order])]
    served = np.zeros(len(asked), dtype=bool)
    free, slack = offered.free.sum(axis=0), offered.slack.sum(axis=0)
    for run in longest_runs(np.ascontiguousarray(asked.minimum[passing].T), free, slack):
        served[passing[run]] = True
    return served


def _merged(tree: TeamTree, asked: Asked, queue: Ints, size: Floats, total: Floats) -> Ints:
    """Merge the queues of teams into that of their parent, from the leaves to the cluster."""
    place = np.empty(len(queue), dtype=np.intp)
    place[queue] = np.arange(len(queue))
    held, past = _subtrees(tree, tree.used), _subtrees(tree, tree.past)
    team = tree.of[asked.team[queue]]
    queues: list[list[tuple[Ints, Floats]]] = [[] for _ in tree.parent]
    for node in range(len(tree.parent) - 1, -1, -1):
        own = queue[team == node]
        if len(own):
            itself = _Account(tree.used[node], tree.past[node], np.zeros(len(total)), total, 1.0)
            queues[node].append((own, itself.keys(size[own], place[own])))
        merged = _merge(queues[node])
        if node and len(merged):
            account = _Account(held[node], past[node], tree.guaranteed[node], total, float(tree.weight[node]))
            queues[tree.parent[node]].append((merged, account.keys(size[merged], place[merged])))
    return merged


@dataclass(frozen=True, slots=True)
class _Account:
    """What a team holds, held and is guaranteed, each of shape (R,), and its weight."""

    used: Floats
    past: Floats
    guaranteed: Floats
    total: Floats
    weight: float

    def keys(self, size: Floats, place: Ints) -> Floats:
        """Return by what a team's demands, in its own order, compete with those of others; shape (4, k), the last decides first."""
        scale = 1.0 / np.where(self.total > 0, self.total, 1.0)
        after = np.cumsum(size, axis=0) + self.used
        before = after - size + self.past
        beyond = ((after - self.guaranteed) * scale > _EQUAL).any(axis=1)
        above = (np.maximum(0.0, before - self.guaranteed) * scale).max(axis=1, initial=0.0) / self.weight
        share = (before * scale).max(axis=1, initial=0.0) / self.weight
        # Rounded, so that shares that are equal but for the order of adding up stay equal.
        return np.stack([np.maximum.accumulate(place), share.round(_DIGITS), above.round(_DIGITS), beyond])


def _merge(queues: list[tuple[Ints, Floats]]) -> Ints:
    if not queues:
        return np.empty(0, dtype=np.intp)
    rows, keys = np.concatenate([rows for rows, _ in queues]), np.concatenate([keys for _, keys in queues], axis=1)
    return rows[np.lexsort(tuple(keys))]


def _subtrees(tree: TeamTree, own: Floats) -> Floats:
    total = own.copy()
    for node in range(len(own) - 1, 0, -1):
        total[tree.parent[node]] += total[node]
    return total
