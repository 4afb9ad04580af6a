"""Schedulers that serve jobs in an order: what others are compared with."""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.simulation.view import TURN_S, Decision, View
from airflow_dla.allocation.table import Ints


def fifo(view: View) -> Decision:
    """Serve the oldest first on the type with most free GPUs, stop nobody, and let nobody overtake."""
    kind, free = view.kind.copy(), _free(view)
    for job in np.flatnonzero(kind < 0).tolist():
        fitting = (free >= view.gpus[job]) & (view.throughput[job] > 0)
        if not fitting.any():
            break
        kind[job] = int(np.argmax(np.where(fitting, free, -1)))
        free[kind[job]] -= view.gpus[job]
    return Decision(kind)


def typed_fifo(view: View) -> Decision:
    """Serve the oldest first, each on its fastest free type; younger jobs make room."""
    return Decision(_fastest_first(view, np.arange(len(view.gpus))))


def least_attained(view: View) -> Decision:
    """Serve first who has had least GPU time (Tiresias), each on its fastest free type."""
    kind = _fastest_first(view, np.argsort(view.run_s * view.gpus, kind="stable"))
    return Decision(kind, review_s=TURN_S)


def _fastest_first(view: View, order: Ints) -> Ints:
    kind, free = np.full(len(view.gpus), -1), view.capacity.copy()
    for job in order.tolist():
        rate = np.where(free >= view.gpus[job], view.throughput[job], 0.0)
        best = int(np.argmax(rate))
        if rate[best] > 0:
            kind[job] = best
            free[best] -= view.gpus[job]
    return kind


def _free(view: View) -> Ints:
    running = view.kind >= 0
    used = np.bincount(view.kind[running], weights=view.gpus[running], minlength=len(view.capacity))
    return np.asarray(view.capacity - used.astype(np.intp))
