r"""How many GPUs each demand gets where CPUs or memory follow the number of GPUs.

``gpu: 1-4, cpu: 8/gpu`` takes a bundle :math:`a = (1, 8)` for each GPU above its minimum.
Demand i wants :math:`s_i` bundles; a node has room b:

.. math:: \sum_i a_{ir} h_i \le b_r, \quad 0 \le h_i \le s_i

* ``strict``: the linear programme :math:`\max \sum_i w_i h_i`, by HiGHS; of equals, the
  one that is served first. The demands are of one priority: `settling` sees to that.
* ``proportional``: :math:`h_i = s_i \max(0, 1 - \lambda / w_i)` with the least lambda that fits.
* ``water-filling``: progressive filling; when a resource is used up, those who need it
  stop and the others go on.

What comes out is fractional; `gpus` makes it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from airflow_dla.allocation.shedding import proportional as shed_in_proportion
from airflow_dla.allocation.shedding import water_filling as fill_one
from airflow_dla.allocation.solver import minimise
from airflow_dla.allocation.table import Bools, Floats, Ints

_ORDER = 1e-3
_FULL = 1e-9

#: (bundle (k, R), span (k,), weight (k,), room (R,)) to (bundles (k,), price (R,)), in the order of shedding.
BundleRule = Callable[[Floats, Floats, Floats, Floats], tuple[Floats, Floats]]


def strict(bundle: Floats, span: Floats, weight: Floats, room: Floats) -> tuple[Floats, Floats]:
    """Give out as many GPUs as possible, weighted, by a linear programme."""
    earlier = 1.0 - _ORDER * np.arange(len(span)) / len(span)
    found = minimise(-weight * earlier, bundle.T, room, np.zeros(len(span)), span)
    return np.clip(found.x, 0.0, span), found.price


def proportional(bundle: Floats, span: Floats, weight: Floats, room: Floats) -> tuple[Floats, Floats]:
    """Shed the same fraction of every want: the resource that is shortest decides."""
    found = [shed_in_proportion(bundle[:, r] * span, weight, _one_group(span), room[r : r + 1])[1][0] for r in range(len(room))]
    price = np.array(found)
    return span * np.maximum(0.0, 1.0 - price.max() / weight), np.where(price == price.max(), price, 0.0)


def water_filling(bundle: Floats, span: Floats, weight: Floats, room: Floats) -> tuple[Floats, Floats]:
    """Raise all together; freeze those whose resource is used up, and go on with the rest."""
    given, price, left = np.zeros(len(span)), np.zeros(len(room)), room.copy()
    active = span > 0
    for _ in range(len(room)):
        if not active.any():
            break
        level, first = min((_level(bundle[:, r], span, weight, active, left[r]), r) for r in range(len(room)))
        given[active] = np.minimum(span, level * weight)[active]
        if not np.isfinite(level):
            break
        users = active & (bundle[:, first] > 0)
        price[first] = 1.0 / float((bundle[users, first] * weight[users]).sum())
        active = active & ~users
        left = np.maximum(0.0, room - given[~active] @ bundle[~active])
    return given, price


def _level(need: Floats, span: Floats, weight: Floats, active: Bools, room: float) -> float:
    """Return how far all active demands can rise until one resource is used up."""
    users = active & (need > 0)
    if not users.any() or float(need[users] @ span[users]) <= room * (1 + _FULL):
        return float("inf")
    given, _ = fill_one(need[users] * span[users], need[users] * weight[users], _one_group(span[users]), np.array([room]))
    return float(np.max(given / (need[users] * weight[users])))


def _one_group(span: Floats) -> Ints:
    return np.zeros(len(span), dtype=np.intp)


#: The rules by the names that a policy gives them.
RULES: Final[Mapping[str, BundleRule]] = {"strict": strict, "proportional": proportional, "water-filling": water_filling}
