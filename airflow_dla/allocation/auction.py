r"""Strategy ``auction``: bids for bundles at the prices where the market clears.

A demand bids its value for its minimum: its weight, doubled by each step of priority. The
prices (`market`) rise until what is still wanted fits; whoever bids more than its bundle costs
is served first, by value for money. Bundles are whole, so what is left then goes to the next
best bids, at what they bid. Teams pay from budgets of tokens.

One price for all is not strategy-proof, only nearly so where every bidder is small; for one
divisible resource `vcg` is.

References
----------
Vickrey: Counterspeculation, Auctions, and Competitive Sealed Tenders, J. Finance 16, 1961.
Ausubel: An Efficient Ascending-Bid Auction for Multiple Objects, AER 94, 2004.
Mahajan et al.: Themis, NSDI 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.admission import Admission
from airflow_dla.allocation.market import clear
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.table import Asked, Bools, Floats, Ints, Offered
from airflow_dla.errors import InvalidSpec

_DIGITS = 9
_EQUAL = 1e-9
_STEPS = 60


def admission(asked: Asked, offered: Offered, policy: Policy) -> Admission:
    """Order demands by value for money at the clearing prices; bar those that their team cannot pay."""
    bids = read_bids(asked, offered)
    budget = np.array([policy.budgets.get(team, np.inf) for team in asked.teams])
    queue = bids.queue
    while True:
        price = clear(bids.value[queue], bids.bundle[queue], bids.supply).price if len(queue) else np.zeros(len(bids.supply))
        order = bids.by_worth(price)
        payments = np.minimum(bids.value, bids.bundle @ price)
        afforded = _afforded(order[np.isin(order, queue)], payments, asked.team, budget)
        rising = queue[afforded[queue]]
        if len(rising) == len(queue):
            break
        # Who cannot pay stops bidding, and the prices fall for the others.
        queue = rising
    # What they left has become cheaper: those who can pay now come last.
    out = order[np.isin(order, bids.queue) & ~np.isin(order, queue)]
    order = np.concatenate([order[~np.isin(order, out)], out])
    afforded = _afforded(order[np.isin(order, bids.queue)], payments, asked.team, budget)
    barred = {int(row): float(payments[row]) for row in out[~afforded[out]]}
    return Admission(order, price=price / bids.unit, payments=payments, barred=barred)


@dataclass(frozen=True, slots=True)
class Bids:
    """Demands as bidders, in units of what the cluster has.

    Parameters
    ----------
    value : float array, shape (n,)
        In tokens.
    bundle : float array, shape (n, R)
        Minima, as parts of the cluster.
    supply : float array, shape (R,)
        What is free, as parts of the cluster.
    unit : float array, shape (R,)
        What the cluster has of each resource, 1 where it has none.
    able : bool array, shape (n,)
        Whether some node could hold the minimum now, and no member of its gang is missing.
    queue : int array, shape (k,)
        Those that are able, by priority, age and id.
    rank : int array, shape (n,)
        Place in the queue.
    """

    value: Floats
    bundle: Floats
    supply: Floats
    unit: Floats
    able: Bools
    queue: Ints
    rank: Ints

    def by_worth(self, price: Floats) -> Ints:
        """Order all demands by value for money, those that fit nowhere last."""
        cost = self.bundle @ price
        worth = np.divide(self.value, cost, out=np.full(len(cost), np.inf), where=cost > _EQUAL * self.value)
        return np.lexsort((self.rank, -worth.round(_DIGITS), ~self.able))


def read_bids(asked: Asked, offered: Offered) -> Bids:
    """Turn demands into bids, in an order and in units that do not depend on how they were listed."""
    total = offered.capacity.sum(axis=0)
    unit = np.where(total > 0, total, 1.0)
    queue = np.lexsort((asked.rank, asked.created, -(asked.priority + asked.aged)))
    rank = np.empty(len(queue), dtype=np.intp)
    rank[queue] = np.arange(len(queue))
    able = np.zeros(len(asked), dtype=bool)
    for node in range(len(offered.names)):
        able |= offered.allowed[asked.kind, node] & (asked.minimum <= offered.free[node] + offered.slack[node]).all(axis=1)
    if asked.gangs is not None:
        able &= asked.gangs.complete()
    # Rounded, so that degenerate optima do not depend on units or on the order of adding up.
    bundle, supply = (asked.minimum / unit).round(_DIGITS + 3), (offered.free.sum(axis=0) / unit).round(_DIGITS + 3)
    steps = np.clip(asked.priority + asked.aged, -_STEPS, _STEPS)
    value = asked.weight * np.exp2(steps.astype(float))
    return Bids(value=value, bundle=bundle, supply=np.maximum(0.0, supply), unit=unit, able=able, queue=queue[able[queue]], rank=rank)


def _afforded(order: Ints, payments: Floats, team: Ints, budget: Floats) -> Bools:
    """Return which demands their team can pay, in order, skipping those it cannot."""
    afforded = np.ones(len(team), dtype=bool)
    for payer in np.flatnonzero(np.isfinite(budget)).tolist():
        left = float(budget[payer])
        slack = left * _EQUAL
        for row in order[team[order] == payer].tolist():
            afforded[row] = payments[row] <= left + slack
            left -= float(payments[row]) if afforded[row] else 0.0
    return afforded


def vcg(value: Floats, wanted: Floats, supply: float) -> tuple[Floats, Floats]:
    r"""Sell one divisible resource so that bidding the truth is best for everybody.

    The amounts maximise what they are worth to all, :math:`\sum v_i x_i`, and each pays what
    the others lose by its being there: Vickrey, Clarke and Groves.

    Parameters
    ----------
    value : float array, shape (n,), >= 0
        What one unit is worth to each bidder, tokens.
    wanted : float array, shape (n,), >= 0
        Most that each can use.
    supply : float, >= 0

    Returns
    -------
    amounts, payments : float array, shape (n,)
        Units and tokens. Nobody pays more than its amount is worth to it.

    Raises
    ------
    InvalidSpec
        If a number is negative, infinite or NaN.

    Examples
    --------
    >>> amounts, payments = vcg(np.array([3.0, 2.0, 1.0]), np.array([4.0, 4.0, 4.0]), 6.0)
    >>> amounts.tolist(), payments.tolist()
    ([4.0, 2.0, 0.0], [6.0, 2.0, 0.0])
    """
    for name, given in (("value", value), ("wanted", wanted), ("supply", np.array([supply]))):
        if not (np.isfinite(given).all() and (given >= 0).all()):
            raise InvalidSpec(f"{name} of an auction must be finite numbers >= 0, got {given.tolist()!r:.80}")
    order = np.argsort(-value, kind="stable")
    size, worth = wanted[order], value[order]
    total = np.concatenate([[0.0], np.cumsum(size)])
    value_of = np.concatenate([[0.0], np.cumsum(size * worth)])
    if not len(value):
        return np.zeros(0), np.zeros(0)
    given = np.clip(supply - total[:-1], 0.0, size)
    # Without i, the others get its part from where the supply ends: up to `supply + size_i` in order.
    without = _welfare(np.minimum(supply + size, total[-1]), total, value_of, worth) - size * worth
    others = float(given @ worth) - given * worth
    payments, amounts = np.zeros(len(value)), np.zeros(len(value))
    amounts[order] = given
    payments[order] = np.where(given > 0, np.maximum(0.0, without - others), 0.0)
    return amounts, payments


def _welfare(amount: Floats, total: Floats, value_of: Floats, worth: Floats) -> Floats:
    """Return what the first `amount` units, sold in order, are worth."""
    place = np.clip(np.searchsorted(total, amount, side="right") - 1, 0, len(worth) - 1)
    return value_of[place] + (amount - total[place]) * worth[place]
