r"""Strategy ``price``: the prices of the linear programme guide a packing of whole bundles.

Served is what is worth most in all, :math:`\max \sum_i v_i \sum_n z_{in}` with
:math:`\sum_i a_{ir} z_{in} \le b_{nr}` and z whole: a demand's value is its weight, doubled by
each step of priority. The relaxed programme over the whole cluster has R prices (`market`);
demands are packed by value for money, each on the node whose leftovers are then worth least,
and a few nodes at a time are emptied and packed anew (`packing`). Where a node holds few of
them its whole set is chosen at once (`patterns`). Small problems are
given to HiGHS as well. What the plan lacks to the best bound known is reported.

References
----------
CvxCluster, arXiv 2605.01614, 2026 (convex relaxation, prices, greedy placement).
"""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.admission import Admission
from airflow_dla.allocation.auction import Bids, read_bids
from airflow_dla.allocation.market import Clearing, clear
from airflow_dla.allocation.packing import Room, pack
from airflow_dla.allocation.patterns import cover
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.table import Asked, Bools, Floats, Ints, Offered

_SMALL = 200
_PER_NODE = 8
_MANY = 20_000
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
    packed, bound = choose(room, bids.value, order[: len(bids.queue)], market)
    where = np.where(packed >= 0, room.nodes[packed], -1)
    served = where[order] >= 0
    return Admission(np.concatenate([order[served], order[~served]]), where=where, values=bids.value, bound=bound)


def choose(room: Room, value: Floats, order: Ints, market: Clearing) -> tuple[Ints, float]:
    """Pack whole bundles so that they are worth as much as possible, each time with more effort while the bound is worth it.

    Parameters
    ----------
    room : `Room`
        Of n bundles.
    value : float array, shape (n,), > 0
    order : int array, shape (k,)
        Bundles that some node could hold, by value for money.
    market : `Clearing`

    Returns
    -------
    where : int array, shape (n,)
        Node of each bundle, as `room` counts them; -1 for none.
    bound : float
        No packing is worth more.
    """
    best, bound = pack(room, value, order, market.price, enough=0.0), market.value
    if len(order) * len(room.free) <= _SMALL:
        best, bound = _exact(room, value, order, best, bound)
    if _worth(value, best) < bound * (1 - _NEAR) and _few(best, order, room):
        best = _better(value, best, _by_patterns(room, value, order, best))
    enough = bound * (1 - _NEAR)
    if _worth(value, best) < enough:
        best = _better(value, best, pack(room, value, order, market.price, start=best, enough=enough))
    return best, bound


def _few(where: Ints, order: Ints, room: Room) -> bool:
    """Return whether nodes hold so few bundles that it pays, in time as well, to choose the whole set of each."""
    held, used = int((where >= 0).sum()), len(np.unique(where[where >= 0]))
    return 0 < held <= _PER_NODE * used and len(order) * len(room.free) <= _MANY


def _by_patterns(room: Room, value: Floats, order: Ints, where: Ints) -> Ints:
    found = np.full(len(where), -1, dtype=np.intp)
    part = Room(size=room.size[order], free=room.free, allowed=room.allowed[order], nodes=room.nodes)
    found[order] = cover(part, value[order], where[order])
    return found


def _better(value: Floats, one: Ints, other: Ints) -> Ints:
    return other if _worth(value, other) > _worth(value, one) else one


def _worth(value: Floats, where: Ints) -> float:
    return float(value[where >= 0].sum())


def read_room(asked: Asked, offered: Offered, bids: Bids) -> Room:
    """Turn nodes into what bundles are packed into, sorted by name."""
    names = np.argsort(np.array(offered.names, dtype=str), kind="stable")
    # Rounded, as bids are: of packings that are worth the same, the last digit must not choose.
    free = ((offered.free + offered.slack) / bids.unit)[names].round(_DIGITS)
    matches = None if offered.matches is None else offered.matches[:, names][asked.kind]
    return Room(size=bids.bundle, free=free, allowed=offered.allowed[:, names][asked.kind], nodes=names, matches=matches)


def _exact(room: Room, value: Floats, order: Ints, where: Ints, bound: float) -> tuple[Ints, float]:
    """Solve for whole bundles by HiGHS; keep `where` unless that is better."""
    from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415 - half a second of each task's start, and few rounds come here
    from scipy.sparse import csr_array  # noqa: PLC0415 - as above

    rows, nodes = np.nonzero(room.allowed[order])
    rows = order[rows]
    fits = (room.size[rows] <= room.free[nodes]).all(axis=1)
    rows, nodes = rows[fits], nodes[fits]
    columns, resources = np.arange(len(rows)), room.size.shape[1]
    once = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(where), len(rows)))
    at = (nodes[:, None] * resources + np.arange(resources)).ravel()
    hold = csr_array((room.size[rows].ravel(), (at, np.repeat(columns, resources))), shape=(room.free.size, len(rows)))
    answer = milp(
        -value[rows],
        integrality=np.ones(len(rows), dtype=np.intp),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, ub=1.0), LinearConstraint(hold, ub=room.free.ravel())],
        # The count of nodes ends it, so that equal problems have equal answers; the time is for the worst case.
        options={"node_limit": _NODES, "time_limit": _LIMIT_S, "mip_rel_gap": 0.0},
    )
    if answer.mip_dual_bound is not None and np.isfinite(answer.mip_dual_bound):
        bound = min(bound, -float(answer.mip_dual_bound))
    if answer.x is None or -answer.fun <= _worth(value, where) * (1 + _GOOD):
        return where, bound
    chosen: Bools = answer.x > 0.5  # noqa: PLR2004 what HiGHS means by one
    found = np.full(len(where), -1, dtype=np.intp)
    found[rows[chosen]] = nodes[chosen]
    return found, bound
