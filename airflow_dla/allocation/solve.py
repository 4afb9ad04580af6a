"""Arrays in, arrays out: admission, placement and settling, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from airflow_dla.allocation import greedy, lp
from airflow_dla.allocation.devices import Devices
from airflow_dla.allocation.gpus import GpuSettlement
from airflow_dla.allocation.placement import Packing, place
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.shedding import RULES, Rule
from airflow_dla.allocation.table import Asked, Floats, Ints, Offered, gpu_multiple

#: A strategy says in which order demands are admitted.
ADMISSIONS: Final[Mapping[str, Callable[[Asked, Offered], Ints]]] = {"lp": lp.admission, "greedy": greedy.admission}


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer, as arrays.

    Parameters
    ----------
    order : int array, shape (n,)
        Demands in the order of admission.
    where : int array, shape (n,)
        Node of each demand, -1 for those that wait.
    amounts : float array, shape (n, R)
        What each got; 0 for those that wait.
    permitted : float array, shape (n, R)
        What each wants, or what the quota of its team leaves of it.
    free : float array, shape (G, R)
        What is left of each node.
    quota : float array, shape (T, R)
        What teams may still be granted.
    price : float array, shape (G, R)
        Shadow price of each resource of each node.
    devices : dict of int to `Devices`
        With everything placed on them.
    """

    order: Ints
    where: Ints
    amounts: Floats
    permitted: Floats
    free: Floats
    quota: Floats
    price: Floats
    devices: Mapping[int, Devices]


def solve(asked: Asked, offered: Offered, policy: Policy) -> Solution:
    """Decide who gets how much of which node.

    Raises
    ------
    SolverFailed
        If HiGHS is needed and does not end at an optimum.
    """
    order = ADMISSIONS[policy.strategy](asked, offered)
    turn = shedding_order(asked)
    packing = place(asked, offered, order, turn)
    rows = turn[packing.where[turn] >= 0]
    return _Settling(asked, offered, policy, packing, rows).solution(order)


def shedding_order(asked: Asked) -> Ints:
    """Order demands for strict shedding: by priority, then weight, age and id."""
    return np.lexsort((asked.rank, asked.created, -asked.weight, -asked.priority))


class _Settling:
    """Deciding what lies between minima and wants, for demands that have a node."""

    def __init__(self, asked: Asked, offered: Offered, policy: Policy, packing: Packing, rows: Ints) -> None:
        self.asked, self.offered, self.policy, self.rows = asked, offered, policy, rows
        self.where, self.quota = packing.where, packing.quota
        self.group, self.weight = packing.where[rows], asked.weight[rows]
        self.rule: Rule = RULES[policy.shedding]
        self.low, self.high = asked.minimum[rows], asked.wanted[rows]
        self.price = np.zeros(offered.free.shape)
        self.devices = _reseat(asked, packing)

    def solution(self, order: Ints) -> Solution:
        shape = self.asked.minimum.shape
        permitted, amounts = self.asked.wanted.copy(), np.zeros(shape)
        self._cap_by_quota()
        permitted[self.rows] = self.high
        self._settle_gpus()
        for column in range(shape[1]):
            if column != self.asked.gpu:
                self._settle_column(column)
        amounts[self.rows] = self.low
        return Solution(
            order=order,
            where=self.where,
            amounts=amounts,
            permitted=permitted,
            free=self.offered.free - self._sums(self.low),
            quota=self._quota_left(amounts),
            price=self.price,
            devices=self.devices,
        )

    def _sums(self, values: Floats) -> Floats:
        """Return what the demands of each node sum to, shape (G, R)."""
        columns = [np.bincount(self.group, weights=column, minlength=len(self.offered.names)) for column in values.T]
        return np.column_stack(columns) if columns else np.zeros(self.offered.free.shape)

    def _quota_left(self, amounts: Floats) -> Floats:
        left = self.offered.quota.copy()
        np.subtract.at(left, self.asked.team, amounts)
        return left

    def _settle_column(self, column: int) -> None:
        span = self.high[:, column] - self.low[:, column]
        if not (span > 0).any():
            return
        taken = np.bincount(self.group, weights=self.low[:, column], minlength=len(self.offered.names))
        room = self.offered.free[:, column] - taken
        given, price = self.rule(span, self.weight, self.group, room)
        self.low[:, column] = np.minimum(self.low[:, column] + given, self.high[:, column])
        self.price[:, column] = np.maximum(self.price[:, column], price)

    def _cap_by_quota(self) -> None:
        """Lower the wants of teams to their quotas, by the same rule, before nodes are settled."""
        team = self.asked.team[self.rows]
        for column in np.flatnonzero(np.isfinite(self.quota).any(axis=0)).tolist():
            room = np.where(np.isfinite(self.quota[:, column]), self.quota[:, column], np.inf)
            span = self.high[:, column] - self.low[:, column]
            capped = np.isfinite(room)[team] & (span > 0)
            given, _ = self.rule(span[capped], self.weight[capped], team[capped], np.where(np.isfinite(room), room, 0.0))
            self.high[capped, column] = self.low[capped, column] + given
        self._cap_gpus()

    def _cap_gpus(self) -> None:
        gpu = self.asked.gpu
        changed = np.flatnonzero((self.high < self.asked.wanted[self.rows]).any(axis=1))
        if gpu is None or not len(changed):
            return
        rates, high = self.asked.rate_low[self.rows[changed]], self.high[changed]
        bound = np.divide(high, rates, out=np.full_like(high, np.inf), where=rates > 0).min(axis=1)
        gpus = np.minimum(high[:, gpu], bound)
        whole = self.asked.whole[self.rows[changed]] | (gpus > 1)
        gpus = np.where(whole, np.floor(gpus + 1e-9), np.floor(gpus * 1000 + 1e-9) / 1000)
        self.high[changed, gpu] = np.maximum(gpus, self.low[changed, gpu])

    def _settle_gpus(self) -> None:
        gpu = self.asked.gpu
        if gpu is None:
            return
        ranged = np.flatnonzero(self.high[:, gpu] > self.low[:, gpu])
        room = self.offered.free - self._sums(self.low) if len(ranged) else self.offered.free
        for node in np.unique(self.group[ranged]).tolist():
            here = ranged[self.group[ranged] == node]
            parts = GpuSettlement(
                self.asked,
                self.rows[here],
                wanted=self.high[here, gpu],
                room=room[node],
                slack=self.offered.slack[node],
                devices=self.devices.get(node),
            )
            self.low[here, gpu], self.price[node] = parts.settle(self.policy.shedding)
        self._multiply_rates(np.flatnonzero(self.asked.coupled[self.rows]), gpu)

    def _multiply_rates(self, coupled: Ints, gpu: int) -> None:
        """Write what per-GPU values come to, now that the GPUs are known."""
        rows = self.rows[coupled]
        times = gpu_multiple(self.low[coupled, gpu], self.asked.least[rows])[:, None]
        low, high = self.asked.rate_low[rows], self.asked.rate_high[rows]
        rated = high > 0
        self.low[coupled] = np.where(rated, low * times, self.low[coupled])
        self.high[coupled] = np.maximum(
            np.where(rated, np.minimum(high * times, self.high[coupled]), self.high[coupled]), self.low[coupled]
        )


def _reseat(asked: Asked, packing: Packing) -> dict[int, Devices]:
    """Give back to devices what a wide placement took beyond the minima."""
    gpu = asked.gpu
    if gpu is None or not packing.devices:
        return packing.devices
    for devices in packing.devices.values():
        for row in [*devices.seats, *devices.promised]:
            if packing.size[row, gpu] > asked.minimum[row, gpu]:
                devices.resize(row, float(asked.minimum[row, gpu]))
    return packing.devices
