"""For whom room could be made at all: cheap to ask for a long queue, and never wrongly no."""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.living import Living
from airflow_dla.allocation.table import Asked, Bools, Floats, Ints, Offered

#: So many priorities are told apart; where there are more, each counts as the next higher of them.
_LEVELS = 16


def hopeful(asked: Asked, offered: Offered, living: Living, *, standing: Ints, reclaims: Bools, mature: Bools) -> Ints:
    """Return those demands for which the end of all that matters less would make room on some node.

    Parameters
    ----------
    standing : int array, shape (n,)
        Aged priority of each demand.
    reclaims : bool array, shape (n,)
        Demands that take back what was lent, whatever the priority of those that hold it.
    mature : bool array, shape (L,)
        Live grants that have run long enough to be preempted.
    """
    found = np.zeros(len(asked), dtype=bool)
    rated = _rated(standing)
    for level in np.unique(rated).tolist():
        stops = living.preemptible & mature & (living.standing < level)
        gives = np.where(stops[:, None], living.amounts, living.spare * (living.standing <= level)[:, None])
        rows = np.flatnonzero((rated == level) & ~reclaims)
        found[rows] = _roomy(asked, offered, living, gives, rows)
    rows = np.flatnonzero(reclaims)
    found[rows] = _roomy(asked, offered, living, np.where(living.preemptible[:, None], living.amounts, living.spare), rows)
    return np.flatnonzero(found)


def _rated(standing: Ints) -> Ints:
    """Return priorities, rounded up to a few of them."""
    levels = np.unique(standing)
    if len(levels) <= _LEVELS:
        return standing
    kept = levels[np.linspace(0, len(levels) - 1, _LEVELS).round().astype(np.intp)]
    return np.asarray(kept[np.searchsorted(kept, standing)])


def _roomy(asked: Asked, offered: Offered, living: Living, gives: Floats, rows: Ints) -> Bools:
    """Return which of `rows` would fit on a node once all there have given what they can."""
    room, need, kind = offered.free.copy(), asked.minimum[rows], asked.kind[rows]
    givers = np.flatnonzero((gives > 0).any(axis=1)) if len(rows) else rows
    np.add.at(room, living.node[givers], gives[givers])
    found = np.zeros(len(rows), dtype=bool)
    for node in np.unique(living.node[givers]).tolist():
        fits = ((need <= room[node] + offered.slack[node]) | (need <= 0)).all(axis=1)
        found |= fits & offered.allowed[kind, node]
    return found
