r"""Who gets what lies between minima and wants, when it does not suffice for all.

Three rules, each an exact closed form for one resource, on all nodes at once. Demand i
wants :math:`s_i` above its minimum and has weight :math:`w_i`; a node has room b for
all of its demands.

* `strict`: in order, each gets all it wants until the room is used up.
* `proportional`: :math:`x_i = s_i \max(0, 1 - \lambda / w_i)`, which minimises
  :math:`\sum_i w_i (s_i - x_i)^2 / (2 s_i)`; lambda is its dual price.
* `water_filling`: :math:`x_i = \min(s_i, \theta w_i)`, weighted max-min fairness.

Each rule takes

span : float array, shape (n,), >= 0
    What each wants above its minimum, in the order of shedding.
weight : float array, shape (n,), > 0
group : int array, shape (n,)
    Node of each demand.
room : float array, shape (g,)
    What each node has above the minima.

and returns what each gets, shape (n,), and the shadow price at each node, shape (g,):
what one more unit would be worth there, 0 where nothing is short.

References
----------
Bertsekas, Gallager: Data Networks, 1992, section 6.5.2 (max-min fairness).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from airflow_dla.allocation.table import Floats, Ints

Rule = Callable[[Floats, Floats, Ints, Floats], tuple[Floats, Floats]]

_ROUNDING = 1e-12


def strict(span: Floats, weight: Floats, group: Ints, room: Floats) -> tuple[Floats, Floats]:
    """Give each all it wants, in order, until the room is used up.

    The price is the weight of the first who gets less than it wants: the dual of
    ``max sum(w x)`` when the order is by weight.

    Examples
    --------
    >>> strict(np.array([50.0, 30.0]), np.ones(2), np.zeros(2, dtype=int), np.array([60.0]))[0].tolist()
    [50.0, 10.0]
    """
    order = np.argsort(group, kind="stable")
    total = np.cumsum(span[order])
    before = np.empty_like(span)
    before[order] = total - span[order] - _base(total - span[order], group[order], len(room))
    given = np.clip(np.maximum(room, 0.0)[group] - before, 0.0, span)
    short = np.flatnonzero(given < span * (1 - _ROUNDING))[::-1]
    price = np.zeros(len(room))
    price[group[short]] = weight[short]
    return given, price


def proportional(span: Floats, weight: Floats, group: Ints, room: Floats) -> tuple[Floats, Floats]:
    """Shed the same fraction of every want; a heavier demand sheds less.

    The price is lambda, found among the sorted weights.

    Examples
    --------
    >>> given, price = proportional(np.array([50.0, 30.0]), np.ones(2), np.zeros(2, dtype=int), np.array([60.0]))
    >>> given.tolist(), price.tolist()
    ([37.5, 22.5], [0.25])
    """
    keep = np.flatnonzero(span > 0)
    order = keep[np.lexsort((-weight[keep], group[keep]))]
    s, w, g = span[order], weight[order], group[order]
    wants = _running(s, g, len(room))
    slopes = _running(s / w, g, len(room))
    below = wants - w * slopes <= np.maximum(room, 0.0)[g] + _ROUNDING * wants
    size = np.bincount(g, minlength=len(room))
    last = _starts(g, len(room)) + np.maximum(np.bincount(g, weights=below, minlength=len(room)).astype(np.intp), 1) - 1
    price = np.zeros(len(room))
    some = size > 0
    at = last[some]
    price[some] = np.maximum(0.0, (wants[at] - np.maximum(room[some], 0.0)) / slopes[at])
    return span * np.maximum(0.0, 1.0 - price[group] / weight), price


def water_filling(span: Floats, weight: Floats, group: Ints, room: Floats) -> tuple[Floats, Floats]:
    """Raise every demand's share together, by weight, until it has what it wants.

    The price is how much the level theta would rise with one more unit: the dual of
    ``max theta : x >= theta w``.

    Examples
    --------
    >>> water_filling(np.array([50.0, 30.0]), np.ones(2), np.zeros(2, dtype=int), np.array([50.0]))[0].tolist()
    [25.0, 25.0]
    """
    order = np.lexsort((span / weight, group))
    s, w, g = span[order], weight[order], group[order]
    room = np.maximum(room, 0.0)
    wants, weights = _running(s, g, len(room)), _running(w, g, len(room))
    rest = np.bincount(g, weights=w, minlength=len(room))[g] - weights
    dry = wants + s / w * rest < room[g] * (1 - _ROUNDING)
    size = np.bincount(g, minlength=len(room))
    count = np.bincount(g, weights=dry, minlength=len(room)).astype(np.intp)
    level, price = np.full(len(room), np.inf), np.zeros(len(room))
    short = count < size
    first = (_starts(g, len(room)) + count)[short]
    still = rest[first] + w[first]
    level[short] = (room[short] - (wants[first] - s[first])) / still
    given = np.minimum(span, np.maximum(0.0, level[group] * weight))
    lacking = np.bincount(group, weights=span - given, minlength=len(room))[short] > 0
    price[short] = np.where(lacking, 1.0 / still, 0.0)
    return given, price


#: The rules by the names that a policy gives them.
RULES: Final[Mapping[str, Rule]] = {"strict": strict, "proportional": proportional, "water-filling": water_filling}


def _starts(group: Ints, groups: int) -> Ints:
    return np.searchsorted(group, np.arange(groups))


def _base(before: Floats, group: Ints, groups: int) -> Floats:
    """Return the running sum before each row's group began, for rows sorted by group."""
    if not len(group):
        return before
    starts = np.minimum(_starts(group, groups), len(group) - 1)
    return before[starts][group]


def _running(values: Floats, group: Ints, groups: int) -> Floats:
    total = np.cumsum(values)
    return total - _base(total - values, group, groups)
