r"""How long what runs goes on: what is left of a lognormal run time.

A run time is lognormal about what was expected, m, with the spread :math:`\sigma` that history
shows. One that has lasted for e already is at the level u of what is left of its distribution,

.. math:: T = m \exp(-\sigma \Phi^{-1}(v)), \quad v = (1 - u)\,\bar F(e)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from airflow_dla.allocation.normal import ndtr, ndtri

Floats = npt.NDArray[np.float64]


def left_s(expected_s: Floats, elapsed_s: Floats, level: Floats | float, spread: float) -> Floats:
    """Return how long runs go on that have lasted so long, at a level of the distribution.

    Parameters
    ----------
    expected_s : float array, shape (k,), > 0
        Median run times.
    elapsed_s : float array, shape (k,), >= 0
    level : float array, shape (..., k), or float, between 0 and 1
    spread : float, >= 0
        Standard deviation of the logarithm of a run time.

    Examples
    --------
    >>> left_s(np.array([60.0]), np.array([0.0]), 0.5, 0.4).round(6).tolist()
    [60.0]
    >>> left_s(np.array([60.0]), np.array([60.0]), 0.5, 0.4).round(1).tolist()
    [18.6]
    """
    if spread <= 0:
        return np.maximum(0.0, expected_s - elapsed_s) + np.zeros(np.shape(level))
    with np.errstate(divide="ignore"):
        surviving = ndtr(-(np.log(elapsed_s) - np.log(expected_s)) / spread)
    beyond = np.maximum((1.0 - np.asarray(level)) * surviving, np.finfo(float).tiny)
    total = expected_s * np.exp(-spread * ndtri(beyond))
    return np.maximum(0.0, total - elapsed_s)
