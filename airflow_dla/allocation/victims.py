"""Jobs that may stop, as what stops together frees: whether that is enough, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.table import Floats

#: What counts as a whole GPU, and as equal, relative.
WHOLE = 1.0 - 1e-9
TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """What stops together.

    Parameters
    ----------
    rows : tuple of int
        One live grant, or a gang's.
    frees : float array, shape (R,)
        What that frees on the node beyond what shrinking does.
    devices : float array, shape (D,), or None
        What that frees of each GPU of the node.
    own : float array, shape (R,)
        What the team of the claimant gets back.
    standing : int
        The highest aged priority.
    lost : float
        Seconds that they have run.
    """

    rows: tuple[int, ...]
    frees: Floats
    devices: Floats | None
    own: Floats
    standing: int
    lost: float


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a demand fits on a node, and within the quota of its team, once some jobs have stopped.

    Parameters
    ----------
    need, room, quota : float array, shape (R,)
        What it needs; what there is on the node and for its team without any stop.
    devices : float array, shape (D,), or None
        What is free of each GPU of the node.
    gpu : int or None
        Column of the GPUs.
    """

    need: Floats
    room: Floats
    quota: Floats
    devices: Floats | None
    gpu: int | None

    def holds(self, units: Sequence[Unit]) -> bool:
        """Return whether it does."""
        frees, own = sum(unit.frees for unit in units), sum(unit.own for unit in units)
        within = ((self.need <= self.room + frees) & (self.need <= self.quota + own)) | (self.need <= 0)
        return bool(within.all()) and self._seats(units)

    def gain(self, unit: Unit) -> float:
        """Return how much of what is missing the end of a job brings, by resource, added up."""
        missing = np.maximum(0.0, self.need - self.room)
        return float((np.minimum(unit.frees, missing) / np.where(missing > 0, missing, 1.0)).sum())

    def _seats(self, units: Sequence[Unit]) -> bool:
        if self.gpu is None or self.devices is None or self.need[self.gpu] <= 0:
            return True
        free = self.devices + np.sum([unit.devices for unit in units if unit.devices is not None], axis=0)
        asks = float(self.need[self.gpu])
        return int((free >= WHOLE).sum()) >= asks if asks >= 1 else bool((free + TINY >= asks).any())


def total(amounts: Floats, rows: Sequence[int], nothing: Floats) -> Floats:
    """Return what some rows sum to, shape (R,)."""
    if len(rows) == 1:
        return np.asarray(amounts[rows[0]])
    return np.asarray(amounts[list(rows)].sum(axis=0)) if rows else nothing


def cost_of(units: Sequence[Unit]) -> tuple[float, ...]:
    """Return what it costs to stop some jobs: how much the first of them matters, how many stop, what work is lost, s."""
    return (
        float(max((unit.standing for unit in units), default=0)),
        float(sum(len(unit.rows) for unit in units)),
        sum(unit.lost for unit in units),
    )
