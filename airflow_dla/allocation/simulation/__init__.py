"""What would have happened: jobs on GPUs of several types, simulated.

`simulate` lets the jobs of a `Workload` arrive one after the other, asks a `Scheduler` who runs
where, and lets time pass until something happens; `report` measures the outcome. There is no
clock, no file and no chance in it: the same workload gives the same outcome, in
whatever order its jobs are listed.

Schedulers are made by name: `heterogeneous` pursues an objective over GPU types
(`objectives`), the others serve jobs in an order and are there to compare with (`orders`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from airflow_dla.allocation.simulation.objectives import pursue
from airflow_dla.allocation.simulation.orders import fifo, least_attained, typed_fifo
from airflow_dla.allocation.simulation.report import Report, report
from airflow_dla.allocation.simulation.run import Outcome, simulate
from airflow_dla.allocation.simulation.view import Decision, Scheduler, View
from airflow_dla.allocation.simulation.workload import Workload
from airflow_dla.errors import InvalidSpec

__all__ = ["SCHEDULERS", "Decision", "Outcome", "Report", "Scheduler", "View", "Workload", "report", "scheduler", "simulate"]

#: How a scheduler is made from the name of an objective, by name of strategy.
SCHEDULERS: Final[Mapping[str, Callable[[str], Scheduler]]] = MappingProxyType(
    {
        "heterogeneous": pursue,
        "fifo": lambda _objective: fifo,
        "typed-fifo": lambda _objective: typed_fifo,
        "las": lambda _objective: least_attained,
    }
)


def scheduler(strategy: str, objective: str = "jct") -> Scheduler:
    """Return a scheduler by name.

    Parameters
    ----------
    strategy : str
        One of `SCHEDULERS`.
    objective : str
        For `heterogeneous`: one of `airflow_dla.allocation.heterogeneous.OBJECTIVES`.

    Raises
    ------
    InvalidSpec
        If either is unknown.
    """
    if strategy not in SCHEDULERS:
        raise InvalidSpec(f"strategy {strategy!r} is not known to the simulation of job traces; known are {', '.join(sorted(SCHEDULERS))}")
    return SCHEDULERS[strategy](objective)
