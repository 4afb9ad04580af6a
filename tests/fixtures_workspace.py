"""A workspace whose runtime is a fake and whose ledger and store are real, and a job to run in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.runtime import FakeRuntime

from airflow_dla.artifacts import Store
from airflow_dla.control import Timing, Workspace
from airflow_dla.ledger import SqlLedger
from airflow_dla.registry import LedgerRegistry
from airflow_dla.specs import JobKey, JobSpec, Node

NODE = "fake"


@pytest.fixture
def fake_runtime() -> FakeRuntime:
    """Return a runtime in memory."""
    return FakeRuntime(node=NODE)


@pytest.fixture
def workspace(sqlite_ledger: SqlLedger, fake_runtime: FakeRuntime, tmp_path: Path) -> Workspace:
    """Return a workspace with one node of four CPUs and 8 GiB."""
    sqlite_ledger.register_node(Node(name=NODE, capacity={"cpu": 4.0, "memory": 8.0}, cpu_ids=(0, 1, 2, 3)), host="here")
    return Workspace(
        name="test",
        identity=sqlite_ledger.identity(),
        ledger=sqlite_ledger,
        store=Store(str(tmp_path / "store")),
        registry=LedgerRegistry(sqlite_ledger),
        runtimes={NODE: fake_runtime},
        follower="here:1:test",
        host="here",
        kind="worker",
        timing=Timing(poll_s=0.02, eager_s=0.01, renew_s=0.05, reap_s=0.05),
    )


def job_spec(task: str = "t", **more: Any) -> JobSpec:
    """Return a small job; `more` are mappings of its fields."""
    fields = {
        "key": JobKey(dag="d", run="r", task=task).to_mapping(),
        "agent": {"name": "job"},
        "entrypoint": ["true"],
        "request": {"cpu": 1, "memory": "1GiB"},
    }
    return JobSpec.from_mapping({**fields, **more})
