"""The words of a linear programme: what is given, what comes back, and who solves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from airflow_dla.allocation.table import Floats, Ints


@dataclass(frozen=True, slots=True)
class Programme:
    r"""Minimise :math:`c^T x` subject to :math:`A x \le b`, :math:`l \le x \le u`; n columns, m rows.

    Parameters
    ----------
    cost : float array, shape (n,)
    start : int array, shape (n + 1,)
        Where each column of A begins in `index` and `value`.
    index : int array
        Rows of the entries, column by column.
    value : float array
    limit : float array, shape (m,)
    lower, upper : float array, shape (n,)
    """

    cost: Floats
    start: Ints
    index: Ints
    value: Floats
    limit: Floats
    lower: Floats
    upper: Floats

    @classmethod
    def dense(cls, cost: Floats, rows: Floats, limit: Floats, lower: Floats, upper: Floats) -> Programme:
        """Make one of rows written out in full, shape (m, n)."""
        column, row = np.nonzero(rows.T)
        start = np.searchsorted(column, np.arange(len(cost) + 1))
        return cls(cost, start, row, rows[row, column], limit, lower, upper)


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


class Solver(Protocol):
    """Solves programmes one after the other; it may use what it learnt from the last one."""

    def solve(self, programme: Programme, *, interior: bool = False) -> Floats:
        """Return an optimal vertex, shape (n,).

        Parameters
        ----------
        programme : Programme
        interior : bool
            Whether the interior point method, always with crossover to a vertex, is the faster way.

        Raises
        ------
        Infeasible
            If no point satisfies the constraints.
        SolverFailed
            If the solver ends with any other status; the message carries it.
        """
        ...

    def optimum(self, programme: Programme) -> Optimum:
        """Return an optimal vertex and its prices; it raises as `solve` does."""
        ...
