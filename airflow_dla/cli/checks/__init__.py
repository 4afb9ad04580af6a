"""What ``airflow dla doctor`` looks at: small functions, each of which returns a `Check`."""

from airflow_dla.cli.checks.check import Check, State, guarded

__all__ = ["Check", "State", "guarded"]
