"""Settling GPUs on one node: whole ones stay whole, a share sits on one device.

A rule of `bundles` says how many GPUs each demand would get if GPUs could be split at
will. Here each is rounded down to what it may have, and what is left over goes, one step
at a time, to who lost most by the rounding (``strict``: in order).
"""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.bundles import RULES as BUNDLE_RULES
from airflow_dla.allocation.devices import Devices
from airflow_dla.allocation.shedding import RULES
from airflow_dla.allocation.table import Asked, Floats, Ints

_MILLI = 1000.0
_ROUNDING = 1e-6


class GpuSettlement:
    """The GPUs of one node while ranges are being settled.

    Parameters
    ----------
    asked : `Asked`
    rows : int array, shape (k,)
        Demands on the node with a range of GPUs, in the order of shedding.
    wanted : float array, shape (k,)
        GPUs that each may have at most: what it wants, or what its team's quota leaves.
    room : float array, shape (R,)
        What the node has above all minima.
    slack : float array, shape (R,)
        Excess that is taken for rounding.
    devices : `Devices` or None
        With the minima placed; None where a node hands out no GPU ids.
    """

    def __init__(self, asked: Asked, rows: Ints, *, wanted: Floats, room: Floats, slack: Floats, devices: Devices | None) -> None:
        assert asked.gpu is not None
        self.asked, self.rows, self.wanted, self.devices = asked, rows, wanted, devices
        self.column = asked.gpu
        self.room, self.slack = room, slack
        self.given = asked.minimum[rows, self.column].copy()

    def settle(self, shedding: str) -> tuple[Floats, Floats]:
        """Decide; return GPUs, shape (k,), and shadow prices, shape (R,)."""
        target, price = self._target(shedding)
        goal = self.given + target
        for place in range(len(self.rows)):
            self._raise_to(place, self._permitted(place, float(goal[place])))
        order = np.arange(len(self.rows))
        if shedding != "strict":
            order = np.argsort(self.given - goal, kind="stable")
        while self._round_of_steps(order):
            pass
        # What follows a GPU is counted once too often for those whose minimum has paid for one: whole steps may fit all the same.
        return self.given, np.zeros_like(price) if np.array_equal(self.given, self.wanted) else price

    def _round_of_steps(self, order: Ints) -> bool:
        """Offer every demand one step; return whether anybody could take it."""
        taken = False
        for place in order.tolist():
            if self.room[self.column] <= self.slack[self.column]:
                return False
            taken |= self.given[place] < self.wanted[place] and self._step(place)
        return taken

    def _target(self, shedding: str) -> tuple[Floats, Floats]:
        span = self.wanted - self.given
        bundle = self.asked.rate_low[self.rows].copy()
        bundle[:, self.column] = 1.0
        if (span @ bundle <= self.room + self.slack).all():
            return span, np.zeros(len(self.room))
        weight, room = self.asked.weight[self.rows], np.maximum(self.room, 0.0)
        if self.asked.coupled[self.rows].any():
            return BUNDLE_RULES[shedding](bundle, span, weight, room)
        price = np.zeros(len(room))
        given, level = RULES[shedding](span, weight, np.zeros(len(span), dtype=np.intp), room[[self.column]])
        price[self.column] = level[0]
        return given, price

    def _permitted(self, place: int, gpus: float) -> float:
        """Round down to what a demand may have: a whole number, or a share of one GPU."""
        if gpus >= 1 or self.asked.whole[self.rows[place]]:
            return float(np.floor(gpus + _ROUNDING))
        return float(np.floor(gpus * _MILLI + _ROUNDING) / _MILLI)

    def _raise_to(self, place: int, goal: float) -> bool:
        """Give a demand more GPUs, with what follows them, if there is room."""
        goal = min(goal, float(self.wanted[place]))
        if goal <= self.given[place]:
            return False
        need = self._needs(place, goal) - self._needs(place, float(self.given[place]))
        fits = bool((need <= self.room + self.slack).all())
        if not fits or not (self.devices is None or self.devices.resize(int(self.rows[place]), goal)):
            return False
        self.room -= need
        self.given[place] = goal
        return True

    def _needs(self, place: int, gpus: float) -> Floats:
        row = self.rows[place]
        need: Floats = self.asked.rate_low[row] * max(gpus, float(self.asked.least[row]))
        need[self.column] = gpus
        return need

    def _step(self, place: int) -> bool:
        """Give one GPU more, or as much of one device as there is."""
        now = float(self.given[place])
        if now >= 1 or self.asked.whole[self.rows[place]]:
            return self._raise_to(place, float(np.floor(now)) + 1)
        return self._raise_to(place, 1.0) or self._raise_to(place, self._widest_share(place))

    def _widest_share(self, place: int) -> float:
        row = self.rows[place]
        now = float(self.given[place])
        widest = min(1.0, float(self.wanted[place]), now + float(self.room[self.column]))
        if self.devices is not None:
            widest = min(widest, self.devices.widest(int(row)))
        rates = self.asked.rate_low[row]
        rated = rates > 0
        extra = (self.room[rated] / rates[rated]).min(initial=np.inf)
        return self._permitted(place, min(widest, now + float(extra)))
