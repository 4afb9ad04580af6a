r"""Strategy ``price``: the prices of the linear programme guide a packing of whole bundles.

Served is what is worth most in all, :math:`\max \sum_i v_i \sum_n z_{in}` with
:math:`\sum_i a_{ir} z_{in} \le b_{nr}` and z whole: a demand's value is its weight, doubled by
each step of priority. The relaxed programme over the whole cluster has R prices (`market`);
demands are packed by value for money, each on the node whose leftovers are then worth least,
and a few nodes at a time are emptied and packed anew (`packing`). Small problems are
given to HiGHS as well. What the plan lacks to the best bound known is reported.

References
----------
CvxCluster, arXiv 2605.01614, 2026 (convex relaxation, prices, greedy placement).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from airflow_dla.allocation.admission import Admission
from airflow_dla.allocation.auction import Bids, read_bids
from airflow_dla.allocation.market import clear
from airflow_dla.allocation.packing import Room, pack
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.table import Asked, Bools, Ints, Offered

_SMALL = 200
_DIGITS = 12
_LARGE = 2_000_000
_NODES = 200
_LIMIT_S = 2.0
_GOOD = 1e-6
_NEAR = 1e-3


def admission(asked: Asked, offered: Offered, policy: Policy) -> Admission:  # noqa: ARG001 every strategy is asked alike
    """Choose whom to serve where; the others follow by value for money."""
    bids = read_bids(asked, offered)
    market = clear(bids.value[bids.queue], bids.bundle[bids.queue], bids.supply) if len(bids.queue) else None
    if market is None:
        return Admission(bids.by_worth(np.zeros(len(bids.supply))))
    order = bids.by_worth(market.price)
    if len(bids.queue) * len(offered.names) > _LARGE:
        return Admission(order, values=bids.value, bound=market.value)
    room = read_room(asked, offered, bids)
    packed, bound = pack(room, bids.value, order[: len(bids.queue)], market.price, enough=0.0), market.value
    if len(bids.queue) * len(offered.names) <= _SMALL:
        packed, bound = _exact(room, bids, packed, bound)
    if _value(bids, packed) < bound * (1 - _NEAR):
        again = pack(room, bids.value, order[: len(bids.queue)], market.price, enough=bound * (1 - _NEAR))
        packed = again if _value(bids, again) > _value(bids, packed) else packed
    where = np.where(packed >= 0, room.nodes[packed], -1)
    served = where[order] >= 0
    return Admission(np.concatenate([order[served], order[~served]]), where=where, values=bids.value, bound=bound)


def _value(bids: Bids, where: Ints) -> float:
    return float(bids.value[where >= 0].sum())


def read_room(asked: Asked, offered: Offered, bids: Bids) -> Room:
    """Turn nodes into what bundles are packed into, sorted by name."""
    names = np.argsort(np.array(offered.names, dtype=str), kind="stable")
    # Rounded, as bids are: of packings that are worth the same, the last digit must not choose.
    free = ((offered.free + offered.slack) / bids.unit)[names].round(_DIGITS)
    return Room(size=bids.bundle, free=free, allowed=offered.allowed[:, names][asked.kind], nodes=names)


def _exact(room: Room, bids: Bids, where: Ints, bound: float) -> tuple[Ints, float]:
    """Solve for whole bundles by HiGHS; keep `where` unless that is better."""
    rows, nodes = np.nonzero(room.allowed[bids.queue])
    rows = bids.queue[rows]
    fits = (room.size[rows] <= room.free[nodes]).all(axis=1)
    rows, nodes = rows[fits], nodes[fits]
    columns, resources = np.arange(len(rows)), room.size.shape[1]
    once = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(where), len(rows)))
    at = (nodes[:, None] * resources + np.arange(resources)).ravel()
    hold = csr_array((room.size[rows].ravel(), (at, np.repeat(columns, resources))), shape=(room.free.size, len(rows)))
    answer = milp(
        -bids.value[rows],
        integrality=np.ones(len(rows), dtype=np.intp),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, ub=1.0), LinearConstraint(hold, ub=room.free.ravel())],
        # The count of nodes ends it, so that equal problems have equal answers; the time is for the worst case.
        options={"node_limit": _NODES, "time_limit": _LIMIT_S, "mip_rel_gap": 0.0},
    )
    if answer.mip_dual_bound is not None and np.isfinite(answer.mip_dual_bound):
        bound = min(bound, -float(answer.mip_dual_bound))
    if answer.x is None or -answer.fun <= _value(bids, where) * (1 + _GOOD):
        return where, bound
    chosen: Bools = answer.x > 0.5  # noqa: PLR2004 what HiGHS means by one
    found = np.full(len(where), -1, dtype=np.intp)
    found[rows[chosen]] = nodes[chosen]
    return found, bound
