"""``airflow dla why``, ``nodes`` and ``jobs priority``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures_workspace import job_spec

from airflow_dla.cli.reach import Reach
from airflow_dla.control import decide
from airflow_dla.ledger import Ledger
from airflow_dla.specs import Node

HERE = ("--conn-id", "dla_test")


@pytest.fixture
def ledger(reach: Reach) -> Ledger:
    """Return a ledger with one node, one job that holds it and one that waits."""
    found = reach.ledger
    found.upgrade()
    found.register_node(Node(name="n", capacity={"cpu": 4.0, "memory": 8.0}))
    for task, cpu in (("first", 3), ("second", 2)):
        found.open_attempt(job_spec(task, request={"cpu": cpu}))
        found.round(lambda snapshot: decide(snapshot, reach.settings.policy), holder="h", lease_s=60)
    return found


def test_why_a_job_waits(dla: Any, ledger: Ledger) -> None:
    """What is short and by how much, who holds it, and what would help."""
    (job,) = dla("why", "d.second", *HERE, "--json").document["jobs"]
    assert (job["state"], job["reason"]["binding"], job["reason"]["shortfall"]) == ("waiting", "cpu", 1.0)
    assert [rival["amounts"] for rival in job["held_by"]] == [{"cpu": 3.0}]
    said = dla("why", "second", *HERE).out
    assert "what would help:" in said
    assert "held there by:" in said


def test_why_a_job_got_what_it_got(dla: Any, ledger: Ledger) -> None:
    """Its grant says so."""
    said = dla("why", "first", *HERE).out
    assert "3 cpu on n" in said
    assert "got all it asked" in said


def test_why_of_an_unknown_task(dla: Any, ledger: Ledger) -> None:
    """The message says how jobs are named."""
    refused = dla("why", "third", "--run", "x", *HERE)
    assert refused.status == 1
    assert "DAG.TASK" in refused.err


def test_priority_changes_while_a_job_waits_or_runs(dla: Any, ledger: Ledger) -> None:
    """The ledger's demand and the job's own policy follow."""
    for task in ("first", "second"):
        (job,) = dla("why", task, *HERE, "--json").document["jobs"]
        assert "has priority 9 now" in dla("jobs", "priority", job["job"], "9", *HERE).out
        (job,) = dla("why", task, *HERE, "--json").document["jobs"]
        assert job["priority"] == 9
    seen = ledger.snapshot()
    assert [held.demand.priority for held in seen.held] == [9]
    assert [demand.priority for demand in seen.pending] == [9]


def test_nodes_are_declared_listed_and_removed(dla: Any, ledger: Ledger, tmp_path: Path) -> None:
    """Machines that other operators use behind a grant."""
    file = tmp_path / "nodes.yaml"
    file.write_text("a1: {place: cluster, capacity: {cpu: 64, gpu: 8}, labels: {gpu_type: a100}}\n")
    assert dla("nodes", "declare", str(file), *HERE).out == "declared a1\n"
    listed = {node["name"]: node for node in dla("nodes", "list", *HERE, "--json").document["nodes"]}
    assert listed["a1"]["capacity"] == {"cpu": 64.0, "gpu": 8.0}
    assert listed["n"]["granted"]["cpu"] == 3.0
    assert "gpu_type=a100" in dla("nodes", "list", *HERE).out
    assert dla("nodes", "remove", "a1", *HERE).out == "removed a1\n"
    assert dla("nodes", "remove", "a1", *HERE).status == 1
    file.write_text("a1: {place: local, capacity: {cpu: 64}}\n")
    assert "registers itself" in dla("nodes", "declare", str(file), *HERE).err
