"""Teams: who pays, what each is guaranteed, what it may borrow, lend and spend."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from airflow_dla.specs.resources import amounts
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import (
    amount,
    boolean,
    identifier,
    integer,
    mapping_of,
    number,
    optional,
    positive,
    seconds,
    sequence_of,
    text,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TeamSpec(Spec):
    """One team as ``teams.yaml`` describes it.

    Parameters
    ----------
    name : str
    parent : str or None
        Team whose child this is; None: directly below the cluster.
    weight : float, > 0
        Share of what is contended for.
    guaranteed : mapping of resource to float
        What the team has for itself; 0 where not named.
    borrow : mapping of resource to float
        Most that it and those below it may use above their guarantees; unlimited where not named.
    lend : mapping of resource to float
        Most of the guarantee that others may use while it is idle; all of it where not named.
    quota : mapping of resource to float
        Most that its grants may sum to; unlimited where not named.
    reclaim_after_s : float or None
        Seconds that a demand within the guarantee waits before those who borrow are
        preempted (``reclaim_after``); None: what was lent comes back when its jobs end.
    max_priority : int or None
        Highest priority that its jobs may have; larger ones count as this one.
    gpu_hours : float or None
        Most GPU-hours in one period; None: as many as it likes.
    period_s : float, > 0
        Length of a period of `gpu_hours` (``period``), 30 days unless said otherwise.
    tokens : float or None
        What it may spend in auctions in one refill term; None: as much as it likes.
    preemptible : bool
        Whether its jobs are preemptible when they do not say.
    dags : tuple of str
        DAG ids, or patterns with ``*``, whose jobs belong to it when they name no team.
    bundles : tuple of str
        DAG bundles whose DAGs belong to it.
    airflow_teams : tuple of str
        Airflow teams whose DAGs belong to it.
    """

    called: ClassVar[str] = "team"
    short: ClassVar[Mapping[str, str]] = {"reclaim_after": "reclaim_after_s", "period": "period_s"}

    name: str = spec_field(identifier)
    parent: str | None = spec_field(optional(identifier), default=None)
    weight: float = spec_field(positive(number), default=1.0)
    guaranteed: Mapping[str, float] = spec_field(amounts, factory=dict)
    borrow: Mapping[str, float] = spec_field(amounts, factory=dict)
    lend: Mapping[str, float] = spec_field(amounts, factory=dict)
    quota: Mapping[str, float] = spec_field(amounts, factory=dict)
    reclaim_after_s: float | None = spec_field(optional(seconds), default=None)
    max_priority: int | None = spec_field(optional(integer), default=None)
    gpu_hours: float | None = spec_field(optional(amount), default=None)
    period_s: float = spec_field(positive(seconds), default=30 * 86_400.0)
    tokens: float | None = spec_field(optional(amount), default=None)
    preemptible: bool = spec_field(boolean, default=False)
    dags: tuple[str, ...] = spec_field(sequence_of(text), default=())
    bundles: tuple[str, ...] = spec_field(sequence_of(text), default=())
    airflow_teams: tuple[str, ...] = spec_field(sequence_of(text), default=())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Account(Spec):
    """What a team has used and may still spend, as the last allocation round left it.

    Parameters
    ----------
    team : str
    at : float
        When it was brought up to date, seconds since the epoch, the database's.
    past_use : mapping of resource to float
        What it held lately, decayed.
    gpu_hours : float
        Spent since `period_at`.
    period_at : float
        When the budget's period began, seconds since the epoch.
    tokens : float or None
        Left to spend in auctions; None before the first refill.
    refilled_at : float
        When tokens were refilled last, seconds since the epoch.
    """

    called: ClassVar[str] = "account"

    team: str = spec_field(identifier)
    at: float = spec_field(number, default=0.0)
    past_use: Mapping[str, float] = spec_field(mapping_of(amount), factory=dict)
    gpu_hours: float = spec_field(amount, default=0.0)
    period_at: float = spec_field(number, default=0.0)
    tokens: float | None = spec_field(optional(amount), default=None)
    refilled_at: float = spec_field(number, default=0.0)
