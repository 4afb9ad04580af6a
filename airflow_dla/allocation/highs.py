"""HiGHS through highspy (extra ``fast``): small programmes without scipy's overhead, and warm starts.

One model is kept. A programme with the rows of the last one, and its columns or more, starts from
the last basis: as long as only right-hand sides, bounds and a few coefficients changed, or columns
came behind the others, no or few pivots are left to do.

Two things to know about the library: it cannot share a process with OR-tools, so that it
counts as missing where OR-tools is loaded; and ``solver="ipm"`` becomes another method once
further packages are installed, so that ``ipx`` is asked for by name.

References
----------
Huangfu, Hall: Parallelizing the dual revised simplex method, Math. Prog. Comp. 10, 2018.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from airflow_dla.allocation.programme import Optimum, Programme
from airflow_dla.allocation.table import Floats
from airflow_dla.errors import Infeasible, MissingExtra, SolverFailed

_TOLERANCE = 1e-9
_USUAL = 1e-7
_SMALL = 5000


def available() -> bool:
    """Return whether highspy can be used in this process."""
    if "ortools" in sys.modules:
        return False
    try:
        import highspy  # noqa: F401, PLC0415 - an optional dependency
    except ImportError:
        return False
    return True


class Highspy:
    """A `Solver` that keeps its model and the basis of the last optimum.

    Raises
    ------
    MissingExtra
        If highspy is not installed, or OR-tools is loaded.
    SolverFailed
        If HiGHS refuses an option.

    Examples
    --------
    >>> two = Programme.dense(np.array([-2.0, -1.0]), np.ones((1, 2)), np.array([60.0]), np.zeros(2), np.array([50.0, 30.0]))
    >>> Highspy().optimum(two).price.tolist() if available() else [1.0]
    [1.0]
    """

    def __init__(self) -> None:
        if not available():
            raise MissingExtra("highspy is not installed, or OR-tools is loaded beside it: pip install airflow-dla[fast]")
        import highspy  # noqa: PLC0415 - an optional dependency

        self._library: Any = highspy
        self._model: Any = self._library.Highs()
        self._basis: Any = None
        self._shape = (0, 0)
        self._set("output_flag", False)
        self._tolerate(_TOLERANCE)
        # A pool of threads would not survive a fork of the process.
        self._set("threads", 1)

    def solve(self, programme: Programme, *, interior: bool = False) -> Floats:
        """See `Solver`."""
        self._run(programme, interior=interior)
        return np.array(self._model.getSolution().col_value)

    def optimum(self, programme: Programme) -> Optimum:
        """See `Solver`."""
        self._run(programme, interior=False)
        found = self._model.getSolution()
        return Optimum(
            x=np.array(found.col_value),
            objective=float(self._model.getInfo().objective_function_value),
            price=np.maximum(0.0, -np.array(found.row_dual)),
        )

    def _run(self, programme: Programme, *, interior: bool) -> None:
        model, shape = self._model, (len(programme.cost), len(programme.limit))
        warm = self._start(shape)
        self._basis, self._shape = None, shape
        self._set("solver", "ipx" if interior and warm is None else "simplex")
        self._set("run_crossover", "on")
        self._set("presolve", "off" if max(shape) <= _SMALL and not interior else "choose")
        self._check(self._pass(programme), "takes the programme")
        if warm is not None:
            self._check(model.setBasis(warm), "takes the last basis")
        ended = model.run()
        if ended == self._library.HighsStatus.kError and model.getModelStatus() == self._library.HighsModelStatus.kNotset:
            # Somebody else in this process has started HiGHS with more threads; it insists on their number.
            self._set("threads", 0)
            model.run()
        if model.getModelStatus() == self._library.HighsModelStatus.kUnknown:
            self._run_as_it_comes()
        self._judge(shape)
        self._basis = model.getBasis()

    def _run_as_it_comes(self) -> None:
        """Solve anew as HiGHS would by itself: where it got stuck, it was our tolerances or the old basis."""
        self._check(self._model.clearSolver(), "forgets a basis")
        self._set("presolve", "choose")
        self._tolerate(_USUAL)
        self._model.run()
        self._tolerate(_TOLERANCE)

    def _tolerate(self, tolerance: float) -> None:
        self._set("primal_feasibility_tolerance", tolerance)
        self._set("dual_feasibility_tolerance", tolerance)

    def _start(self, shape: tuple[int, int]) -> Any:
        """Return the last basis, with new columns at their lower bound; None where it does not fit."""
        columns = self._shape[0]
        if self._basis is None or shape[1] != self._shape[1] or shape[0] < columns:
            return None
        if shape[0] > columns:
            at_bound = [self._library.HighsBasisStatus.kLower] * (shape[0] - columns)
            self._basis.col_status = [*self._basis.col_status, *at_bound]
        return self._basis

    def _pass(self, programme: Programme) -> Any:
        """Hand over the arrays at once: a `HighsLp` filled field by field costs more than a warm solution."""
        columns, rows = len(programme.cost), len(programme.limit)
        return self._model.passModel(
            columns,
            rows,
            len(programme.value),
            int(self._library.MatrixFormat.kColwise),
            int(self._library.ObjSense.kMinimize),
            0.0,
            programme.cost,
            programme.lower,
            programme.upper,
            np.full(rows, -np.inf),
            programme.limit,
            programme.start.astype(np.int32),
            programme.index.astype(np.int32),
            programme.value,
            np.zeros(columns, dtype=np.int32),
        )

    def _judge(self, shape: tuple[int, int]) -> None:
        status = self._model.getModelStatus()
        if status == self._library.HighsModelStatus.kOptimal:
            return
        name = self._model.modelStatusToString(status)
        if status == self._library.HighsModelStatus.kInfeasible:
            raise Infeasible(f"no allocation satisfies all {shape[1]} limits on {shape[0]} amounts (HiGHS status {name})")
        raise SolverFailed(f"HiGHS ended without an optimum, status {name}, on {shape[1]} limits and {shape[0]} amounts")

    def _set(self, option: str, value: Any) -> None:
        """Set an option; HiGHS goes on with another method when it does not know one, and says so only here."""
        self._check(self._model.setOptionValue(option, value), f"has the option {option}={value}")

    def _check(self, status: Any, what: str) -> None:
        if status != self._library.HighsStatus.kOk:
            raise SolverFailed(f"this HiGHS ({self._model.version()}) must be one that {what}, and is not: {status.name}")
