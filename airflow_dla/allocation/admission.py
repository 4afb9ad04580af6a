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
    gap : float
        How far from the best possible the answer may be, relative.
    """

    order: Ints
    where: Ints | None = None
    price: Floats | None = None
    payments: Floats | None = None
    barred: Mapping[int, float] = field(default_factory=dict)
    gap: float = 0.0
