"""A ledger that can be switched off, and counts what it is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_dla.control import Workspace
from airflow_dla.errors import LedgerUnavailable


class FlakyLedger:
    """Hands every call to a real ledger while it is up.

    Attributes
    ----------
    down : bool
    calls : list of str
        Names of the operations asked for while it was up.
    """

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.down = False
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._ledger, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.down:
                raise LedgerUnavailable(f"{name}: the test switched the ledger off")
            self.calls.append(name)
            return operation(*args, **kwargs)

        return call


def with_ledger(workspace: Workspace, ledger: Any) -> Workspace:
    """Return a workspace with another ledger."""
    return replace(workspace, ledger=ledger)
