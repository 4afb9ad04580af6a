"""Linear programmes, by HiGHS through highspy where it is installed, else through scipy; anything but an optimum is an error."""

from __future__ import annotations

from typing import Any

import numpy as np

from airflow_dla.allocation import highs
from airflow_dla.allocation.programme import Optimum, Programme, Solver
from airflow_dla.allocation.table import Floats
from airflow_dla.errors import Infeasible, InvalidSpec, SolverFailed

_WIDE = 10
_INFEASIBLE = 2


def minimise(cost: Floats, rows: Floats, limit: Floats, lower: Floats, upper: Floats, *, library: str | None = None) -> Optimum:
    r"""Solve :math:`\min c^T x` subject to :math:`A x \le b`, :math:`l \le x \le u`.

    The method follows the shape: through scipy, a few rows across many columns go to the dual
    simplex without presolve, which would take HiGHS far longer than the solution itself; for
    anything else HiGHS chooses. Where several points are best, which of them is found
    depends on the library.

    Parameters
    ----------
    cost : float array, shape (n,)
    rows : float array, shape (m, n)
    limit : float array, shape (m,)
    lower, upper : float array, shape (n,)
    library : str, optional
        As for `solver`.

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
    """
    return solver(library).optimum(Programme.dense(cost, rows, limit, lower, upper))


def solver(library: str | None = None) -> Solver:
    """Return a solver of programmes.

    Parameters
    ----------
    library : str, optional
        `highspy` (extra ``fast``) or `scipy`; by default the first that is there.

    Raises
    ------
    InvalidSpec
        If the library is not known.
    MissingExtra
        If highspy is asked for and cannot be used.
    """
    if library not in (None, "highspy", "scipy"):
        raise InvalidSpec(f"library {library!r} is not known; known are highspy, scipy")
    if library == "highspy" or (library is None and highs.available()):
        return highs.Highspy()
    return Scipy()


class Scipy:
    """A `Solver` that begins each time anew; every installation has it."""

    def solve(self, programme: Programme, *, interior: bool = False) -> Floats:
        """See `Solver`: simplex through the entrance that costs least, or the interior point with crossover."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415 - as below

        if interior:
            return self._ask(programme, "highs-ipm").x
        limits = LinearConstraint(_matrix(programme), -np.inf, programme.limit)
        answer = milp(programme.cost, constraints=limits, bounds=Bounds(programme.lower, programme.upper))
        _judge(answer, programme)
        return np.asarray(answer.x)

    def optimum(self, programme: Programme) -> Optimum:
        """See `Solver`."""
        if len(programme.cost) > _WIDE * len(programme.limit):
            return self._ask(programme, "highs-ds", presolve=False)
        return self._ask(programme, "highs")

    def _ask(self, programme: Programme, method: Any, **options: Any) -> Optimum:
        from scipy.optimize import linprog  # noqa: PLC0415 - half a second of each task's start, and few rounds come here

        entrance: Any = linprog  # its types know no sparse rows
        bounds = np.column_stack([programme.lower, programme.upper])
        answer = entrance(programme.cost, _matrix(programme), programme.limit, bounds=bounds, method=method, options=options)
        _judge(answer, programme)
        return Optimum(x=answer.x, objective=float(answer.fun), price=np.maximum(0.0, -answer.ineqlin.marginals))


def _matrix(programme: Programme) -> Any:
    from scipy.sparse import csc_array  # noqa: PLC0415 - as above

    return csc_array((programme.value, programme.index, programme.start), shape=(len(programme.limit), len(programme.cost)))


def _judge(answer: Any, programme: Programme) -> None:
    if answer.status == _INFEASIBLE:
        limits, amounts = len(programme.limit), len(programme.cost)
        raise Infeasible(f"no allocation satisfies all {limits} limits on {amounts} amounts (HiGHS status 2: {answer.message})")
    if answer.status != 0 or answer.x is None or answer.fun is None:
        raise SolverFailed(f"HiGHS ended without an optimum, status {answer.status}: {answer.message}")
