r"""Strategy ``lp``: the cost-minimal linear programme, served by priority, then age.

.. math:: \min \sum_{ir} c_{ir} x_{ir} \quad \text{s.t.} \quad d_{ir} \le x_{ir} \le u_{ir},\;
          \sum_i x_{ir} \le b_r - \rho_r,\; x \ge 0

With costs >= 0 its optimum is x = d whenever that fits, so no solver is asked then. In a
shortage d gives way to the minimum m at a penalty, :math:`x + s \ge d`, and one unit that
is wanted is worth its cost and, on top, the weight of who wants it:
:math:`\min \sum c x + \sum (c + w) s`. Where resources are separate, that is R fractional
knapsacks, solved in `shedding`; where an amount follows the number of GPUs it is not, and
HiGHS solves it (`bundles`). `solve_box` solves the separate form by HiGHS as well: it is
what the closed forms are held against.
"""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.admission import Admission
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.programme import Optimum
from airflow_dla.allocation.solver import minimise
from airflow_dla.allocation.table import Asked, Floats, Offered


def admission(asked: Asked, offered: Offered, policy: Policy) -> Admission:  # noqa: ARG001 every strategy is asked alike
    """Order demands by priority, aged if the policy says so, then age, then id."""
    return Admission(np.lexsort((asked.rank, asked.created, -(asked.priority + asked.aged))))


def solve_box(cost: Floats, weight: Floats, minimum: Floats, wanted: Floats, limit: Floats) -> Optimum:
    """Solve the base problem with shedding for one node and separate resources, by HiGHS.

    Parameters
    ----------
    cost : float array, shape (R,)
        Of one unit, >= 0.
    weight : float array, shape (n,)
    minimum, wanted : float array, shape (n, R)
    limit : float array, shape (R,)

    Returns
    -------
    `Optimum`
        `x` has the n * R amounts, row by row; `price` the R shadow prices.

    Raises
    ------
    Infeasible
        If not even the minima fit.

    Examples
    --------
    >>> base = solve_box(np.ones(1), np.array([2.0, 1.0]), np.zeros((2, 1)), np.array([[50.0], [30.0]]), np.array([60.0]))
    >>> base.x.tolist(), base.price.tolist()
    ([50.0, 10.0], [1.0])
    """
    demands, resources = minimum.shape
    column = np.arange(demands * resources)
    rows = (column % resources == np.arange(resources)[:, None]).astype(float)
    # The shortage s = d - x is substituted: c x + (c + w)(d - x) falls by w with each unit of x.
    found = minimise(np.repeat(-weight, resources), rows, limit, minimum.ravel(), wanted.ravel())
    total = objective(cost, weight, found.x.reshape(minimum.shape), wanted)
    return Optimum(x=found.x, objective=total, price=found.price)


def objective(cost: Floats, weight: Floats, amounts: Floats, wanted: Floats) -> float:
    """Return what an allocation costs, shortages included: the sum of c x + (c + w) s."""
    short = wanted - amounts
    return float((amounts * cost + short * (cost + weight[:, None])).sum())
