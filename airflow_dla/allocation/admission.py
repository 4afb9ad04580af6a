"""What a strategy answers: who is served first, and whatever else it decided on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_dla.allocation.table import Floats, Ints


@dataclass(frozen=True, slots=True)
class Admission:
    """In which order demands are served.

    Parameters
    ----------
    order : int array, shape (n,)
        Demands, first served first.
    where : int array, shape (n,), or None
        Node that the strategy chose for each, -1 for none; placement finds the others.
    price : float array, shape (R,), or None
        Prices at which the market clears; None where shadow prices follow from the plan.
    payments : float array, shape (n,), or None
        What each would pay for its minimum, tokens.
    barred : mapping of demand to str
        Those that may not be served now, with the tokens they lack.
    values : float array, shape (n,), or None
        What serving each is worth, where the strategy packs by that.
    bound : float
        No plan is worth more in all.
    """

    order: Ints
    where: Ints | None = None
    price: Floats | None = None
    payments: Floats | None = None
    barred: Mapping[int, float] = field(default_factory=dict)
    values: Floats | None = None
    bound: float = 0.0

    def gap(self, where: Ints) -> float:
        """Return how far from the best possible a plan may be, relative, 0 where the strategy has no bound.

        Parameters
        ----------
        where : int array, shape (n,)
            Node of each demand, -1 for those that wait.
        """
        if self.values is None or self.bound <= 0:
            return 0.0
        return max(0.0, 1.0 - float(self.values[where >= 0].sum()) / self.bound)
