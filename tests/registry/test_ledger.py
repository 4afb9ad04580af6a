"""`LedgerRegistry` keeps the registry's laws on every ledger."""

from __future__ import annotations

from typing import Any, cast

import pytest
from contracts.registry import RegistryContract, add, champion
from fakes.memory_ledger import MemoryLedger

from airflow_dla.errors import Conflict
from airflow_dla.ledger import Alias, Ledger
from airflow_dla.registry import LedgerRegistry


class TestOnMemory(RegistryContract):
    """The laws on the fake."""

    @pytest.fixture
    def registry(self) -> LedgerRegistry:
        """Return a registry of no model."""
        return LedgerRegistry(cast("Ledger", MemoryLedger()))


class TestOnSql(RegistryContract):
    """The laws on SQLite and PostgreSQL."""

    @pytest.fixture
    def registry(self, ledger: Ledger) -> LedgerRegistry:
        """Return a registry of no model."""
        return LedgerRegistry(ledger)


class Contested(MemoryLedger):
    """A ledger in which somebody else always gets there first."""

    def move_alias(self, *_: Any, **__: Any) -> Alias:
        """Refuse."""
        raise Conflict("somebody else")


class Interrupted(MemoryLedger):
    """A ledger that goes away between the champion and ``previous``."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = True

    def move_alias(self, model: str, alias: str, number: int, **more: Any) -> Alias:
        """Move every alias but one."""
        if alias == "previous" and self.broken:
            raise ConnectionError("gone")
        return super().move_alias(model, alias, number, **more)


def test_endless_contention_is_an_error() -> None:
    """It gives up and says so, instead of turning for ever."""
    registry = LedgerRegistry(cast("Ledger", Contested()))
    add(registry)
    with pytest.raises(Conflict, match="moved by others 20 times"):
        champion(registry, 1)


def test_a_retry_repairs_previous_after_a_crash_in_between() -> None:
    """Promoting again finds the alias moved and sets ``previous``."""
    ledger = Interrupted()
    registry = LedgerRegistry(cast("Ledger", ledger))
    add(registry), add(registry)
    champion(registry, 1)
    with pytest.raises(ConnectionError):
        champion(registry, 2)
    ledger.broken = False
    assert not champion(registry, 2).moved
    assert {found.alias: found.number for found in registry.aliases("digits")} == {"champion": 2, "previous": 1}
