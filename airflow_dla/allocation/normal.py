"""The normal distribution, without the half second that importing scipy adds to each task's start where few values are asked for."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STANDARD: Final = NormalDist()
#: From so many values on scipy's loop in C is worth its import.
_MANY: Final = 4096


def ndtr(values: npt.ArrayLike) -> Floats:
    """Return the probability of a value below each of some values.

    Examples
    --------
    >>> ndtr([0.0, 1.0, -np.inf]).round(6).tolist()
    [0.5, 0.841345, 0.0]
    """
    array = np.asarray(values, dtype=float)
    if array.size >= _MANY:
        from scipy.special import ndtr as many  # noqa: PLC0415 - see the module

        return np.asarray(many(array))
    return np.array([math.erfc(-value / math.sqrt(2.0)) / 2.0 for value in array.ravel()]).reshape(array.shape)


def ndtri(levels: npt.ArrayLike) -> Floats:
    """Return the values below which a share of all others lies, for shares between 0 and 1.

    Examples
    --------
    >>> ndtri([0.5, 0.9, 0.0, 1.0]).round(6).tolist()
    [0.0, 1.281552, -inf, inf]
    """
    array = np.asarray(levels, dtype=float)
    if array.size >= _MANY:
        from scipy.special import ndtri as many  # noqa: PLC0415 - see the module

        return np.asarray(many(array))
    return np.array([_quantile(float(level)) for level in array.ravel()]).reshape(array.shape)


def _quantile(level: float) -> float:
    if level in {0.0, 1.0}:
        return math.copysign(math.inf, level - 0.5)
    return _STANDARD.inv_cdf(level)
