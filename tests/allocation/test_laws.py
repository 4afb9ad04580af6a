"""The shared suite of laws, on every strategy with every shedding."""

from __future__ import annotations

from contracts.allocation import AllocationLaws


class TestAllocationLaws(AllocationLaws):
    """Every strategy, every shedding."""
