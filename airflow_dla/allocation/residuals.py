r"""What the rest of a shared GPU is worth: the prices of packing shares into GPUs.

Shares of a GPU do not add up to GPUs: 0.81 leaves 0.19 that hardly anybody asks for. Which
shares go well together is a bin-packing problem, and the dual of its linear relaxation says
what each share costs in GPUs, :math:`y`: with the packings :math:`p` of one GPU as columns,

.. math:: \min \sum_p x_p \quad \text{s.t.} \quad \sum_p a_{sp} x_p \ge d_s, \; x \ge 0.

A rest of a GPU is worth the dearest packing of it, :math:`V(r) = \max_p \sum_s y_s a_{sp}`
over packings that fit into :math:`r`. To seat a share in a rest costs the worth it takes away.

References
----------
Gilmore, Gomory: A linear programming approach to the cutting-stock problem, Operations
Research 9, 1961.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from airflow_dla.allocation.solver import minimise
from airflow_dla.allocation.table import Floats, Ints

#: Shares are counted in thousandths of a GPU.
WHOLE: Final = 1000

_ENOUGH: Final = 1e-7
_TINY: Final = 1e-12
_ROUNDS: Final = 200


def residual_prices(shares: Ints, demand: Floats) -> Floats:
    """Price what may be left of a GPU.

    Parameters
    ----------
    shares : int array, shape (s,)
        Different shares that are asked for, thousandths of a GPU, between 1 and 999.
    demand : float array, shape (s,)
        How often each is asked for, > 0; only proportions count.

    Returns
    -------
    float array, shape (1001,)
        Worth of a rest of 0 … 1000 thousandths, in GPUs: 0 where nothing fits, 1 for a whole GPU.

    Raises
    ------
    SolverFailed
        If HiGHS does not end at an optimum.

    Examples
    --------
    Of two kinds as frequent, 0.6 beside 0.4: a rest of 0.5 is worth as much as one of 0.4, 0.3 nothing.

    >>> worth = residual_prices(np.array([400, 600]), np.array([1.0, 1.0]))
    >>> bool(worth[500] == worth[400] > worth[300] == 0.0), round(float(worth[1000]), 6)
    (True, 1.0)
    """
    if not len(shares):
        worth = np.zeros(WHOLE + 1)
        worth[WHOLE] = 1.0
        return worth
    packings = _of_two(shares)
    for _ in range(_ROUNDS):
        price = _prices(packings, demand / demand.sum())
        worth, member = _knapsack(shares, price)
        if worth[WHOLE] <= 1 + _ENOUGH:
            break
        packings = np.column_stack([packings, _packing(shares, member)])
    worth = np.minimum(worth, 1.0)
    worth[WHOLE] = 1.0
    return worth


def _of_two(shares: Ints) -> Floats:
    """Return the packings that hold one of a share and then as many of another as fit, which are most that matter."""
    eye = np.eye(len(shares))
    rests = WHOLE - shares
    packings = [one + rest // shares[other] * eye[other] for rest, one in zip(rests, eye, strict=True) for other in range(len(shares))]
    return np.unique(np.column_stack(packings), axis=1)


def _prices(packings: Floats, demand: Floats) -> Floats:
    count = packings.shape[1]
    return minimise(np.ones(count), -packings, -demand, np.zeros(count), np.full(count, np.inf)).price


def _knapsack(shares: Ints, price: Floats) -> tuple[Floats, list[int]]:
    """Return the worth of every rest, and the place of a share in its dearest packing, -1 for none."""
    # Shares are seldom odd: in steps of their greatest common divisor there are fewer rests.
    step = int(np.gcd.reduce(shares, initial=WHOLE))
    priced = [
        (int(share) // step, float(value), place) for place, (share, value) in enumerate(zip(shares, price, strict=True)) if value > 0
    ]
    worth, member = [0.0] * (WHOLE // step + 1), [-1] * (WHOLE + 1)
    for rest in range(1, len(worth)):
        best, chosen = worth[rest - 1], -1
        for share, value, place in priced:
            if share <= rest and worth[rest - share] + value > best + _TINY:
                best, chosen = worth[rest - share] + value, place
        worth[rest], member[rest * step] = best, chosen
    return np.repeat(worth, step)[: WHOLE + 1], member


def _packing(shares: Ints, member: list[int]) -> Floats:
    """Read the dearest packing of a whole GPU off the knapsack; what is left over is skipped."""
    packing, rest = np.zeros(len(shares)), WHOLE
    while rest > 0:
        place = member[rest]
        if place >= 0:
            packing[place] += 1
        rest -= int(shares[place]) if place >= 0 else 1
    return packing
