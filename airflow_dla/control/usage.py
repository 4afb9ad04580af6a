"""Who used how much: GPU-hours and CPU-hours granted, used and idle, what they cost, and how long was waited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import Final

from airflow_dla.ledger import PastRun

_HOUR_S: Final = 3600.0

#: What usage can be summed up by.
KEYS: Final[Mapping[str, Callable[[PastRun], str]]] = {
    "team": lambda run: run.team,
    "dag": lambda run: run.dag,
    "model": lambda run: run.agent,
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What one team, DAG or model used.

    Parameters
    ----------
    name : str
    jobs : int
        Attempts, live ones too.
    gpu_hours, cpu_hours : float
        Granted.
    gpu_hours_used, cpu_hours_used : float or None
        What programs kept busy; None where nobody measured it. Idle is the difference to
        what was granted to the jobs that were measured.
    gpu_hours_idle, cpu_hours_idle : float or None
    cost : float
        Of what was granted, in the currency of the workspace's costs per unit and hour.
    wait_mean_s, wait_p95_s : float or None
        Seconds from asking to the grant; None when nothing was granted.
    """

    name: str
    jobs: int
    gpu_hours: float
    gpu_hours_used: float | None
    gpu_hours_idle: float | None
    cpu_hours: float
    cpu_hours_used: float | None
    cpu_hours_idle: float | None
    cost: float
    wait_mean_s: float | None
    wait_p95_s: float | None


def usage(runs: Iterable[PastRun], *, by: str, costs: Mapping[str, float], now: float) -> tuple[Usage, ...]:
    """Sum up attempts by team, DAG or model, the most GPU-hours first.

    Parameters
    ----------
    runs : iterable of `PastRun`
    by : {"team", "dag", "model"}
    costs : mapping of resource to float
        Per unit and hour.
    now : float
        Seconds since the epoch; live attempts count until then.
    """
    groups: dict[str, list[PastRun]] = {}
    for run in runs:
        groups.setdefault(KEYS[by](run), []).append(run)
    rows = (_sum(name, mine, costs, now) for name, mine in groups.items())
    return tuple(sorted(rows, key=lambda row: (-row.gpu_hours, -row.cpu_hours, row.name)))


def _sum(name: str, runs: list[PastRun], costs: Mapping[str, float], now: float) -> Usage:
    waits = [run.wait_s for run in runs if run.wait_s is not None]
    gpu, gpu_idle = _busy(runs, "gpu_s")
    cpu, cpu_idle = _busy(runs, "cpu_s")
    return Usage(
        name=name,
        jobs=len(runs),
        gpu_hours=sum(run.gpu_s for run in runs) / _HOUR_S,
        gpu_hours_used=gpu,
        gpu_hours_idle=gpu_idle,
        cpu_hours=sum(run.cpu_s for run in runs) / _HOUR_S,
        cpu_hours_used=cpu,
        cpu_hours_idle=cpu_idle,
        cost=sum(_cost(run, costs, now) for run in runs),
        wait_mean_s=fmean(waits) if waits else None,
        wait_p95_s=quantiles(waits, n=20, method="inclusive")[-1] if len(waits) > 1 else (waits[0] if waits else None),
    )


def _busy(runs: Iterable[PastRun], of: str) -> tuple[float | None, float | None]:
    """Return hours used and idle, of the runs whose programs were measured."""
    measured = [(run.exit.peaks[of], getattr(run, of)) for run in runs if run.exit is not None and of in run.exit.peaks]
    if not measured:
        return None, None
    used = sum(busy for busy, _ in measured)
    return used / _HOUR_S, sum(max(0.0, held - busy) for busy, held in measured) / _HOUR_S


def _cost(run: PastRun, costs: Mapping[str, float], now: float) -> float:
    """Return what an attempt's share cost: CPUs and GPUs as they were resized, the rest as it was held last."""
    if run.grant is None or run.granted_at is None:
        return 0.0
    hours = ((run.ended_at or now) - run.granted_at) / _HOUR_S
    integrated = {"gpu": run.gpu_s / _HOUR_S, "cpu": run.cpu_s / _HOUR_S}
    return sum(cost * integrated.get(resource, run.grant.amounts.get(resource, 0.0) * hours) for resource, cost in costs.items())
