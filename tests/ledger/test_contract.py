"""The SQL ledger keeps the contract, on SQLite and on PostgreSQL."""

from contracts.ledger import LedgerContract


class TestSqlLedger(LedgerContract):
    """Runs on each database through the fixture `ledger`."""
