"""What a task should ask for, from what its earlier runs used.

Memory cannot be taken back, so it is the q-quantile of the observed peaks plus a margin; a
run that was killed for memory needed more than it had, and the next one gets twice as much.
Fewer CPUs only slow a job down: at least the q-quantile of what earlier ones kept busy plus
the margin, and up to what was asked for while that is free. GPUs, and what goes with them,
stay as asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from airflow_dla.allocation.forecast.durations import HALF_LIFE
from airflow_dla.allocation.forecast.quantiles import quantile, recency
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Range, Request

#: What a share of the next runs shall find enough, and what is added to that.
QUANTILE: Final = 0.95
MARGIN: Final = 0.15
#: Spread of peaks, in logarithms, that is expected before any is observed.
_SPREAD: Final = 0.2
#: What is asked for is rounded up to this, GiB and CPUs.
_GRAIN: Final = {"memory": 1 / 64, "cpu": 0.1}
_UNITS: Final = {"memory": " GiB memory", "cpu": " cpu"}


@dataclass(frozen=True, slots=True)
class Use:
    """What one run used.

    Parameters
    ----------
    memory : float or None
        Most that it held, GiB.
    cpu : float or None
        CPUs that it kept busy on average.
    granted : mapping of resource to float
    out_of_memory : bool
        Whether it was killed for memory.
    """

    memory: float | None = None
    cpu: float | None = None
    granted: Mapping[str, float] = field(default_factory=dict)
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Sized:
    """A request, and why it is what it is.

    Parameters
    ----------
    request : `Request`
    why : tuple of str
        A sentence for each resource that was chosen; empty where nothing is known.
    """

    request: Request
    why: tuple[str, ...] = ()


def right_size(uses: Sequence[Use], base: Request, largest: Mapping[str, float], *, q: float = QUANTILE, margin: float = MARGIN) -> Sized:
    """Choose a request.

    Parameters
    ----------
    uses : sequence of `Use`
        Of the task, newest first; none at its first run.
    base : `Request`
        What is asked for where nothing is known.
    largest : mapping of resource to float
        What the largest node has: nothing beyond it is asked for.
    q, margin : float
        Which share of runs shall find it enough, in [0.5, 1); what is added to that, >= 0.

    Raises
    ------
    InvalidSpec
        If `q` or `margin` break their rule.

    Examples
    --------
    >>> base = Request.from_mapping({"cpu": 1, "memory": "8GiB", "gpu": 1})
    >>> right_size([Use(memory=2.0)] * 40, base, {"memory": 64.0}).request.to_mapping()["memory"]
    2.3125
    >>> right_size([Use(granted={"memory": 8.0}, out_of_memory=True)], base, {"memory": 64.0}).why
    ('16 GiB memory: twice what the last attempt had when it was killed for memory',)
    """
    if not 0.5 <= q < 1:  # noqa: PLR2004 - the median
        raise InvalidSpec(f"the quantile of a request must be between 0.5 and 1, 1 excluded, got {q:g}")
    if not margin >= 0:
        raise InvalidSpec(f"the margin of a request must be >= 0, got {margin:g}")
    found = {
        "memory": _memory(uses, base, largest.get("memory", math.inf), q, margin),
        "cpu": _cpu(uses, base, largest.get("cpu", math.inf), q, margin),
    }
    chosen = {resource: choice for resource, choice in found.items() if choice is not None}
    amounts = {**base.amounts, **{resource: amount for resource, (amount, _) in chosen.items()}}
    return Sized(replace(base, amounts=MappingProxyType(amounts)), tuple(why for _, why in chosen.values()))


def _memory(uses: Sequence[Use], base: Request, largest: float, q: float, margin: float) -> tuple[Range, str] | None:
    peaks = [peak for peak in map(_needed, uses) if peak is not None]
    if not peaks or not _is_fixed(base, "memory"):
        return None
    asked = base.amounts.get("memory")
    most = max(max(peaks) * (1 + margin), asked.wanted if asked else 0.0)
    amount = min(_with_margin(peaks, q, margin), most)
    had = uses[0].granted.get("memory", 0.0)
    if uses[0].out_of_memory and 2 * had >= amount:
        doubled = _bounded("memory", 2 * had, largest)
        limit = "" if doubled >= 2 * had else ", bounded by the largest node"
        return Range(doubled, doubled), f"{doubled:g} GiB memory: twice what the last attempt had when it was killed for memory{limit}"
    amount = _bounded("memory", amount, largest)
    return Range(amount, amount), _because("memory", amount, peaks, q, margin)


def _needed(use: Use) -> float | None:
    """Return what a run needed at least: one that was killed for memory, more than it had."""
    if not use.out_of_memory:
        return use.memory
    return max(use.memory or 0.0, use.granted.get("memory", 0.0)) or None


def _cpu(uses: Sequence[Use], base: Request, largest: float, q: float, margin: float) -> tuple[Range, str] | None:
    busy = [use.cpu for use in uses if use.cpu]
    if not busy or not _is_fixed(base, "cpu"):
        return None
    amount = _bounded("cpu", min(_with_margin(busy, q, margin), max(busy) * (1 + margin)), largest)
    asked = base.amounts.get("cpu")
    wanted = max(amount, min(asked.wanted, largest)) if asked else amount
    more = f", up to the {wanted:g} asked for while they are free" if wanted > amount else ""
    return Range(amount, wanted), _because("cpu", amount, busy, q, margin) + more


def _is_fixed(base: Request, resource: str) -> bool:
    """Whether an amount does not change with the number of GPUs granted: observations of several cannot be compared."""
    found, gpus = base.amounts.get(resource), base.amounts.get("gpu")
    return found is None or not found.per_gpu or gpus is None or gpus.minimum == gpus.wanted


def _with_margin(values: Sequence[float], q: float, margin: float) -> float:
    return quantile(values, q, weights=recency(len(values), HALF_LIFE), spread=_SPREAD) * (1 + margin)


def _bounded(resource: str, amount: float, largest: float) -> float:
    """Round up, but not beyond the largest node."""
    grain = _GRAIN[resource]
    return min(round(max(1, math.ceil(amount / grain - 1e-9)) * grain, 6), largest)


def _because(resource: str, amount: float, values: Sequence[float], q: float, margin: float) -> str:
    runs = f"{len(values)} runs" if len(values) > 1 else "one run"
    return f"{amount:g}{_UNITS[resource]}: enough for {q:.0%} by {runs} (most {max(values):.3g}), and {margin:.0%} more"
