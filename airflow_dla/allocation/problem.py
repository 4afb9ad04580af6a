"""The vocabulary of an allocation problem and its answer.

See Also
--------
airflow_dla.specs.grants : Node, Demand, Grant and Reason.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from airflow_dla.allocation.forecast.holds import Hold
from airflow_dla.allocation.forecast.quantiles import newsvendor
from airflow_dla.allocation.teams import TeamShare, check_teams
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import RESOURCES, Grant, Reason

Shedding = Literal["strict", "proportional", "water-filling"]

STRATEGIES = ("lp", "greedy", "fair", "price", "auction")
SHEDDINGS: tuple[Shedding, ...] = ("strict", "proportional", "water-filling")


@dataclass(frozen=True, slots=True)
class Policy:
    """How a shortage is resolved.

    Parameters
    ----------
    strategy : {"lp", "greedy", "fair", "price", "auction"}
        Order of admission: priority, then age; smallest demand first; the team with the
        smallest dominant share first; most value for the scarce resources; the highest bids
        for what the market asks.
    shedding : {"strict", "proportional", "water-filling"}
        Who gets what lies between minima and wants.
    costs : mapping of resource to float
        Cost of one unit, in any currency, >= 0. A unit that is wanted is worth its cost
        and, on top, the weight of who wants it: costs never shed anything.
    weights : mapping of demand or team to float
        Share of a shortage, > 0; 1 where not named. Multiplies the demand's own weight;
        an entry for the demand goes before one for its team.
    reserves : mapping of resource to float
        Held back from every node's capacity.
    quotas : mapping of team to mapping of resource to float
        Most that a team's grants may sum to.
    used : mapping of team to mapping of resource to float
        What the teams' live grants already sum to, counted against the quotas.
    teams : tuple of `TeamShare`
        Guarantees, borrowing and lending limits; every strategy keeps them.
    budgets : mapping of team to float
        Tokens that ``auction`` lets a team spend in this round, >= 0; teams that are not
        named may spend any.
    ageing_s : float or None
        Seconds of waiting that raise a priority by one; None: priorities do not age.
    ends : mapping of live grant to float, or None
        When grants are expected to end, seconds since the epoch; those not named may end at
        any time. With it, backfill never delays the head of the queue; None: whatever fits
        may start.
    runs : mapping of demand to float
        How long a demand is expected to hold its grant, s, where it does not say itself; one
        that ends before the head of the queue can start does not delay it.
    started : collection of str
        Gangs of which a member holds a grant: who joins them waits for no other member.
    drain_after_s : float
        Seconds that the head of the queue waits before a node is kept for it although nobody
        knows when it can start there.
    reclaims : frozenset of str
        Demands within what their team is guaranteed that have waited long enough to take back
        what was lent: they go before all others.
    grace_s : float
        About how long a job takes to stop, s.
    min_run_s : float
        Seconds that a job runs before it may be preempted, but for a guarantee.
    patience_s : float
        Nobody is preempted for what ends by itself within so many seconds: about what a stop
        and a new start would cost.
    min_gain : float, between 0 and 1
        A live grant grows only by at least this part of what it wants of a resource.
    over : frozenset of str
        Live grants whose term is over: ``auction`` sells their shares again.
    term_s : float
        Seconds after which ``auction`` sells the shares of preemptible jobs again.
    half_life_s : float
        Past use that lies so many seconds back counts half.
    holds : tuple of `Hold`
        What is kept for jobs that are expected, from demands that matter less and would
        stay too long; `airflow_dla.allocation.forecast.holds` makes them.
    shortage_cost, holding_cost : float
        What a second of waiting costs a job that was expected, and a second of idleness what
        is kept for it; their ratio says how much is kept, and which quantiles are forecast.
    begun : mapping of live grant to (float, float)
        When live grants began, seconds since the epoch, and how long each was expected to last, s:
        what forecast starts are drawn from.
    spread : float, >= 0
        Standard deviation of the logarithm of run times about what is expected of them, as
        history shows; 0.5 unless said otherwise. It says how sure forecast starts are.
    stretch : (float, float, float)
        What waits have come to, of the 10 %, 50 % and 90 % quantiles that were forecast, as
        history shows (`airflow_dla.allocation.starts.stretch`): others who come later and go
        first are not in the forecast itself. Unless said otherwise, what replays of generated
        workloads came to without teams (``tests/bench/bench_reasons.py``).
    told : int, >= 0
        How many of the queue are told when they should start: the others are too far away to know.
    """

    strategy: str = "lp"
    shedding: Shedding = "strict"
    costs: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    reserves: Mapping[str, float] = field(default_factory=dict)
    quotas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    used: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    teams: tuple[TeamShare, ...] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    ageing_s: float | None = None
    ends: Mapping[str, float] | None = None
    runs: Mapping[str, float] = field(default_factory=dict)
    started: Collection[str] = ()
    drain_after_s: float = 900.0
    reclaims: frozenset[str] = frozenset()
    grace_s: float = 30.0
    min_run_s: float = 120.0
    patience_s: float = 90.0
    min_gain: float = 0.1
    over: frozenset[str] = frozenset()
    term_s: float = 1200.0
    half_life_s: float = 86_400.0
    holds: tuple[Hold, ...] = ()
    shortage_cost: float = 4.0
    holding_cost: float = 1.0
    begun: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    spread: float = 0.5
    stretch: tuple[float, float, float] = (0.8, 1.0, 1.45)
    told: int = 32

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InvalidSpec(f"policy.strategy must be one of {', '.join(STRATEGIES)}, got {self.strategy!r}")
        if self.shedding not in SHEDDINGS:
            raise InvalidSpec(f"policy.shedding must be one of {', '.join(SHEDDINGS)}, got {self.shedding!r}")
        for resource, cost in self.costs.items():
            if cost < 0:
                raise InvalidSpec(f"policy.costs.{resource} must be >= 0, got {cost:g}; known are {', '.join(RESOURCES)}")
        for who, weight in self.weights.items():
            if weight <= 0:
                raise InvalidSpec(f"policy.weights.{who} must be > 0, got {weight:g}")
        newsvendor(self.shortage_cost, self.holding_cost)
        self._check_times_and_tokens()
        self._check_adjustment()
        check_teams(self.teams, self.quotas)

    def _check_times_and_tokens(self) -> None:
        for team, tokens in self.budgets.items():
            if not tokens >= 0:
                raise InvalidSpec(f"policy.budgets.{team} must be >= 0 tokens, got {tokens:g}")
        if self.ageing_s is not None and not self.ageing_s > 0:
            raise InvalidSpec(f"policy.ageing_s must be > 0 seconds, got {self.ageing_s:g}; leave it out to let nothing age")
        if not (math.isfinite(self.spread) and self.spread >= 0):
            raise InvalidSpec(
                f"policy.spread must be a finite number >= 0, got {self.spread:g}; 0 where every job takes as long as expected"
            )
        if self.told < 0:
            raise InvalidSpec(f"policy.told must be >= 0, got {self.told}")
        if not all(math.isfinite(factor) and factor > 0 for factor in self.stretch):
            raise InvalidSpec(f"policy.stretch must be three finite numbers > 0, got {self.stretch}")
        for kind, given in (("ends", self.ends or {}), ("runs", self.runs)):
            for who, seconds in given.items():
                if not (math.isfinite(seconds) and seconds >= 0):
                    raise InvalidSpec(f"policy.{kind}.{who} must be a finite number of seconds >= 0, got {seconds:g}")

    def _check_adjustment(self) -> None:
        for name in ("drain_after_s", "grace_s", "min_run_s", "patience_s"):
            if not getattr(self, name) >= 0:
                raise InvalidSpec(f"policy.{name} must be >= 0 seconds, got {getattr(self, name):g}")
        for name in ("term_s", "half_life_s"):
            if not getattr(self, name) > 0:
                raise InvalidSpec(f"policy.{name} must be > 0 seconds, got {getattr(self, name):g}")
        if not 0 <= self.min_gain <= 1:
            raise InvalidSpec(f"policy.min_gain must be between 0 and 1, got {self.min_gain:g}")


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer to an allocation problem.

    Parameters
    ----------
    grants : mapping of demand to `Grant`
        New grants only.
    waiting : mapping of demand to `Reason`
        Every demand that got nothing.
    shrunk : mapping of demand to `Reason`
        Every demand that got less than it wanted.
    prices : mapping of resource to float
        Shadow prices: what one more unit of a resource would be worth.
    payments : mapping of demand to float
        Tokens that each new grant costs; only ``auction`` asks for any.
    status : str
        ``"optimal"``; for ``price``, which packs bundles, how far from the best possible
        value the plan may be. Anything else was raised.
    """

    grants: Mapping[str, Grant] = field(default_factory=dict)
    waiting: Mapping[str, Reason] = field(default_factory=dict)
    shrunk: Mapping[str, Reason] = field(default_factory=dict)
    prices: Mapping[str, float] = field(default_factory=dict)
    payments: Mapping[str, float] = field(default_factory=dict)
    status: str = "optimal"
