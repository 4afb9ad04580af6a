"""Auctions in terms: what a preemptible job won is sold again when its term is over.

Its holder bids again, for what it has and where it has it, together with all that wait. Who
wins keeps it and pays for another term at the clearing prices. Who loses stops, but only where
a winner needs the room: nobody stops for nobody, and nobody pays where nothing is contended for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_dla.allocation.living import settled
from airflow_dla.allocation.outlook import Outlook, Owned, View
from airflow_dla.allocation.problem import Policy
from airflow_dla.specs import Account, Demand, Held, Node, Range, Request


@dataclass(frozen=True, slots=True)
class Resale:
    """What came of selling again.

    Parameters
    ----------
    lost : mapping of live grant to str
        Those that stop, and why, one sentence.
    payments : mapping of live grant to float
        Tokens that the others pay for their next term.
    """

    lost: Mapping[str, str] = field(default_factory=dict)
    payments: Mapping[str, float] = field(default_factory=dict)


def term_over(held: Iterable[Held], accounts: Iterable[Account], now: float, term_s: float) -> frozenset[str]:
    """Return the preemptible grants of which a term ended since the accounts of their teams were brought up to date.

    Parameters
    ----------
    accounts : iterable of `Account`
        As the last round left them.
    now : float
    term_s : float
    """
    last = {account.team: account.at for account in accounts}

    def terms(one: Held, at: float) -> int:
        return math.floor(max(0.0, at - one.since) / term_s)

    return frozenset(
        one.grant.id for one in held if one.demand.preemptible and terms(one, now) > terms(one, last.get(one.demand.team, one.since))
    )


def sell_again(cluster: Sequence[Node], held: Sequence[Held], pending: Sequence[Demand], policy: Policy, now: float) -> Resale:
    """Let the holders of `policy.over` bid with all that wait.

    Parameters
    ----------
    cluster : sequence of `Node`
    held : sequence of `Held`
    pending : sequence of `Demand`
    policy : `Policy`
    now : float
    """
    stays = [one for one in held if not one.stopping]
    over = sorted((one for one in stays if one.grant.id in policy.over and one.demand.preemptible), key=lambda one: one.grant.id)
    if not over:
        return Resale()
    rest = _owned(one for one in stays if one not in over)
    sale = _Sale(cluster, pending, policy, now)
    sold = sale.outlook([_bid(one) for one in over], rest)
    rows = dict(enumerate(over, start=len(pending)))
    won = [one for row, one in rows.items() if sold.served(row)]
    newcomers = sale.newcomers(sold, [*rest, *_owned(over)])
    lost = sale.needed([one for one in over if one not in won], newcomers, [*rest, *_owned(won)]) if newcomers else []
    payments = sold.solution.admission.payments
    winners = ", ".join(pending[row].id for row in newcomers)
    return Resale(
        lost={
            one.grant.id: f"its term of {policy.term_s:g} s is over and it was outbid by {winners} for its share of {one.grant.node}"
            for one in lost
        },
        payments={one.grant.id: float(payments[row]) for row, one in rows.items() if one in won} if payments is not None else {},
    )


def _owned(held: Iterable[Held]) -> list[Owned]:
    return [(one.demand.team, settled(one)) for one in held]


def _bid(held: Held) -> Demand:
    """Return a holder's bid: for what it has, where it has it."""
    amounts = settled(held).amounts
    has = {name: Range(amount, amount) for name, amount in amounts.items() if name != "gpu_memory" or amounts.get("gpu")}
    return dataclasses.replace(held.demand, request=Request(has), place="any", node=held.grant.node, gang=None, gang_size=1)


@dataclass(frozen=True, slots=True)
class _Sale:
    """What is asked again and again of one sale."""

    cluster: Sequence[Node]
    pending: Sequence[Demand]
    policy: Policy
    now: float

    def outlook(self, more: Iterable[Demand], live: Sequence[Owned]) -> View:
        """Return who would be served of all that wait, and of some more."""
        return Outlook(self.cluster, [*self.pending, *more], self.policy, self.now).given(live)

    def newcomers(self, sold: View, live: Sequence[Owned]) -> list[int]:
        """Return those who wait, and would start only if somebody's share were sold to them."""
        winners = [row for row in range(len(self.pending)) if sold.served(row)]
        before = self.outlook((), live) if winners else sold
        return [row for row in winners if not before.served(row)]

    def needed(self, lost: list[Held], newcomers: Sequence[int], live: Sequence[Owned]) -> list[Held]:
        """Return those who must stop so that all newcomers start, though whoever stopped bids again; none if they would not."""

        def start(stop: Sequence[Held]) -> bool:
            keeps = _owned(one for one in lost if one not in stop)
            then = self.outlook((one.demand for one in stop), [*live, *keeps])
            return all(then.served(row) for row in newcomers)

        if not lost or not start(lost):
            return []
        stop = lost
        # Those that matter most are spared first.
        for one in sorted(lost, key=lambda held: (-held.demand.priority, held.since, held.grant.id)):
            fewer = [other for other in stop if other is not one]
            stop = fewer if start(fewer) else stop
        return stop
