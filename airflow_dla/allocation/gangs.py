"""Gangs: demands that are granted together or not at all, over several nodes if need be.

A gang waits until all its members are here; one of which a member holds a grant was here
whole once, and whoever comes again waits for nobody. A gang is served where its first
member stands in the order, all members at once, the largest first: either each of them
finds a node then, or none takes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Self

import numpy as np
import numpy.typing as npt

from airflow_dla.specs import Demand, Held

_Ints = npt.NDArray[np.intp]
_Bools = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gangs:
    """Which of n demands belong together.

    Parameters
    ----------
    names : tuple of str
        Of the gangs that have a member among the demands.
    of : int array, shape (n,)
        Index into `names`; -1 for a demand on its own.
    here, size : int array, shape (gangs,)
        Members that wait or hold a grant, and how many there must be.
    ids : mapping of row to str
        What members are called.
    """

    names: tuple[str, ...]
    of: _Ints
    here: _Ints
    size: _Ints
    ids: Mapping[int, str]

    @classmethod
    def none(cls, count: int) -> Self:
        """Make the gangs of demands that are all on their own."""
        nobody = np.empty(0, dtype=np.intp)
        return cls((), np.full(count, -1, dtype=np.intp), nobody, nobody, {})

    def rows(self, gang: int) -> _Ints:
        """Return the members among the demands."""
        return np.flatnonzero(self.of == gang)

    def complete(self) -> _Bools:
        """Return which demands may be granted: those on their own, and those of gangs of which all members are here."""
        return np.append(self.here >= self.size, [True])[self.of]

    def with_all_of(self, rows: _Ints) -> _Ints:
        """Return some demands, and every member of their gangs."""
        gangs = np.unique(self.of[rows])
        return np.union1d(rows, np.flatnonzero(np.isin(self.of, gangs[gangs >= 0])))

    def gathered(self, order: _Ints, size: _Floats) -> _Ints:
        """Return demands in order, the members of each gang where the first of them stands, the largest first.

        Parameters
        ----------
        order : int array, shape (n,)
        size : float array, shape (n,)
            By any measure.

        Examples
        --------
        >>> gangs = Gangs(("g",), np.array([-1, 0, -1, 0]), np.array([2]), np.array([2]), {1: "b", 3: "d"})
        >>> gangs.gathered(np.arange(4), np.array([1.0, 1.0, 1.0, 2.0])).tolist()
        [0, 3, 1, 2]
        """
        place = np.empty(len(order), dtype=np.intp)
        place[order] = np.arange(len(order))
        first = np.full(len(self.names) + 1, len(order), dtype=np.intp)
        np.minimum.at(first, self.of, place)
        return np.lexsort((place, -size, np.where(self.of >= 0, first[self.of], place)))

    def runs(self, order: _Ints) -> Iterator[tuple[_Ints, bool]]:
        """Split demands in order into runs that are served one after the other, and say of each whether it is a gang."""
        of = self.of[order]
        for run in np.split(order, np.flatnonzero(of[1:] != of[:-1]) + 1):
            if len(run):
                yield run, bool(self.of[run[0]] >= 0)


def read_gangs(pending: Sequence[Demand], started: Collection[str]) -> Gangs | None:
    """Find the gangs among demands; None when there is none.

    Parameters
    ----------
    started : collection of str
        Gangs of which a member holds a grant.
    """
    names = list(map(attrgetter("gang"), pending))
    if not any(names):
        return None
    found = sorted({name for name in names if name is not None})
    index: dict[str | None, int] = {name: place for place, name in enumerate(found)}
    of = np.array([index.get(name, -1) for name in names], dtype=np.intp)
    size, members = np.ones(len(found), dtype=np.intp), np.flatnonzero(of >= 0)
    np.maximum.at(size, of[members], [pending[row].gang_size for row in members.tolist()])
    here = np.bincount(of[members], minlength=len(found)).astype(np.intp)
    here = np.where([name in started for name in found], np.maximum(here, size), here)
    return Gangs(tuple(found), of, here, size, {row: pending[row].id for row in members.tolist()})


def started_gangs(held: Sequence[Held]) -> frozenset[str]:
    """Return the gangs of which a member holds a grant, for `Policy.started`."""
    return frozenset(item.demand.gang for item in held if item.demand.gang is not None)
