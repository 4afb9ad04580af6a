r"""How much of a node's free GPUs is of use, and which node a demand should rather go to.

*Fragments* are free GPU shares that a typical demand cannot use, because the devices, the
CPUs or the memory beside them are too few; their expectation over the typical demands is
what a placement should add least to (FGD). Two things are added to it. A node with fewer
CPUs or less memory to a free GPU than demands bring along will strand GPUs long before
anything fails to fit; that risk, :math:`2 g e^{-4 h/g}` for free GPUs :math:`g` of which the
rest of the node can feed :math:`h`, counts as well: it is convex, so that every node keeps
some of both, whether CPUs are plenty or scarce. And a share of a GPU is seated first of all
where it takes away the least worth of a GPU, see `residuals`.

References
----------
Weng et al.: Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
Gradient Descent, USENIX ATC 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from airflow_dla.allocation.residuals import WHOLE, residual_prices
from airflow_dla.allocation.table import Bools, Floats, Ints

#: Names of the policies that `policy_of` knows; the first is the default.
PLACEMENTS: Final = ("priced", "fgd", "best-fit", "random")

_POPULAR: Final = 0.95
_RISK: Final = 2.0
_CAUTION: Final = 4.0
_TINY: Final = 1e-300
_STEPS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Kinds:
    """K kinds of demands on R resources beside GPUs, and how often each is met.

    Parameters
    ----------
    need : float array, shape (K, R)
        In any unit, the same as the nodes'.
    gpus : int array, shape (K,)
        How many devices; 0 for none.
    share : int array, shape (K,)
        Of each device, thousandths, 1 … 1000; 0 without devices.
    allowed : bool array, shape (K, Y)
        On which of Y types of nodes.
    weight : float array, shape (K,)
        How often, >= 0; any scale.
    """

    need: Floats
    gpus: Ints
    share: Ints
    allowed: Bools
    weight: Floats

    def __len__(self) -> int:
        return len(self.weight)

    def typical(self) -> Kinds:
        """Return the kinds without the rare ones that make up the last twentieth; weights sum to 1."""
        order = np.argsort(-self.weight, kind="stable")
        order = order[self.weight[order] > 0]
        seen = np.cumsum(self.weight[order])
        popular = order[: int(np.searchsorted(seen, _POPULAR * seen[-1])) + 1] if len(order) else order
        return self._some(popular, self.weight[popular] / max(float(self.weight[popular].sum()), _TINY))

    def with_gpus(self) -> Kinds:
        """Return the kinds that use GPUs, with their weights as they are."""
        rows = np.flatnonzero(self.gpus > 0)
        return self._some(rows, self.weight[rows])

    def _some(self, rows: Ints, weight: Floats) -> Kinds:
        return Kinds(self.need[rows], self.gpus[rows], self.share[rows], self.allowed[rows], weight)


class Fragments:
    """Expected fragments over typical demands.

    Parameters
    ----------
    typical : `Kinds`
        Weights sum to 1. To a demand without GPUs every free GPU is a fragment, as published.

    Examples
    --------
    Half of a GPU is free, and demands want all of one or a quarter, as often:

    >>> kinds = Kinds(np.zeros((2, 0)), np.array([1, 1]), np.array([1000, 250]), np.ones((2, 1), bool), np.array([0.5, 0.5]))
    >>> Fragments(kinds).expected(np.zeros((1, 0)), np.array([[500]]), np.array([0])).tolist()
    [250.0]
    """

    def __init__(self, typical: Kinds) -> None:
        self._total = float(typical.weight.sum())
        self.typical = typical = typical.with_gpus()
        levels, self._level = np.unique(typical.share, return_inverse=True)
        self._levels = levels.astype(np.float32)
        self._several = bool((typical.gpus > 1).any())
        self._allowed = np.ascontiguousarray(typical.allowed.T)
        self._columns = [np.ascontiguousarray(column) for column in typical.need.T]

    def expected(self, room: Floats, devices: Ints, types: Ints) -> Floats:
        """Return the expected fragments of n states of nodes.

        Parameters
        ----------
        room : float array, shape (n, R)
            Free of each resource.
        devices : int array, shape (n, D)
            Free of each device, thousandths; 0 where a node has fewer than D.
        types : int array, shape (n,)

        Returns
        -------
        float array, shape (n,)
            Thousandths of a GPU.
        """
        small = devices.astype(np.float32)[:, :, None]
        reached = small >= self._levels
        usable = np.add.reduce(reached * small, axis=1, dtype=np.float32)
        fits = self._allowed[types]
        for column, need in enumerate(self._columns):
            fits &= room[:, column, None] >= need
        useful = usable[:, self._level]
        if self._several:
            fits &= np.add.reduce(reached, axis=1, dtype=np.intp)[:, self._level] >= self.typical.gpus
        return np.asarray(self._total * devices.sum(axis=1) - (fits * useful) @ self.typical.weight)


class Stranding:
    """Free GPUs that the CPUs and the memory beside them may not feed.

    Parameters
    ----------
    typical : `Kinds`
        What they bring along to a GPU, on average, is what a GPU needs.
    """

    def __init__(self, typical: Kinds) -> None:
        typical = typical.with_gpus()
        devices = float((typical.weight * typical.gpus * typical.share).sum())
        self._rate = typical.weight @ typical.need / max(devices, _TINY)
        self._named = np.flatnonzero(self._rate > 0)

    def expected(self, room: Floats, devices: Ints) -> Floats:
        """Return what n states of nodes are expected to strand, thousandths of a GPU, shape (n,)."""
        free = devices.sum(axis=1).astype(float)
        if not len(self._named):
            return np.zeros(len(room))
        fed = (room[:, self._named] / self._rate[self._named]).min(axis=1)
        return np.asarray(_RISK * free * np.exp(-_CAUTION * np.maximum(fed, 0.0) / np.maximum(free, 1.0)))


class PlacementPolicy(Protocol):
    """Which node, and which device of it, a demand goes to."""

    def seat_costs(self, share: int) -> Floats:
        """Return what a share costs on a device with 0 … 1000 free, shape (1001,); this decides first."""

    def worth(self, room: Floats, devices: Ints, types: Ints) -> Floats:
        """Return how bad n states of nodes are, shape (n,)."""

    def rate(self, after: Floats, before: Floats) -> Floats:
        """Return the score of a step between states, shape (n,); the least wins, then the fullest node, then the first."""

    def pick(self, candidates: Ints, score: Floats, free: Ints) -> int:
        """Choose among nodes that cost the same; `free` are their free thousandths."""


class _Scored:
    """The tie rule: equal scores go to the fullest node, then to the first."""

    def seat_costs(self, share: int) -> Floats:
        costs = np.full(WHOLE + 1, np.inf)
        costs[share:] = 0.0
        return costs

    def rate(self, after: Floats, before: Floats) -> Floats:
        return np.round(after - before, 6)

    def pick(self, candidates: Ints, score: Floats, free: Ints) -> int:
        ties = np.flatnonzero(score == score.min())
        return int(candidates[ties[np.argmin(free[ties])]])


class Priced(_Scored):
    """Rests of GPUs at their price; then expected fragments and what will be stranded.

    Parameters
    ----------
    kinds : `Kinds`
        What is typical.
    """

    def __init__(self, kinds: Kinds) -> None:
        typical = kinds.typical()
        self._fragments, self._stranding = Fragments(typical), Stranding(typical)
        shared = (kinds.gpus == 1) & (kinds.share < WHOLE) & (kinds.weight > 0)
        shares, place = np.unique(kinds.share[shared], return_inverse=True)
        demand = np.zeros(len(shares))
        np.add.at(demand, place, kinds.weight[shared])
        self._worth = residual_prices(shares, demand)

    def seat_costs(self, share: int) -> Floats:
        """See `PlacementPolicy`."""
        costs = super().seat_costs(share)
        costs[share:] = np.round(_STEPS * (self._worth[share:] - self._worth[: WHOLE + 1 - share]))
        return costs

    def worth(self, room: Floats, devices: Ints, types: Ints) -> Floats:
        """See `PlacementPolicy`."""
        return self._fragments.expected(room, devices, types) + self._stranding.expected(room, devices)


class Fgd(_Scored):
    """Fragmentation gradient descent as published: scores in whole hundredths, so that many tie and nodes are packed.

    Parameters
    ----------
    kinds : `Kinds`
    """

    def __init__(self, kinds: Kinds) -> None:
        self._fragments = Fragments(kinds.typical())

    def worth(self, room: Floats, devices: Ints, types: Ints) -> Floats:
        """See `PlacementPolicy`."""
        return self._fragments.expected(room, devices, types)

    def rate(self, after: Floats, before: Floats) -> Floats:
        """Round the published score, the logistic function of what is gained."""
        return -np.floor(100.0 / (1.0 + np.exp((after - before) / _STEPS)))


class BestFit(_Scored):
    """The node that has least left, all resources weighted alike.

    Parameters
    ----------
    capacity : float array, shape (R,)
        Largest of each resource on any node.
    devices : int
        Largest number of devices on any node.
    """

    def __init__(self, capacity: Floats, devices: int) -> None:
        self._capacity, self._devices = np.where(capacity > 0, capacity, 1.0), max(devices, 1) * WHOLE

    def seat_costs(self, share: int) -> Floats:
        """Take the fullest device."""
        costs = super().seat_costs(share)
        costs[share:] = np.arange(len(costs) - share)
        return costs

    def worth(self, room: Floats, devices: Ints, types: Ints) -> Floats:  # noqa: ARG002 as the protocol has it
        """See `PlacementPolicy`."""
        return np.asarray((room / self._capacity).sum(axis=1) + devices.sum(axis=1) / self._devices)

    def rate(self, after: Floats, before: Floats) -> Floats:  # noqa: ARG002 as the protocol has it
        """See `PlacementPolicy`."""
        return np.round(after, 9)


class Random(_Scored):
    """Any node that fits, for comparison.

    Parameters
    ----------
    draws : numpy Generator
    """

    def __init__(self, draws: np.random.Generator) -> None:
        self._draws = draws

    def worth(self, room: Floats, devices: Ints, types: Ints) -> Floats:  # noqa: ARG002 as the protocol has it
        """See `PlacementPolicy`."""
        return np.zeros(len(room))

    def pick(self, candidates: Ints, score: Floats, free: Ints) -> int:  # noqa: ARG002 as the protocol has it
        """Draw one."""
        return int(candidates[self._draws.integers(len(candidates))])
