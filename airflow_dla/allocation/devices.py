"""Which GPUs and CPUs a grant gets: whole GPUs exclusive, shares packed, CPUs least charged first."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

_WHOLE = 1.0 - 1e-9
_TINY = 1e-9


class Devices:
    """The GPUs of one node while demands are being placed on it.

    Whole GPUs are promised by number and a share is seated on one device; ids are handed
    out at the end. A share goes to the fullest device in use that still holds it, so that
    whole devices stay free.

    Parameters
    ----------
    free : sequence of float
        Free share of each device, between 0 and 1.

    Examples
    --------
    >>> devices = Devices([1.0, 0.5])
    >>> devices.take(7, 0.5), devices.seats[7], devices.take(8, 2.0), devices.take(9, 1.0)
    (True, 1, False, True)
    """

    def __init__(self, free: Sequence[float]) -> None:
        self.free = list(free)
        self.promised: dict[int, int] = {}
        self.seats: dict[int, int] = {}
        self._shares: dict[int, float] = {}
        self._whole_left = sum(share >= _WHOLE for share in self.free)

    @property
    def whole_left(self) -> int:
        """How many devices nobody uses and nobody was promised."""
        return self._whole_left

    def unpromised(self) -> list[float]:
        """Return the free share of each device, the first idle ones taken by those promised."""
        promised = sum(self.promised.values())
        idle = [seat for seat, share in enumerate(self.free) if share >= _WHOLE][:promised]
        return [0.0 if seat in idle else share for seat, share in enumerate(self.free)]

    def take(self, row: int, gpus: float, *, seat: int | None = None) -> bool:
        """Give `gpus`, above 0, to a demand that has none; return whether it was possible.

        Parameters
        ----------
        row : int
        gpus : float
        seat : int or None
            Which device a share goes to, if it fits there; chosen here by default.
        """
        if gpus >= 1:
            return self._promise(row, int(gpus))
        if seat is None or not self._holds(seat, gpus):
            seat = self._seat_for(gpus)
        if seat is None:
            return False
        self._whole_left -= self.free[seat] >= _WHOLE
        self.free[seat] -= gpus
        self.seats[row] = seat
        self._shares[row] = gpus
        return True

    def drop(self, row: int) -> None:
        """Take back what a demand has, if anything."""
        self._whole_left += self.promised.pop(row, 0)
        seat = self.seats.pop(row, None)
        if seat is not None:
            self.free[seat] = min(1.0, self.free[seat] + self._shares.pop(row))
            self._whole_left += self.free[seat] >= _WHOLE

    def resize(self, row: int, gpus: float) -> bool:
        """Give a demand `gpus` instead of what it has; on failure it keeps what it has."""
        before = float(self.promised.get(row, 0)) or self._shares.get(row, 0.0)
        self.drop(row)
        if gpus <= 0 or self.take(row, gpus):
            return True
        if before > 0:
            self.take(row, before)
        return False

    def widest(self, row: int) -> float:
        """Return the largest share of one device that a demand could have."""
        own = {self.seats[row]: self._shares[row]} if row in self.seats else {}
        rooms = [free + own.get(seat, 0.0) for seat, free in enumerate(self.free) if free < _WHOLE or self._whole_left > 0]
        return max(rooms, default=0.0)

    def hand_out(self) -> dict[int, tuple[int, ...]]:
        """Return the devices of every demand that has some: the first free ones for whole GPUs."""
        idle = iter([seat for seat, share in enumerate(self.free) if share >= _WHOLE])
        given: dict[int, tuple[int, ...]] = {row: (seat,) for row, seat in self.seats.items()}
        for row, count in self.promised.items():
            given[row] = tuple(next(idle) for _ in range(count))
        return given

    def _promise(self, row: int, count: int) -> bool:
        if count > self._whole_left:
            return False
        self._whole_left -= count
        self.promised[row] = count
        return True

    def _holds(self, seat: int, share: float) -> bool:
        idle = self.free[seat] >= _WHOLE
        return self._whole_left > 0 if idle else self.free[seat] + _TINY >= share

    def _seat_for(self, share: float) -> int | None:
        fitting = [(free, seat) for seat, free in enumerate(self.free) if free < _WHOLE and free + _TINY >= share]
        if fitting:
            return min(fitting)[1]
        if self._whole_left < 1:
            return None
        return next((seat for seat, free in enumerate(self.free) if free >= _WHOLE), None)


def hand_out_cpus(ids: Sequence[int], charged: Sequence[float], amounts: Sequence[float]) -> list[tuple[int, ...]]:
    """Choose CPU ids for grants on one node, the least charged first.

    Parameters
    ----------
    ids : sequence of int
    charged : sequence of float
        CPUs that live grants already hold of each id.
    amounts : sequence of float
        CPUs of each new grant; the largest chooses first, so that whole CPUs meet idle ids.

    Returns
    -------
    list of tuple of int
        As many ids as CPUs, rounded up, for each grant; a grant of 1.5 CPUs charges one id fully
        and one by half.

    Examples
    --------
    >>> hand_out_cpus([0, 1, 2], [1.0, 0.0, 0.0], [0.5, 1.5])
    [(2,), (1, 2)]
    """
    order = sorted(range(len(amounts)), key=lambda row: -amounts[row])
    idle = [place for place, charge in enumerate(charged) if charge <= 0]
    free = [ids[place] for place in idle]
    chosen: list[tuple[int, ...]] = [()] * len(amounts)
    start = turn = 0
    # While ids are idle, slices of them will do; the heap is for those that must share.
    for row in order:
        count = _ids_for(amounts[row])
        if start + count > len(free):
            break
        chosen[row] = tuple(free[start : start + count])
        start, turn = start + count, turn + 1
    charges = _charged_by(order[:turn], amounts, idle, charged) if turn < len(order) else []
    for row in order[turn:]:
        chosen[row] = tuple(sorted(ids[place] for place in _least_charged(charges, amounts[row])))
    return chosen


def _ids_for(cpus: float) -> int:
    return math.ceil(cpus - _TINY)


def _charged_by(rows: Sequence[int], amounts: Sequence[float], idle: Sequence[int], charged: Sequence[float]) -> list[tuple[float, int]]:
    """Return charge and place of every id as a heap, once `rows` have taken theirs from the idle ones."""
    charges, shares = list(charged), []
    for row in rows:
        whole = _ids_for(amounts[row]) - 1
        shares += [*([1.0] * whole), min(1.0, amounts[row] - whole)][: whole + 1]
    for place, share in zip(idle, shares, strict=False):
        charges[place] = share
    return [(charges[place], place) for place in sorted(range(len(charges)), key=charges.__getitem__)]


def _least_charged(heap: list[tuple[float, int]], cpus: float) -> list[int]:
    taken = [heapq.heappop(heap) for _ in range(min(_ids_for(cpus), len(heap)))]
    for turn, (charge, place) in enumerate(taken):
        heapq.heappush(heap, (charge + min(1.0, cpus - turn), place))
    return [place for _, place in taken]


def charged_cpus(ids: Sequence[int], held: Sequence[tuple[tuple[int, ...], float]]) -> list[float]:
    """Return how many CPUs live grants hold of each id.

    Parameters
    ----------
    ids : sequence of int
    held : sequence of (ids, CPUs)
        One for each live grant on the node.
    """
    if not held:
        return [0.0] * len(ids)
    charged = dict.fromkeys(ids, 0.0)
    for own, cpus in held:
        for cpu in own:
            charged[cpu] = charged.get(cpu, 0.0) + cpus / len(own)
    return [charged[cpu] for cpu in ids]
