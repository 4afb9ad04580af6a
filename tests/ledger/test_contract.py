"""The SQL ledger keeps the contract, on SQLite and on PostgreSQL."""

from contracts.ledger import LedgerContract
from contracts.ledger_adjustment import AdjustmentContract


class TestSqlLedger(LedgerContract):
    """Runs on each database through the fixture `ledger`."""


class TestSqlLedgerAdjusts(AdjustmentContract):
    """Runs on each database through the fixture `ledger`."""
