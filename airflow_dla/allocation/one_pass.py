"""A list of demands placed in one pass: no departures, no migration, what fits is placed, what does not is dropped.

How much of the GPUs is allocated in the end, when more is asked for than there is, tells
placement policies apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.fleet import Fleet
from airflow_dla.allocation.fragmentation import PLACEMENTS, BestFit, Fgd, Fragments, Kinds, PlacementPolicy, Priced, Random
from airflow_dla.allocation.residuals import WHOLE
from airflow_dla.allocation.table import Floats, Ints
from airflow_dla.errors import InvalidSpec


@dataclass(frozen=True, slots=True)
class Nodes:
    """G empty nodes.

    Parameters
    ----------
    room : float array, shape (G, R)
        Of each resource beside GPUs.
    gpus : int array, shape (G,)
        How many.
    types : int array, shape (G,)
        Column of `Kinds.allowed`.
    """

    room: Floats
    gpus: Ints
    types: Ints

    def devices(self) -> Ints:
        """Return what is free of each device, thousandths, shape (G, D); 0 where a node has fewer than D."""
        most = int(self.gpus.max(initial=0))
        return np.where(np.arange(most) < self.gpus[:, None], WHOLE, 0).astype(np.intp)


@dataclass(frozen=True, slots=True)
class OnePass:
    """What one pass came to.

    Parameters
    ----------
    node : int array, shape (n,)
        Where each demand of the pass went; -1 for dropped.
    devices : tuple of tuple of int
        Which devices of its node each got.
    gpu_allocation_pct : float
        GPUs allocated in the end, of all there are.
    fragmentation_pct : float
        GPUs left that a typical demand with GPUs is expected not to be able to use, of all there are.
    """

    node: Ints
    devices: tuple[tuple[int, ...], ...]
    gpu_allocation_pct: float
    fragmentation_pct: float

    @property
    def dropped(self) -> int:
        """How many found no node."""
        return int((self.node < 0).sum())


def inflated(kind: Ints, kinds: Kinds, *, capacity: int, inflate: float, draws: np.random.Generator) -> Ints:
    """Shuffle a list, then draw from it with replacement until enough GPUs are requested.

    Parameters
    ----------
    kind : int array, shape (n,)
        Kind of each demand of the list.
    kinds : `Kinds`
    capacity : int
        Thousandths of a GPU that there are.
    inflate : float
        How much of the capacity is requested in all, > 0; a list that requests more is cut off there.
    draws : numpy Generator

    Returns
    -------
    int array
        Places in the list, in the order of arrival.

    Raises
    ------
    InvalidSpec
        If no demand of the list requests a GPU, or `inflate` is not above 0.
    """
    if not 0 < inflate < np.inf:
        raise InvalidSpec(f"inflate must be a number > 0, got {inflate:g}")
    request = (kinds.gpus * kinds.share)[kind]
    if not request.any():
        raise InvalidSpec(f"none of the {len(kind)} demands of the list requests a GPU, so that they never reach {inflate:g} of the GPUs")
    order = list(range(len(kind)))
    draws.shuffle(order)
    requested = np.cumsum(request[order])
    target = inflate * capacity
    if requested[-1] >= target:
        return np.array(order[: int(np.searchsorted(requested, target)) + 1], dtype=np.intp)
    total = int(requested[-1])
    while total < target:
        order.append(int(draws.integers(len(kind))))
        total += int(request[order[-1]])
    return np.array(order, dtype=np.intp)


def placement_policy(name: str, nodes: Nodes, kinds: Kinds, draws: np.random.Generator) -> PlacementPolicy:
    """Make a policy by its name.

    Raises
    ------
    InvalidSpec
        If there is none of this name.
    SolverFailed
        If the prices cannot be computed.
    """
    if name == "priced":
        return Priced(kinds)
    if name == "fgd":
        return Fgd(kinds)
    if name == "best-fit":
        return BestFit(nodes.room.max(axis=0, initial=0.0), int(nodes.gpus.max(initial=0)))
    if name == "random":
        return Random(draws)
    raise InvalidSpec(f"placement must be one of {', '.join(PLACEMENTS)}, got {name!r}")


def one_pass(nodes: Nodes, kinds: Kinds, arrivals: Ints, policy: PlacementPolicy) -> OnePass:
    """Place demands one after the other.

    Parameters
    ----------
    nodes : `Nodes`
    kinds : `Kinds`
    arrivals : int array, shape (n,)
        Kind of each demand, in the order of arrival.
    policy : `PlacementPolicy`
        Sees one demand at a time, and what it was made with: not what comes after.

    Examples
    --------
    Two halves share a GPU, so that the one that needs all of the other fits:

    >>> kinds = Kinds(np.zeros((2, 0)), np.array([1, 1]), np.array([500, 1000]), np.ones((2, 1), bool), np.array([2.0, 1.0]))
    >>> nodes = Nodes(np.zeros((2, 0)), np.array([1, 1]), np.array([0, 0]))
    >>> found = one_pass(nodes, kinds, np.array([0, 0, 1]), Priced(kinds))
    >>> found.node.tolist(), found.gpu_allocation_pct
    ([0, 0, 1], 100.0)
    """
    fleet = Fleet(nodes.room, nodes.devices(), nodes.types, kinds, policy)
    choices = [fleet.place(kind) for kind in arrivals.tolist()]
    capacity = WHOLE * max(1, int(nodes.gpus.sum()))
    typical = kinds.with_gpus().typical()
    left = Fragments(typical).expected(fleet.room, fleet.devices, fleet.types).sum()
    return OnePass(
        node=np.array([-1 if choice is None else choice.node for choice in choices], dtype=np.intp),
        devices=tuple(() if choice is None else choice.devices for choice in choices),
        gpu_allocation_pct=100.0 * (int(nodes.gpus.sum()) * WHOLE - int(fleet.free.sum())) / capacity,
        fragmentation_pct=100.0 * float(left) / capacity,
    )
