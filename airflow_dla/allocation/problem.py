"""The vocabulary of an allocation problem and its answer.

See Also
--------
airflow_dla.specs.grants : Node, Demand, Grant and Reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import RESOURCES, Grant, Reason

Shedding = Literal["strict", "proportional", "water-filling"]

STRATEGIES = ("lp", "greedy")
SHEDDINGS: tuple[Shedding, ...] = ("strict", "proportional", "water-filling")


@dataclass(frozen=True, slots=True)
class Policy:
    """How a shortage is resolved.

    Parameters
    ----------
    strategy : {"lp", "greedy"}
        Order of admission: priority, then age; or smallest demand first.
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
    """

    strategy: str = "lp"
    shedding: Shedding = "strict"
    costs: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    reserves: Mapping[str, float] = field(default_factory=dict)
    quotas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    used: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

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
    resizes : mapping of live grant to `Grant`
        Live grants that should change; empty in this version.
    prices : mapping of resource to float
        Shadow prices: what one more unit of a resource would be worth.
    status : str
        ``"optimal"``; anything else was raised.
    """

    grants: Mapping[str, Grant] = field(default_factory=dict)
    waiting: Mapping[str, Reason] = field(default_factory=dict)
    shrunk: Mapping[str, Reason] = field(default_factory=dict)
    resizes: Mapping[str, Grant] = field(default_factory=dict)
    prices: Mapping[str, float] = field(default_factory=dict)
    status: str = "optimal"
