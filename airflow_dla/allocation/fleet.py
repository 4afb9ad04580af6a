"""Nodes while demands are placed on them one after the other, each by a placement policy.

What a policy thinks of a node is remembered for every kind of demand until the node
changes, and nodes in the same state are thought about once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.fragmentation import Kinds, PlacementPolicy
from airflow_dla.allocation.residuals import WHOLE
from airflow_dla.allocation.table import Bools, Floats, Ints

_MANY = 24


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a demand goes.

    Parameters
    ----------
    node : int
    devices : tuple of int
        Seats on the node; empty for a demand without GPUs.
    """

    node: int
    devices: tuple[int, ...]


@dataclass(slots=True)
class _Opinion:
    """What a policy thinks of every node for one kind of demand.

    Parameters
    ----------
    cost : float array, shape (G,)
        Of the best seats; infinite where the demand does not fit.
    score : float array, shape (G,)
        NaN where nobody has asked yet.
    seen : int
        How many changes of the fleet it knows.
    """

    cost: Floats
    score: Floats
    seen: int


class Fleet:
    """G nodes and what is free on them.

    Parameters
    ----------
    room : float array, shape (G, R)
        Free of each resource beside GPUs.
    devices : int array, shape (G, D)
        Free of each device, thousandths; 0 where a node has fewer than D.
    types : int array, shape (G,)
        Which column of `Kinds.allowed` a node belongs to.
    kinds : `Kinds`
        Every kind of demand that will come.
    policy : `PlacementPolicy`

    Examples
    --------
    A quarter joins the half that is taken, and leaves the other device whole:

    >>> from airflow_dla.allocation.fragmentation import Kinds, Priced
    >>> kinds = Kinds(np.zeros((2, 0)), np.array([1, 1]), np.array([250, 1000]), np.ones((2, 1), bool), np.array([1.0, 1.0]))
    >>> fleet = Fleet(np.zeros((1, 0)), np.array([[1000, 500]]), np.array([0]), kinds, Priced(kinds))
    >>> fleet.place(0)
    Choice(node=0, devices=(1,))
    """

    def __init__(self, room: Floats, devices: Ints, types: Ints, kinds: Kinds, policy: PlacementPolicy) -> None:
        self.room, self.devices, self.types = room.copy(), devices.copy(), types
        self.kinds, self.policy = kinds, policy
        self.free = self.devices.sum(axis=1)
        self._numbers: dict[tuple[bytes, bytes, int], int] = {}
        self._state = np.array([self._number(node) for node in range(len(types))], dtype=np.intp)
        self._worth = self._valued()
        self._changes: list[int] = []
        self._opinions: dict[int, _Opinion] = {}
        self._costs: dict[int, Floats] = {}

    def place(self, kind: int) -> Choice | None:
        """Place a demand where the policy wants it; None when it fits nowhere, and only then."""
        opinion = self._opinion(kind)
        least = opinion.cost.min(initial=np.inf)
        if least == np.inf:
            return None
        candidates = np.flatnonzero(opinion.cost == least)
        unknown = candidates[np.isnan(opinion.score[candidates])]
        if len(unknown):
            opinion.score[unknown] = self._each_state_once(kind, unknown)
        node = self.policy.pick(candidates, opinion.score[candidates], self.free[candidates])
        return self._take(kind, node)

    def _number(self, node: int) -> int:
        key = (self.room[node].tobytes(), self.devices[node].tobytes(), int(self.types[node]))
        return self._numbers.setdefault(key, len(self._numbers))

    def _valued(self) -> Floats:
        _, first, inverse = np.unique(self._state, return_index=True, return_inverse=True)
        return self.policy.worth(self.room[first], self.devices[first], self.types[first])[inverse]

    def _opinion(self, kind: int) -> _Opinion:
        opinion = self._opinions.get(kind)
        if opinion is None:
            count = len(self.types)
            opinion = _Opinion(np.full(count, np.inf), np.full(count, np.nan), len(self._changes))
            self._opinions[kind] = opinion
            changed = np.arange(count)
        elif opinion.seen < len(self._changes):
            changed = np.array(list(set(self._changes[opinion.seen :])), dtype=np.intp)
            # Nothing is ever given back, so what did not fit will not fit.
            changed = changed[opinion.cost[changed] < np.inf]
            opinion.seen = len(self._changes)
        else:
            return opinion
        opinion.cost[changed] = self._cheapest(kind, changed)
        opinion.score[changed] = np.nan
        return opinion

    def _cheapest(self, kind: int, nodes: Ints) -> Floats:
        """Return what the best seats on each node cost, shape (n,), infinite where the demand does not fit."""
        kinds = self.kinds
        fits: Bools = kinds.allowed[kind, self.types[nodes]] & (self.room[nodes] >= kinds.need[kind]).all(axis=1)
        gpus, share = int(kinds.gpus[kind]), int(kinds.share[kind])
        if gpus == 1 and share < WHOLE:
            return np.where(fits, self._seat_costs(share)[self.devices[nodes]].min(axis=1, initial=np.inf), np.inf)
        if gpus:
            fits &= (self.devices[nodes] >= share).sum(axis=1) >= gpus
        return np.where(fits, 0.0, np.inf)

    def _seat_costs(self, share: int) -> Floats:
        if share not in self._costs:
            self._costs[share] = self.policy.seat_costs(share)
        return self._costs[share]

    def _each_state_once(self, kind: int, nodes: Ints) -> Floats:
        if len(nodes) < _MANY:
            return self._scores(kind, nodes)
        _, first, inverse = np.unique(self._state[nodes], return_index=True, return_inverse=True)
        return self._scores(kind, nodes[first])[inverse]

    def _scores(self, kind: int, nodes: Ints) -> Floats:
        """Return the score of the best seats on each node, shape (n,)."""
        row, seated = self._options(kind, nodes)
        score = self._rated(kind, nodes[row], seated)
        if len(row) == len(nodes):
            return score
        best = np.full(len(nodes), np.inf)
        np.minimum.at(best, row, score)
        return best

    def _rated(self, kind: int, nodes: Ints, seated: Bools) -> Floats:
        """Rate options; nodes that changed since they were last looked at are valued along with them."""
        stale = np.unique(nodes[np.isnan(self._worth[nodes])])
        both = np.concatenate([nodes, stale])
        room, devices = self.room[both], self.devices[both]
        room[: len(nodes)] -= self.kinds.need[kind]
        devices[: len(nodes)] -= seated * self.kinds.share[kind]
        worth = self.policy.worth(room, devices, self.types[both])
        self._worth[stale] = worth[len(nodes) :]
        return self.policy.rate(worth[: len(nodes)], self._worth[nodes])

    def _options(self, kind: int, nodes: Ints) -> tuple[Ints, Bools]:
        """Return which seats a demand may take: the row of `nodes`, shape (o,), and the devices, shape (o, D)."""
        devices, gpus, share = self.devices[nodes], int(self.kinds.gpus[kind]), int(self.kinds.share[kind])
        if gpus == 1 and share < WHOLE:
            return self._shared_seats(devices, share)
        everybody, seated = np.arange(len(nodes)), np.zeros(devices.shape, dtype=bool)
        if gpus:
            tightest = np.argsort(np.where(devices >= share, devices, 2 * WHOLE), axis=1, kind="stable")[:, :gpus]
            seated[everybody[:, None], tightest] = True
        return everybody, seated

    def _shared_seats(self, devices: Ints, share: int) -> tuple[Ints, Bools]:
        cost = self._seat_costs(share)[devices]
        row, seat = np.nonzero(cost == cost.min(axis=1, keepdims=True))
        if len(row) > len(devices):
            # Devices of a node with as much free are one option: the first stands for all.
            _, first = np.unique(row * (WHOLE + 1) + devices[row, seat], return_index=True)
            row, seat = row[first], seat[first]
        seated = np.zeros((len(row), devices.shape[1]), dtype=bool)
        seated[np.arange(len(row)), seat] = True
        return row, seated

    def _take(self, kind: int, node: int) -> Choice:
        seats = self._seats(kind, node)
        self.room[node] -= self.kinds.need[kind]
        taken = int(self.kinds.share[kind])
        for seat in seats:
            self.devices[node, seat] -= taken
        self.free[node] -= taken * len(seats)
        self._state[node] = self._number(node)
        self._worth[node] = np.nan
        self._changes.append(node)
        return Choice(node, seats)

    def _seats(self, kind: int, node: int) -> tuple[int, ...]:
        gpus, share = int(self.kinds.gpus[kind]), int(self.kinds.share[kind])
        devices = self.devices[node].tolist()
        if gpus == 1 and share < WHOLE:
            row, seated = self._options(kind, np.array([node]))
            best = 0 if len(row) == 1 else int(np.argmin(self._rated(kind, np.full(len(row), node), seated)))
            return (int(seated[best].argmax()),)
        fitting = [seat for seat, free in enumerate(devices) if free >= share]
        return tuple(sorted(sorted(fitting, key=devices.__getitem__)[:gpus]))
