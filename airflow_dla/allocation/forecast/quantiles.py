r"""Quantiles of what is positive and varies by a factor: durations, peaks, delays.

For n observations of a quantity whose logarithm varies alike, the next one exceeds the k-th
smallest with probability :math:`1 - k/(n+1)` whatever the distribution, so that with many
observations the q-quantile is the observation of rank :math:`q(n+1)` (Weibull's rank). With
few, or beyond the ends, it is that of a Student t predictive distribution in logarithms,

.. math:: \exp\Bigl(m + t_{\nu}(q)\, s \sqrt{1 + 1/n}\Bigr), \quad
          s^2 = \frac{\nu_0 \sigma_0^2 + \sum_i w_i (\ln x_i - m)^2}{\nu}, \quad \nu = \nu_0 + n - 1,

whose prior spread :math:`\sigma_0` widens what few observations say. Later observations may
weigh more; n is then :math:`(\sum w)^2 / \sum w^2`.

References
----------
Gelman et al.: Bayesian Data Analysis, 3rd edition, section 3.2 (conjugate normal model).
Hyndman and Fan: Sample Quantiles in Statistical Packages, 1996 (type 6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from airflow_dla.errors import InvalidSpec

#: Prior spread in logarithms, and how many observations it counts for.
_SPREAD: Final = 0.5
_PRIOR: Final = 2.0
#: From so many observations on, ranks speak for themselves.
_MANY: Final = 20
#: What counts as zero, relative to nothing: a delay of less is none.
_LEAST: Final = 1e-9


def newsvendor(shortage: float, holding: float) -> float:
    """Return the quantile that costs least: of being short of a unit, and of holding one in vain.

    Parameters
    ----------
    shortage, holding : float, >= 0
        Costs of one unit, in the same currency; not both 0.

    Raises
    ------
    InvalidSpec
        If a cost is negative or no number, or both are 0.

    Examples
    --------
    >>> newsvendor(4, 1)
    0.8

    References
    ----------
    Arrow, Harris and Marschak: Optimal Inventory Policy, 1951.
    """
    for name, cost in (("shortage", shortage), ("holding", holding)):
        if not (math.isfinite(cost) and cost >= 0):
            raise InvalidSpec(f"the cost of {name} must be a finite number >= 0, got {cost:g}")
    if shortage + holding == 0:
        raise InvalidSpec("the costs of shortage and of holding are both 0, so every quantile costs the same; give one of them")
    return shortage / (shortage + holding)


def recency(count: int, half_life: float) -> tuple[float, ...]:
    """Return weights of observations, newest first: half as much after every `half_life` observations.

    Examples
    --------
    >>> recency(3, 1)
    (1.0, 0.5, 0.25)
    """
    return tuple(0.5 ** (place / half_life) for place in range(count))


def quantile(values: Sequence[float], q: float, *, weights: Sequence[float] | None = None, spread: float = _SPREAD) -> float:
    """Return the q-quantile of the next observation.

    Parameters
    ----------
    values : sequence of float, >= 0
        At least one, in any unit.
    q : float
        In (0, 1).
    weights : sequence of float, > 0, optional
        How much each observation counts; 1 by default.
    spread : float, > 0
        Standard deviation of logarithms to expect before anything is observed.

    Returns
    -------
    float
        In the unit of `values`; for q >= 0.5 at least the smallest of them, for q <= 0.5 at most the largest.

    Raises
    ------
    InvalidSpec
        If there is no value, one is negative or no number, or q is outside (0, 1).

    Examples
    --------
    >>> round(quantile([100.0], 0.5), 6)
    100.0
    >>> quantile([100.0], 0.9) > quantile([100.0] * 10, 0.9) > 100.0
    True
    """
    _check(values, q)
    found = np.maximum(np.asarray(values, dtype=float), _LEAST)
    weight = np.ones(len(found)) if weights is None else np.asarray(weights, dtype=float)
    count = float(weight.sum() ** 2 / (weight**2).sum())
    predicted = _predicted(np.log(found), weight / weight.sum(), count, q, spread)
    if count >= _MANY:
        predicted = _ranked(found, weight, count, q, predicted)
    bounded = max(predicted, float(found.min())) if q >= 0.5 else min(predicted, float(found.max()))  # noqa: PLR2004 - the median
    return bounded if bounded > _LEAST else 0.0


def _check(values: Sequence[float], q: float) -> None:
    if not len(values):
        raise InvalidSpec("a quantile needs at least one observation, got none")
    if not 0 < q < 1:
        raise InvalidSpec(f"a quantile is between 0 and 1, both excluded, got {q:g}")
    for value in values:
        if not (math.isfinite(value) and value >= 0):
            raise InvalidSpec(f"observations must be finite numbers >= 0, got {value:g}")


def _predicted(
    logs: np.ndarray[tuple[int], np.dtype[np.float64]],
    share: np.ndarray[tuple[int], np.dtype[np.float64]],
    count: float,
    q: float,
    spread: float,
) -> float:
    middle = float(share @ logs)
    freedom = _PRIOR + count - 1
    squares = count * float(share @ (logs - middle) ** 2)
    scale = math.sqrt((_PRIOR * spread**2 + squares) / freedom)
    return math.exp(middle + _student(freedom, q) * scale * math.sqrt(1 + 1 / count))


def _student(freedom: float, q: float) -> float:
    """Return a quantile of Student's distribution; its median is 0, and importing scipy takes half a second of each task's start."""
    if q == 0.5:  # noqa: PLR2004 - exactly the median
        return 0.0
    from scipy.special import stdtrit  # noqa: PLC0415 - as above

    return float(stdtrit(freedom, q))


def _ranked(
    found: np.ndarray[tuple[int], np.dtype[np.float64]],
    weight: np.ndarray[tuple[int], np.dtype[np.float64]],
    count: float,
    q: float,
    predicted: float,
) -> float:
    """Return the value of Weibull's rank, interpolated; beyond the ends what is predicted, but never inside them."""
    order = np.argsort(found, kind="stable")
    ordered, share = found[order], weight[order] / weight.sum()
    # Each observation sits in the middle of its weight; equal weights give the ranks i / (n + 1).
    ranks = (np.cumsum(share) - share / 2) * count / (count + 1) + 0.5 / (count + 1)
    if q < ranks[0]:
        return min(float(ordered[0]), predicted)
    if q > ranks[-1]:
        return max(float(ordered[-1]), predicted)
    return float(np.interp(q, ranks, ordered))
