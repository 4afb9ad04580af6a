"""Arrays in, arrays out: admission, placement and settling, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from airflow_dla.allocation import greedy, lp
from airflow_dla.allocation.devices import Devices
from airflow_dla.allocation.placement import place
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.settling import Settling
from airflow_dla.allocation.table import Asked, Floats, Ints, Offered

#: A strategy says in which order demands are admitted.
ADMISSIONS: Final[Mapping[str, Callable[[Asked, Offered], Ints]]] = {"lp": lp.admission, "greedy": greedy.admission}


@dataclass(frozen=True, slots=True)
class Solution:
    """The answer, as arrays.

    Parameters
    ----------
    order : int array, shape (n,)
        Demands in the order of admission.
    where : int array, shape (n,)
        Node of each demand, -1 for those that wait.
    amounts : float array, shape (n, R)
        What each got; 0 for those that wait.
    permitted : float array, shape (n, R)
        What each wants, or what the quota of its team leaves of it.
    free : float array, shape (G, R)
        What is left of each node.
    quota : float array, shape (T, R)
        What teams may still be granted.
    price : float array, shape (G, R)
        Shadow price of each resource of each node.
    devices : dict of int to `Devices`
        With everything placed on them.
    """

    order: Ints
    where: Ints
    amounts: Floats
    permitted: Floats
    free: Floats
    quota: Floats
    price: Floats
    devices: Mapping[int, Devices]


def solve(asked: Asked, offered: Offered, policy: Policy) -> Solution:
    """Decide who gets how much of which node.

    Raises
    ------
    SolverFailed
        If HiGHS is needed and does not end at an optimum.
    """
    order = ADMISSIONS[policy.strategy](asked, offered)
    turn = shedding_order(asked)
    packing = place(asked, offered, order, turn)
    settling = Settling(asked, offered, policy, packing, rows=turn[packing.where[turn] >= 0])
    settling.settle()
    permitted, amounts, quota = asked.wanted.copy(), np.zeros(asked.minimum.shape), offered.quota.copy()
    permitted[settling.rows], amounts[settling.rows] = settling.permitted, settling.low
    np.subtract.at(quota, asked.team, amounts)
    return Solution(
        order=order,
        where=packing.where,
        amounts=amounts,
        permitted=permitted,
        free=settling.room(),
        quota=quota,
        price=settling.price,
        devices=settling.devices,
    )


def shedding_order(asked: Asked) -> Ints:
    """Order demands for strict shedding: by priority, then weight, age and id."""
    return np.lexsort((asked.rank, asked.created, -asked.weight, -asked.priority))
