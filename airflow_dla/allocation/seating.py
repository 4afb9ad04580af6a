"""A round's demands placed one by one where GPUs are handed out: each where it leaves most of the GPUs of use.

What is typical is what waits and what lives.
"""

from __future__ import annotations

import numpy as np

from airflow_dla.allocation.devices import Devices
from airflow_dla.allocation.fleet import Choice, Fleet
from airflow_dla.allocation.fragmentation import Kinds, Priced
from airflow_dla.allocation.residuals import WHOLE
from airflow_dla.allocation.table import Asked, Bools, Floats, Ints, Offered

_EXACT = 1e-6
_LARGE = 100_000


def is_seated(asked: Asked, offered: Offered, rows: Ints, size: Floats) -> bool:
    """Return whether demands can be placed one by one, with GPUs counted in thousandths.

    Somebody asks for a GPU and there is a choice of nodes; every node that has some hands
    out ids, nobody asks for a part of a thousandth, and there are not so many demands and
    nodes that a round would take long.
    """
    gpu = asked.gpu
    if gpu is None or len(offered.devices) <= 1 or len(rows) * len(offered.names) > _LARGE:
        return False
    nodes = set(np.flatnonzero(offered.capacity[:, gpu] > 0).tolist())
    free = np.array([share for devices in offered.devices.values() for share in devices])
    asks = size[rows, gpu]
    return bool(asks.any()) and nodes <= set(offered.devices) and _in_thousandths(asks) and _in_thousandths(free)


def _in_thousandths(gpus: Floats) -> bool:
    return bool((np.abs(gpus * WHOLE - np.round(gpus * WHOLE)) < _EXACT).all())


class Seating:
    """Nodes with GPUs while the demands of a round are placed.

    Parameters
    ----------
    asked : `Asked`
    offered : `Offered`
    size : float array, shape (n, R)
        How much room each demand is given.
    rows : int array, shape (k,)
        Demands that will be placed.
    nodes : int array, shape (G,)
        In the order in which equals are filled.
    free : float array, shape (G, R)
    devices : mapping of int to `Devices`
        As they are now.
    """

    def __init__(
        self, asked: Asked, offered: Offered, *, size: Floats, rows: Ints, nodes: Ints, free: Floats, devices: dict[int, Devices]
    ) -> None:
        assert asked.gpu is not None
        self._nodes, self._turn = nodes, dict(zip(rows.tolist(), range(len(rows)), strict=True))
        self._beside = np.flatnonzero(np.arange(size.shape[1]) != asked.gpu)
        preferred = np.zeros(offered.allowed.shape, dtype=np.intp) if offered.matches is None else offered.matches
        columns, types = np.unique(np.vstack([offered.allowed, preferred]), axis=1, return_inverse=True)
        kinds, self._kind = self._kinds(asked, offered, size, rows, columns[: len(preferred)].astype(bool))
        self._choosier: list[list[int]] = [[] for _ in range(len(kinds))]
        if offered.matches is not None:
            kinds = self._narrowed(kinds, asked.kind[rows], columns[len(preferred) :])
        room = (free + offered.slack)[nodes][:, self._beside]
        self._fleet = Fleet(room, _milli(devices, nodes), types.ravel()[nodes], kinds, Priced(kinds))

    def place(self, row: int) -> Choice | None:
        """Choose for one of the demands `rows`; None when it fits nowhere."""
        kind = int(self._kind[self._turn[row]])
        for narrowed in [*self._choosier[kind], kind]:
            choice = self._fleet.place(narrowed)
            if choice is not None:
                return Choice(int(self._nodes[choice.node]), choice.devices)
        return None

    def _narrowed(self, kinds: Kinds, selects: Ints, matches: Ints) -> Kinds:
        """Add, for each kind that prefers some nodes, kinds that take only those: with most labels first."""
        added: list[tuple[int, Bools]] = []
        for kind, of in sorted(set(zip(self._kind.tolist(), selects.tolist(), strict=True))):
            for level in np.unique(matches[of, kinds.allowed[kind]])[:0:-1].tolist():
                self._choosier[kind].append(len(kinds) + len(added))
                added.append((kind, kinds.allowed[kind] & (matches[of] >= level)))
        same = [*range(len(kinds)), *[kind for kind, _ in added]]
        return Kinds(
            need=kinds.need[same],
            gpus=kinds.gpus[same],
            share=kinds.share[same],
            allowed=np.vstack([kinds.allowed, *[allowed for _, allowed in added]]),
            # Nobody asks for them besides, so that what is typical stays as it is.
            weight=np.concatenate([kinds.weight, np.zeros(len(added))]),
        )

    def _kinds(self, asked: Asked, offered: Offered, size: Floats, rows: Ints, columns: Bools) -> tuple[Kinds, Ints]:
        """Aggregate equal demands; a live grant counts for what is typical, on any node."""
        everywhere = len(columns)
        waiting = np.column_stack([size[rows], asked.kind[rows]])
        living = np.column_stack([offered.held, np.full(len(offered.held), everywhere)])
        found, kind = np.unique(np.vstack([waiting, living]), axis=0, return_inverse=True)
        kind = kind.ravel()
        gpus, allowed = found[:, asked.gpu], np.vstack([columns, np.ones((1, columns.shape[1]), dtype=bool)])
        kinds = Kinds(
            need=found[:, self._beside],
            gpus=np.ceil(gpus - _EXACT).astype(np.intp),
            share=np.where(gpus < 1, np.round(gpus * WHOLE), WHOLE).astype(np.intp) * (gpus > 0),
            allowed=allowed[found[:, -1].astype(np.intp)],
            weight=np.bincount(kind, minlength=len(found)).astype(float),
        )
        return kinds, kind[: len(rows)]


def _milli(devices: dict[int, Devices], nodes: Ints) -> Ints:
    """Return what is free of each device, thousandths, shape (G, D); devices that were promised count as taken."""
    most = max(len(found.free) for found in devices.values())
    free = np.zeros((len(nodes), most), dtype=np.intp)
    for turn, node in enumerate(nodes.tolist()):
        if node in devices:
            shares = devices[node].unpromised()
            free[turn, : len(shares)] = np.round(np.array(shares) * WHOLE)
    return free
