"""The ledger: what is known of nodes, jobs, attempts, grants, model versions and history.

`Ledger` is the contract, coarse operations of one transaction each; `connect` opens the
SQL implementation on SQLite or PostgreSQL.
"""

from airflow_dla.ledger.contract import Ledger
from airflow_dla.ledger.records import (
    Alias,
    AliasMove,
    Answer,
    Attempt,
    Decision,
    Event,
    FollowerKind,
    Lease,
    ModelVersion,
    NodeRow,
    PastRun,
    Roots,
    Round,
    Snapshot,
    TeamChange,
)
from airflow_dla.ledger.sql import SqlLedger, connect

__all__ = [
    "Alias",
    "AliasMove",
    "Answer",
    "Attempt",
    "Decision",
    "Event",
    "FollowerKind",
    "Lease",
    "Ledger",
    "ModelVersion",
    "NodeRow",
    "PastRun",
    "Roots",
    "Round",
    "Snapshot",
    "SqlLedger",
    "TeamChange",
    "connect",
]
