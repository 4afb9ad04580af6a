"""Packing whole bundles into nodes: greedily by prices, then by moving and exchanging."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from airflow_dla.allocation.table import Bools, Floats, Ints

_TRIES = 400
_ROUNDS = 6
_GAIN = 1e-9


@dataclass(frozen=True, slots=True)
class Room:
    """What is packed, and into what: n bundles, G nodes, R resources.

    Parameters
    ----------
    size : float array, shape (n, R)
    free : float array, shape (G, R)
    allowed : bool array, shape (n, G)
    nodes : int array, shape (G,)
        What each node is called elsewhere.
    """

    size: Floats
    free: Floats
    allowed: Bools
    nodes: Ints


def pack(room: Room, order: Ints, price: Floats) -> tuple[Ints, Floats]:
    """Pack bundles in order, each on the node whose leftovers are then worth least.

    Parameters
    ----------
    order : int array, shape (k,)
    price : float array, shape (R,)

    Returns
    -------
    where : int array, shape (n,)
        Node of each, -1 for none.
    free : float array, shape (G, R)
        What is left.
    """
    where, free = np.full(len(room.size), -1, dtype=np.intp), room.free.copy()
    worth = price + price.mean() * 1e-3 + 1e-12
    left = free @ worth
    for row in order.tolist():
        fits = (free >= room.size[row]).all(axis=1) & room.allowed[row]
        if fits.any():
            node = int(np.argmin(np.where(fits, left, np.inf)))
            where[row] = node
            free[node] -= room.size[row]
            left[node] = free[node] @ worth
    return where, free


def improve(room: Room, value: Floats, order: Ints, where: Ints, free: Floats) -> None:
    """Serve more by moving one bundle out of the way, or by exchanging it for those worth more; in place.

    Parameters
    ----------
    value : float array, shape (n,)
    order : int array, shape (k,)
        Whom to try first.
    """
    for _ in range(_ROUNDS):
        waiting = order[where[order] < 0]
        gained = [_serve(room, value, row, where, free) for row in waiting[:_TRIES].tolist()]
        gained += [_exchange(room, value, row, order, where, free) for row in order[::-1].tolist() if where[row] >= 0][:_TRIES]
        if not any(gained):
            return


def _serve(room: Room, value: Floats, row: int, where: Ints, free: Floats) -> bool:
    """Serve `row` by moving another elsewhere, or instead of one that is worth less."""
    size = room.size[row]
    fits = (free >= size).all(axis=1) & room.allowed[row]
    if fits.any():
        _move(room, row, int(np.argmin(np.where(fits, free.sum(axis=1), np.inf))), where, free)
        return True
    placed = np.flatnonzero(where >= 0)
    able = (free[where[placed]] + room.size[placed] >= size).all(axis=1) & room.allowed[row, where[placed]]
    candidates = placed[able]
    if not len(candidates):
        return False
    elsewhere = (free[None, :, :] >= room.size[candidates][:, None, :]).all(axis=2) & room.allowed[candidates]
    elsewhere[np.arange(len(candidates)), where[candidates]] = False
    movable = elsewhere.any(axis=1)
    gain = np.where(movable, value[row], value[row] - value[candidates])
    best = int(np.argmax(gain))
    if gain[best] <= _GAIN * value[row]:
        return False
    other = int(candidates[best])
    node = int(where[other])
    _move(room, other, int(np.argmax(elsewhere[best])) if movable[best] else -1, where, free)
    _move(room, row, node, where, free)
    return True


def _exchange(room: Room, value: Floats, row: int, order: Ints, where: Ints, free: Floats) -> bool:
    """Serve several that wait instead of `row`, if together they are worth more."""
    node = int(where[row])
    left = free[node] + room.size[row]
    waiting = order[where[order] < 0]
    waiting = waiting[room.allowed[waiting, node] & (room.size[waiting] <= left).all(axis=1)]
    chosen, worth = [], 0.0
    for other in waiting[:_TRIES].tolist():
        if (room.size[other] <= left).all():
            left = left - room.size[other]
            chosen.append(other)
            worth += float(value[other])
    if worth <= value[row] * (1 + _GAIN):
        return False
    _move(room, row, -1, where, free)
    for other in chosen:
        _move(room, other, node, where, free)
    return True


def _move(room: Room, row: int, node: int, where: Ints, free: Floats) -> None:
    if where[row] >= 0:
        free[where[row]] += room.size[row]
    where[row] = node
    if node >= 0:
        free[node] -= room.size[row]
