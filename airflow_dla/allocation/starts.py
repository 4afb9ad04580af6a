r"""When those who wait will start: the queue let run forward, many times with other run times.

Run times are drawn as `lifetimes` says. The draws are fixed points, not chance: each job has every quantile once (Latin hypercube). All
scenarios are let run side by side, event by event: what ends gives its amounts back to its
node, and whoever is first in the queue and fits there starts, unless that takes what the head of the
queue lacks. The median start and the middle 80 % of all scenarios are told.

References
----------
McKay, Beckman, Conover: A Comparison of Three Methods for Selecting Values of Input Variables, Technometrics 21, 1979.
Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014 (the mixing of bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from airflow_dla.allocation.lifetimes import left_s
from airflow_dla.allocation.normal import ndtri
from airflow_dla.allocation.problem import Policy
from airflow_dla.allocation.table import Asked, Bools, Floats, Ints, Offered

#: Their 10 %, 50 % and 90 % quantiles are points of the distribution, not between two.
_SCENARIOS: Final = 25
_LEVELS: Final = (0.1, 0.5, 0.9)
_STEPS: Final = 400
_LEAST: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Starts:
    """When some demands will start, seconds since the epoch; infinite where nobody knows.

    Parameters
    ----------
    low, middle, high : float array, shape (k,)
        The 10 %, 50 % and 90 % quantiles.
    """

    low: Floats
    middle: Floats
    high: Floats


def stretch(forecast_s: Floats, waited_s: Floats) -> tuple[float, float, float]:
    """Learn from waits that are over by how much forecasts must be stretched to be right as often as they say.

    Parameters
    ----------
    forecast_s : float array, shape (k, 3)
        The 10 %, 50 % and 90 % quantiles that were forecast with a stretch of 1, as waits from then on.
    waited_s : float array, shape (k,)
        What they came to.

    Returns
    -------
    low, middle, high : float
        For `Policy.stretch`; 1 each when there is nothing to learn from.

    Examples
    --------
    >>> stretch(np.array([[50.0, 100.0, 200.0]] * 3), np.array([100.0, 200.0, 300.0]))
    (2.0, 2.0, 1.5)

    References
    ----------
    Romano, Patterson, Candes: Conformalized Quantile Regression, NeurIPS 2019 (here by factors, each end apart).
    """
    known = np.isfinite(forecast_s).all(axis=1) & (forecast_s > 0).all(axis=1)
    if not known.any():
        return (1.0, 1.0, 1.0)
    ratio = waited_s[known, None] / forecast_s[known]
    found = [np.quantile(ratio[:, column], level, method="inverted_cdf") for column, level in enumerate(_LEVELS)]
    low, middle, high = (max(float(factor), _LEAST) for factor in found)
    return low, middle, high


def starts(asked: Asked, offered: Offered, policy: Policy, *, queue: Ints, where: Ints, amounts: Floats) -> Starts:
    """Say when the first of the queue will start.

    Parameters
    ----------
    policy : `Policy`
        Its `spread` and `stretch`.
    queue : int array, shape (k,)
        Demands that wait for room, in the order of admission.
    where : int array, shape (n,)
        Node of each demand that was granted something, else -1.
    amounts : float array, shape (n, R)
        What they got.
    """
    now, spread = asked.now, policy.spread
    live = offered.leaving
    assert live is not None, "starts are told only where the policy gives ends"
    fresh = np.flatnonzero(where >= 0)
    node = np.concatenate([live.node, where[fresh]])
    held = np.vstack([live.amounts, amounts[fresh]])
    point = _points(_SCENARIOS, len(node) + len(queue))
    old, new, later = np.split(point, [len(live.node), len(node)], axis=1)
    expected = asked.ends - now
    known = np.isfinite(live.expected_s)
    live_end = np.full(old.shape, np.inf)
    live_end[:, known] = now + left_s(live.expected_s[known], live.elapsed_s[known], old[:, known], spread)
    ends = np.hstack([live_end, now + _drawn(expected[fresh], new, spread)])
    free = offered.free.copy()
    np.subtract.at(free, where[fresh], amounts[fresh])
    world = _Forward(asked, offered, queue, free=free, node=node, held=held, ends=ends, runs=_drawn(expected[queue], later, spread))
    told = np.quantile(world.run(), _LEVELS, axis=0, method="inverted_cdf")
    low, middle, high = now + (told - now) * np.array(policy.stretch)[:, None]
    return Starts(np.minimum(low, middle), middle, np.maximum(middle, high))


def _drawn(expected_s: Floats, level: Floats, spread: float) -> Floats:
    return np.asarray(expected_s * np.exp(spread * ndtri(level)))


def _points(scenarios: int, jobs: int) -> Floats:
    """Return for each job every quantile once, in an order of its own, shape (scenarios, jobs)."""
    bits = np.arange(scenarios * jobs, dtype=np.uint64).reshape(jobs, scenarios).T * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    return (np.argsort(bits ^ (bits >> np.uint64(31)), axis=0) + 0.5) / scenarios


class _Forward:
    """S scenarios of K waiting demands on G nodes, side by side."""

    def __init__(
        self, asked: Asked, offered: Offered, queue: Ints, *, free: Floats, node: Ints, held: Floats, ends: Floats, runs: Floats
    ) -> None:
        count, jobs = ends.shape
        self.every = np.arange(count)
        self.need, self.allowed = asked.minimum[queue], offered.allowed[asked.kind[queue]]
        self.able: Bools = self.allowed & (self.need[:, None, :] <= (offered.capacity + offered.slack)[None]).all(axis=2)
        largest = offered.capacity.max(axis=0, initial=0.0)
        self.scale = 1.0 / np.where(largest > 0, largest, 1.0)
        self.slack, self.runs, self.jobs = offered.slack, runs, jobs
        self.expected = asked.ends[queue] - asked.now
        self.free = np.repeat(free[None], count, axis=0)
        self.held = np.vstack([held, self.need])
        self.node = np.hstack([np.repeat(node[None], count, axis=0), np.zeros((count, len(queue)), dtype=np.intp)])
        self.ends = np.hstack([ends, np.full((count, len(queue)), np.inf)])
        self.waiting = np.ones((count, len(queue)), dtype=bool)
        self.start = np.full((count, len(queue)), np.inf)
        self.head, self.place = np.full(count, -1), np.zeros(count, dtype=np.intp)
        self.promised, self.spare = np.full(count, np.inf), np.zeros((count, free.shape[1]))

    def run(self) -> Floats:
        """Return when each demand starts in each scenario, shape (S, K); infinite where it does not."""
        for _ in range(_STEPS):
            first = self.ends.argmin(axis=1)
            at = self.ends[self.every, first]
            active = np.isfinite(at) & self.waiting.any(axis=1)
            if not active.any():
                break
            node = self.node[self.every, first]
            self.free[self.every, node] += self.held[first] * active[:, None]
            self.ends[self.every, first] = np.inf
            while active.any():
                active = self._start(node, at, active)
        return self.start

    def _start(self, node: Ints, at: Floats, active: Bools) -> Bools:
        """Start on a node of each scenario whoever is first and fits; return where somebody was."""
        fits = self._fitting(node, active)
        if not fits.any():
            return np.zeros_like(active)
        self._promise(at, fits)
        fits &= ~self._delaying(node, at)
        chosen = fits.argmax(axis=1)
        active = active & fits[self.every, chosen]
        rows, jobs = self.every[active], chosen[active]
        self.start[rows, jobs] = at[active]
        self.waiting[rows, jobs] = False
        self.free[rows, node[active]] -= self.need[jobs]
        self.node[rows, self.jobs + jobs] = node[active]
        self.ends[rows, self.jobs + jobs] = at[active] + self.runs[rows, jobs]
        beside = (node[active] == self.place[rows]) & (at[active] + self.expected[jobs] > self.promised[rows])
        self.spare[rows[beside]] -= self.need[jobs[beside]]
        return active

    def _promise(self, at: Floats, fits: Bools) -> None:
        """Promise a new head of the queue that others may overtake the node where it lacks least, and the time when it fits there."""
        head = self.waiting.argmax(axis=1)
        rows = np.flatnonzero((head != self.head) & fits.any(axis=1) & ~fits[self.every, head])
        if not len(rows):
            return
        self.head[rows] = head[rows]
        need = self.need[head[rows]]
        missing = ((need[:, None, :] - self.free[rows] - self.slack) * self.scale).max(axis=2)
        place = np.where(self.able[head[rows]], missing, np.inf).argmin(axis=1)
        ends = np.where(self.node[rows] == place[:, None], self.ends[rows], np.inf)
        order = np.argsort(ends, axis=1, kind="stable")
        ends = np.take_along_axis(ends, order, axis=1)
        back = np.where(np.isfinite(ends)[:, :, None], self.held[order], 0.0)
        room = self.free[rows, place][:, None, :] + np.cumsum(back, axis=1)
        fits = (need[:, None, :] <= room + self.slack[place][:, None, :]).all(axis=2)
        first = np.where(fits.any(axis=1), fits.argmax(axis=1), ends.shape[1] - 1)
        at_least = np.arange(len(rows))
        self.place[rows] = place
        self.promised[rows] = np.maximum(at[rows], ends[at_least, first])
        self.spare[rows] = np.maximum(0.0, room[at_least, first] - need)

    def _fitting(self, node: Ints, active: Bools) -> Bools:
        """Return who fits on a node of each scenario, shape (S, K)."""
        room = self.free[self.every, node] + self.slack[node]
        fits = self.waiting & self.allowed[:, node].T & active[:, None]
        for column, need in enumerate(self.need.T):
            fits &= need <= room[:, column, None]
        return np.asarray(fits)

    def _delaying(self, node: Ints, at: Floats) -> Bools:
        """Return who would keep the head of the queue from starting on a node when it was promised, shape (S, K)."""
        late = (self.place == node)[:, None] & (at[:, None] + self.expected > self.promised[:, None])
        spare, more = self.spare + self.slack[node], np.zeros(late.shape, dtype=bool)
        for column, need in enumerate(self.need.T):
            more |= need > spare[:, column, None]
        late &= more
        # Whom nothing was promised yet was not overtaken: it starts itself.
        late &= (self.head == self.waiting.argmax(axis=1))[:, None]
        late[self.every, self.head] = False
        return np.asarray(late)
