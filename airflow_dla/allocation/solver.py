"""Linear programmes, by HiGHS through scipy; anything but an optimum is an error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.table import Floats
from airflow_dla.errors import Infeasible, SolverFailed

_WIDE = 10
_INFEASIBLE = 2


@dataclass(frozen=True, slots=True)
class Optimum:
    """Where a linear programme ends.

    Parameters
    ----------
    x : float array, shape (n,)
    objective : float
    price : float array, shape (m,)
        By how much the objective falls with one more unit of each right-hand side, >= 0.
    """

    x: Floats
    objective: float
    price: Floats


def minimise(cost: Floats, rows: Floats, limit: Floats, lower: Floats, upper: Floats) -> Optimum:
    r"""Solve :math:`\min c^T x` subject to :math:`A x \le b`, :math:`l \le x \le u`.

    The method follows the shape: a few rows across many columns go to the dual simplex
    without presolve, which would take HiGHS far longer than the solution itself; for
    anything else HiGHS chooses.

    Parameters
    ----------
    cost : float array, shape (n,)
    rows : float array, shape (m, n)
    limit : float array, shape (m,)
    lower, upper : float array, shape (n,)

    Raises
    ------
    Infeasible
        If no point satisfies the constraints.
    SolverFailed
        If HiGHS ends with any other status; the message carries it.

    Examples
    --------
    >>> found = minimise(np.array([-2.0, -1.0]), np.ones((1, 2)), np.array([60.0]), np.zeros(2), np.array([50.0, 30.0]))
    >>> found.x.tolist(), found.price.tolist()
    ([50.0, 10.0], [1.0])

    References
    ----------
    Huangfu, Hall: Parallelizing the dual revised simplex method, Math. Prog. Comp. 10, 2018.
    """
    from scipy.optimize import linprog  # noqa: PLC0415 - half a second of each task's start, and few rounds come here

    bounds = [(low, high) for low, high in zip(lower.tolist(), upper.tolist(), strict=True)]
    if rows.shape[1] > _WIDE * rows.shape[0]:
        answer = linprog(cost, A_ub=rows, b_ub=limit, bounds=bounds, method="highs-ds", options={"presolve": False})
    else:
        answer = linprog(cost, A_ub=rows, b_ub=limit, bounds=bounds, method="highs")
    if answer.status == _INFEASIBLE:
        raise Infeasible(
            f"no allocation satisfies all {rows.shape[0]} limits on {rows.shape[1]} amounts (HiGHS status 2: {answer.message})"
        )
    if answer.status != 0 or answer.x is None or answer.fun is None:
        raise SolverFailed(f"HiGHS ended without an optimum, status {answer.status}: {answer.message}")
    return Optimum(x=answer.x, objective=float(answer.fun), price=np.maximum(0.0, -answer.ineqlin.marginals))
