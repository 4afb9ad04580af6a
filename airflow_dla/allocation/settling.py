"""Settling on all nodes at once: quotas first, then GPUs with what follows them, then the rest."""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.devices import Devices
from airflow_dla.allocation.gpus import GpuSettlement
from airflow_dla.allocation.limits import TeamTree
from airflow_dla.allocation.placement import Packing
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.shedding import RULES, Rule
from airflow_dla.allocation.table import Asked, Floats, Ints, Offered, gpu_multiple

_ROUNDING = 1e-9


class Settling:
    """What lies between minima and wants, for k demands that have a node.

    Parameters
    ----------
    asked : `Asked`
    offered : `Offered`
    policy : `Policy`
    packing : `Packing`
        Who is on which node; minima are paid for.
    rows : int array, shape (k,)
        The demands, in the order of shedding.

    Attributes
    ----------
    low : float array, shape (k, R)
        What each has: its minimum at first, what it gets in the end.
    high : float array, shape (k, R)
        What each may have at most.
    permitted : float array, shape (k, R)
        What the quota of its team leaves of what each wants.
    price : float array, shape (G, R)
        Shadow price of each resource of each node.
    devices : dict of int to `Devices`
    """

    def __init__(self, asked: Asked, offered: Offered, policy: Policy, packing: Packing, *, rows: Ints) -> None:
        self.asked, self.offered, self.policy, self.rows = asked, offered, policy, rows
        self.group, self.weight = packing.where[rows], asked.weight[rows]
        self.rule: Rule = RULES[policy.shedding]
        self.low, self.high = asked.minimum[rows], asked.wanted[rows]
        self.quota = packing.quota if packing.tree is None else self._team_quota(packing, packing.tree)
        self.permitted = self.high
        self.price = np.zeros(offered.free.shape)
        self.devices = _reseat(asked, packing)

    def _team_quota(self, packing: Packing, tree: TeamTree) -> Floats:
        """Return what teams may grow by, within their quotas and within what the tree of teams leaves them all."""
        wants = np.zeros(packing.quota.shape)
        np.add.at(wants, self.asked.team[self.rows], self.high - self.low)
        return tree.growth(packing.own, np.minimum(wants, np.maximum(0.0, packing.quota)))

    def settle(self) -> None:
        """Raise every demand from its minimum to what it gets."""
        self._cap_by_quota()
        self.permitted = self.high.copy()
        for part in self._levels():
            self._settle_gpus(part)
            for column in range(self.low.shape[1]):
                if column != self.asked.gpu:
                    self._settle_column(column, part)

    def _levels(self) -> list[Ints]:
        """Return positions in `rows` that are settled together, in turn.

        GPUs go first and take along what follows them. Under strict shedding that must
        not take CPUs from a higher priority, so then priorities are settled one by one.
        """
        everybody = np.arange(len(self.rows))
        if self.policy.shedding != "strict" or not self.asked.coupled[self.rows].any():
            return [everybody]
        priority = self.asked.priority[self.rows]
        return [np.flatnonzero(priority == level) for level in np.unique(priority)[::-1]]

    def _sums(self, values: Floats) -> Floats:
        """Return what the demands of each node sum to, shape (G, R)."""
        columns = [np.bincount(self.group, weights=column, minlength=len(self.offered.names)) for column in values.T]
        return np.column_stack(columns) if columns else np.zeros(self.offered.free.shape)

    def room(self) -> Floats:
        """Return what is left of each node, shape (G, R)."""
        return self.offered.free - self._sums(self.low)

    def _settle_column(self, column: int, part: Ints) -> None:
        span = self.high[part, column] - self.low[part, column]
        if not (span > 0).any():
            return
        taken = np.bincount(self.group, weights=self.low[:, column], minlength=len(self.offered.names))
        given, price = self.rule(span, self.weight[part], self.group[part], self.offered.free[:, column] - taken)
        if column in self.asked.slices:
            given = _whole(given, span, self.group[part], self.offered.free[:, column] - taken, in_order=self.policy.shedding == "strict")
        self.low[part, column] = np.minimum(self.low[part, column] + given, self.high[part, column])
        self.price[:, column] = np.maximum(self.price[:, column], price)

    def _cap_by_quota(self) -> None:
        """Lower the wants of teams to their quotas, by the same rule, before nodes are settled."""
        team = self.asked.team[self.rows]
        for column in np.flatnonzero(np.isfinite(self.quota).any(axis=0)).tolist():
            room = np.where(np.isfinite(self.quota[:, column]), self.quota[:, column], np.inf)
            span = self.high[:, column] - self.low[:, column]
            capped = np.isfinite(room)[team] & (span > 0)
            given, _ = self.rule(span[capped], self.weight[capped], team[capped], np.where(np.isfinite(room), room, 0.0))
            self.high[capped, column] = self.low[capped, column] + (np.floor(given + _ROUNDING) if column in self.asked.slices else given)
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

    def _settle_gpus(self, part: Ints) -> None:
        gpu = self.asked.gpu
        if gpu is None:
            return
        ranged = part[self.high[part, gpu] > self.low[part, gpu]]
        room = self.room() if len(ranged) else self.offered.free
        for node in np.unique(self.group[ranged]).tolist():
            here = ranged[self.group[ranged] == node]
            shares = GpuSettlement(
                self.asked,
                self.rows[here],
                wanted=self.high[here, gpu],
                room=room[node],
                slack=self.offered.slack[node],
                devices=self.devices.get(node),
            )
            self.low[here, gpu], price = shares.settle(self.policy.shedding)
            self.price[node] = np.maximum(self.price[node], price)
        self._multiply_rates(part[self.asked.coupled[self.rows[part]]], gpu)

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


def _whole(given: Floats, span: Floats, group: Ints, room: Floats, *, in_order: bool) -> Floats:
    """Round down to whole slices, and give those that are then left to who lost most; in order where the rule is strict.

    Examples
    --------
    >>> _whole(np.array([1.5, 1.5]), np.array([3.0, 3.0]), np.zeros(2, np.intp), np.array([3.0]), in_order=True).tolist()
    [2.0, 1.0]
    """
    whole = np.floor(given + _ROUNDING)
    left = np.floor(room - np.bincount(group, weights=whole, minlength=len(room)) + _ROUNDING)
    order = np.arange(len(given)) if in_order else np.argsort(whole - given, kind="stable")
    for place in order.tolist():
        if given[place] > whole[place] + _ROUNDING and left[group[place]] >= 1:
            more = min(1.0, span[place] - whole[place])
            whole[place] += more
            left[group[place]] -= more
    return whole


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
