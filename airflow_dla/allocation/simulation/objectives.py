"""Schedulers that pursue an objective over GPU types."""

from __future__ import annotations

from typing import Final

import numpy as np

from airflow_dla.allocation.assignment import assign
from airflow_dla.allocation.heterogeneous import OBJECTIVES, Mix, fractions, proportional
from airflow_dla.allocation.simulation.view import TURN_S, Decision, Scheduler, View
from airflow_dla.allocation.table import Floats, Ints
from airflow_dla.errors import Infeasible, InvalidSpec

#: What finishing a job earlier is worth to those behind it, per GPU of the cluster.
_BEHIND: Final = 0.75
#: How much less a job at its start counts than the same job about to finish.
_FRESH: Final = 0.3
#: What a leftover GPU is worth beside a promised one.
_LEFTOVER: Final = 1e-3


def pursue(objective: str) -> Scheduler:
    """Return the scheduler of an objective.

    Raises
    ------
    InvalidSpec
        If it is unknown.
    """
    if objective not in OBJECTIVES:
        raise InvalidSpec(f"objective {objective!r} is not known; known are {', '.join(sorted(OBJECTIVES))}")
    if objective == "jct":
        return _soonest
    if objective == "makespan":
        return _all_done
    return _Turns(objective)


def _soonest(view: View) -> Decision:
    r"""Minimise the average completion time.

    Running job i on type j makes progress :math:`f_{ij} = T_{ij} / \max_j T_{ij}` towards its end. A unit of it
    is worth one to the job itself, which ends that much earlier, and :math:`s_i / C` to each
    job that needs more GPU time and so comes after it, since :math:`s_i` of all C GPUs become free earlier.
    Of jobs that are alike the one nearest to its end goes first, so that a fast GPU is released
    soon and the others follow, instead of all being late together.
    """
    speed = _speed(view)
    needed = view.left / view.throughput.max(axis=1) * view.gpus / view.weight
    after = len(needed) - np.searchsorted(np.sort(needed), needed, side="right")
    worth = view.weight * (1.0 + _BEHIND * view.gpus * after / view.capacity.sum())
    worth = worth * (1.0 - _FRESH * view.left / view.steps)
    return Decision(assign(_settled(view, speed * worth[:, None]), view.gpus, view.capacity))


def _all_done(view: View) -> Decision:
    """Minimise the makespan: the shares of the programme for what is left, those of whole time first."""
    x = fractions("makespan", _mix(view)).x
    return Decision(_realise(view, x))


class _Turns:
    """Realise shares of time by turns: who is owed most runs next.

    The programme is solved again only when jobs arrive or end; its answer to the same jobs is kept.
    """

    def __init__(self, objective: str) -> None:
        self._objective = objective
        self._asked: tuple[bytes, ...] = ()
        self._solved_s = 0.0
        self._share: Floats = np.zeros((0, 0))

    def __call__(self, view: View) -> Decision:
        asked = tuple(part.tobytes() for part in (view.capacity, view.arrival_s, view.steps, view.gpus, view.throughput))
        if asked != self._asked or view.now_s < self._solved_s:
            self._asked, self._solved_s, self._share = asked, view.now_s, _shares(self._objective, view)
        share = self._share
        kind = _realise(view, np.where(share > 0, np.maximum(share + view.owed_s / TURN_S, 1e-2 * share), 0.0))
        running = np.flatnonzero(kind >= 0)
        settled = np.zeros(share.shape)
        settled[running, kind[running]] = 1.0
        return Decision(kind, share, TURN_S if (share > settled + 1e-6).any() else np.inf)


def _shares(objective: str, view: View) -> Floats:
    """Solve the programme; deadlines that cannot all be kept give way, the tightest first.

    It is solved anew and not from the last basis: the same view must give the same decision.
    """
    deadline = view.deadline_s.copy()
    while True:
        try:
            return fractions(objective, _mix(view, deadline)).x
        except Infeasible:
            known = np.isfinite(deadline)
            if objective != "slo" or not known.any():
                raise
            need = view.left / (view.throughput.max(axis=1) * np.maximum(deadline - view.now_s, 1e-9))
            deadline[int(np.argmax(np.where(known, need, -np.inf)))] = np.inf


def _realise(view: View, wish: Floats) -> Ints:
    """Turn shares into whole gangs; what is left over goes to whoever it speeds up most."""
    value = (wish + _LEFTOVER * _speed(view)) * view.gpus[:, None]
    return assign(_settled(view, value), view.gpus, view.capacity)


def _settled(view: View, value: Floats) -> Floats:
    """Take from a move what its restart costs of the time until the next decision."""
    if view.restart_s <= 0:
        return value
    lost = min(1.0, view.restart_s / max(view.gap_s, 1e-9))
    moved = (view.kind[:, None] != np.arange(len(view.capacity))) & (view.run_s > 0)[:, None]
    return value * np.where(moved, 1.0 - 0.99 * lost, 1.0)


def _speed(view: View) -> Floats:
    able = np.where(view.gpus[:, None] <= view.capacity, view.throughput, 0.0)
    return np.asarray(able / np.maximum(able.max(axis=1, keepdims=True), 1e-300))


def _mix(view: View, deadline: Floats | None = None) -> Mix:
    alone = view.steps / proportional(view.throughput, view.gpus, view.capacity, 1.0 / len(view.gpus))
    return Mix(
        throughput=view.throughput,
        gpus=view.gpus,
        capacity=view.capacity,
        steps=view.left,
        weight=view.weight,
        elapsed_s=view.now_s - view.arrival_s,
        alone_s=alone,
        left_s=None if deadline is None else deadline - view.now_s,
    )
