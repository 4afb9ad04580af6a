"""What is expected to ask for resources, before it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from airflow_dla.specs.resources import amounts
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import amount, integer, number, optional, positive, remark, text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Expected(Spec):
    """A job that is expected to ask for resources at about a time.

    Parameters
    ----------
    id : str
        Unique among those of one source, for example ``DAG.TASK@2026-11-22T06:00``.
    amounts : mapping of resource to float
        What it is expected to hold, in the units of `RESOURCES`.
    at : float
        When it is expected to ask, seconds since the epoch.
    late_s : float, >= 0
        How much later than `at` it may still come, s: after that it is expected no more.
    run_s : float, > 0
        How long it is expected to hold its grant, s.
    dag, task : str
        Whose demand is counted as this one's arrival; empty for unscheduled arrivals.
    team : str
    priority : int
    place : str
        Name of a place, or ``"any"``.
    gpu_type : str or None
        The only type of GPU that will do.
    """

    called: ClassVar[str] = "expected job"

    id: str = spec_field(text)
    amounts: Mapping[str, float] = spec_field(amounts)
    at: float = spec_field(number)
    late_s: float = spec_field(amount, default=0.0)
    run_s: float = spec_field(positive(number))
    dag: str = spec_field(remark, default="")
    task: str = spec_field(remark, default="")
    team: str = spec_field(text, default="default")
    priority: int = spec_field(integer, default=0)
    place: str = spec_field(text, default="any")
    gpu_type: str | None = spec_field(optional(text), default=None)
