"""Alembic migrations of the ledger's schema; `airflow_dla.ledger.upgrading` runs them, nobody else."""
