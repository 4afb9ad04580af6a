r"""Prices at which a market of bundles clears.

Demand i bids :math:`v_i` for the bundle :math:`a_i`; b is for sale. The prices are the duals of

.. math:: \max \sum_i v_i y_i \quad \text{s.t.} \quad \sum_i a_{ir} y_i \le b_r,\; 0 \le y \le 1

where an ascending clock stops as well: at p, those with :math:`v_i > p \cdot a_i` buy, those
with less do not, and nothing with a price is left over. There are only R prices, so they are
approached resource by resource (`tatonnement`), and the linear programme is solved for the few
bids near the margin: exact, since every other bid is checked against the prices it gives.

References
----------
Bixby, Gregory, Lustig, Marsten, Shanno, Operations Research 40, 1992 (sifting).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.solver import minimise
from airflow_dla.allocation.table import Bools, Floats, Ints
from airflow_dla.errors import SolverFailed

_SWEEPS = 8
_CORE = 300
_SAMPLE = 3000
_ROUNDS = 60
_EQUAL = 1e-10


@dataclass(frozen=True, slots=True)
class Clearing:
    """Where a market clears.

    Parameters
    ----------
    price : float array, shape (R,)
        Per unit of each resource, >= 0.
    value : float
        What the best fractional allocation is worth; no whole one is worth more.
    """

    price: Floats
    value: float


def clear(value: Floats, bundle: Floats, supply: Floats) -> Clearing:
    """Find the prices at which bids for bundles clear.

    Parameters
    ----------
    value : float array, shape (n,), > 0
    bundle : float array, shape (n, R), >= 0
    supply : float array, shape (R,), >= 0

    Raises
    ------
    SolverFailed
        If HiGHS does not end at an optimum.

    Examples
    --------
    >>> found = clear(np.array([9.0, 4.0, 1.0]), np.array([[2.0], [2.0], [1.0]]), np.array([3.0]))
    >>> found.price.tolist(), found.value
    ([2.0], 11.0)
    """
    if not (bundle.sum(axis=0) > supply).any():
        return Clearing(np.zeros(len(supply)), float(value.sum()))
    price, size = _sampled(value, bundle, supply) if len(value) > _CORE else np.zeros(len(supply)), _CORE
    core = _nearest(value, bundle, price, size)
    for _ in range(_ROUNDS):
        found = _margin(value, bundle, supply, price, core)
        if found is not None:
            surplus = value - bundle @ found
            wrong = ~core & ((surplus > _EQUAL * value) != (value - bundle @ price > 0)) & (np.abs(surplus) > _EQUAL * value)
            if not wrong.any():
                return Clearing(found, float(found @ supply + np.maximum(0.0, surplus).sum()))
            core |= wrong
        else:
            size *= 4
            core |= _nearest(value, bundle, price, size)
    raise SolverFailed(f"the market of {len(value)} bids did not clear in {_ROUNDS} rounds")


def _sampled(value: Floats, bundle: Floats, supply: Floats) -> Floats:
    """Return prices to begin with: of a part of the bids, and as large a part of what is for sale."""
    step = max(1, len(value) // _SAMPLE)
    part = slice(None, None, step)
    return tatonnement(value[part], bundle[part], supply * len(value[part]) / len(value))


def tatonnement(value: Floats, bundle: Floats, supply: Floats) -> Floats:
    """Set one price after the other to where what is sought of that resource meets what there is."""
    price = np.zeros(len(supply))
    for _ in range(_SWEEPS):
        before = price.copy()
        for resource in range(len(supply)):
            price[resource] = _clearing(value, bundle, supply, price, resource)
        if np.allclose(before, price, rtol=1e-6, atol=0.0):
            break
    return price


def _clearing(value: Floats, bundle: Floats, supply: Floats, price: Floats, resource: int) -> float:
    others = price.copy()
    others[resource] = 0.0
    left, need = value - bundle @ others, bundle[:, resource]
    buyers = np.flatnonzero((left > 0) & (need > 0))
    worth = left[buyers] / need[buyers]
    order = np.argsort(-worth, kind="stable")
    beyond = np.flatnonzero(np.cumsum(need[buyers[order]]) > supply[resource])
    return float(worth[order[beyond[0]]]) if len(beyond) else 0.0


def _nearest(value: Floats, bundle: Floats, price: Floats, count: int) -> Bools:
    """Return the bids nearest to the margin."""
    core = np.ones(len(value), dtype=bool)
    if count < len(value):
        distance = np.abs(value - bundle @ price) / value
        core = distance <= np.partition(distance, count)[count]
    return core


def _margin(value: Floats, bundle: Floats, supply: Floats, price: Floats, core: Bools) -> Floats | None:
    """Solve for the bids at the margin, the others bought or not as `price` says; None if that cannot be."""
    bought = ~core & (value - bundle @ price > 0)
    room = supply - bundle[bought].sum(axis=0)
    if (room < 0).any():
        return None
    rows: Ints = np.flatnonzero(core)
    return minimise(-value[rows], bundle[rows].T, room, np.zeros(len(rows)), np.ones(len(rows))).price
