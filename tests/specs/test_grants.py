"""Nodes, demands, grants and reasons."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Demand, Grant, Node, Reason


def test_a_node_takes_units():
    """As a person writes a machine's size."""
    node = Node.from_mapping({"name": "laptop", "capacity": {"cpu": "8", "memory": "32GiB"}})
    assert node.capacity == {"cpu": 8.0, "memory": 32.0}


@pytest.mark.parametrize(
    ("word", "raw", "message"),
    [
        (Node, {"name": "a", "capacity": {"ram": 1}}, r"node\.capacity: unknown key 'ram'"),
        (Node, {"name": "a", "capacity": {"cpu": -1}}, r"node\.capacity\.cpu must be >= 0"),
        (Node, {"name": "a", "cpu_ids": [-1]}, r"node\.cpu_ids\[0\] must be >= 0"),
        (Node, {"name": "a", "gpu_ids": [0]}, r"node\.gpu_ids\[0\] must be a non-empty string, got int 0"),
        (Node, {"name": "a", "mig_ids": {"big": ["x"]}}, r"node\.mig_ids key must be a MIG profile such as 1g.10gb"),
        (Node, {"name": "a", "capacity": {"mig-8g.10gb": 1}}, r"node\.capacity: unknown key 'mig-8g.10gb'"),
        (Demand, {"id": "a", "request": {"cpu": 1}, "weight": 0}, r"demand\.weight must be > 0"),
        (Demand, {"id": "a"}, "demand lacks request"),
        (Grant, {"id": "a", "node": "n", "amounts": {"cpu": "1-2"}}, r"grant\.amounts\.cpu must be one amount"),
        (Reason, {"binding": "cpu", "text": "t", "position": -1}, r"reason\.position must be >= 0"),
        (Reason, {"binding": "cpu", "text": "t", "shortfall": -1}, r"reason\.shortfall must be >= 0"),
        (Reason, {"binding": "cpu"}, "reason lacks text"),
    ],
)
def test_what_makes_no_sense(word: Any, raw: dict[str, Any], message: str):
    """The message names the place and the rule."""
    with pytest.raises(InvalidSpec, match=message):
        word.from_mapping(raw)


def test_a_grant_as_a_person_reads_it():
    """Amounts with their units, and where."""
    grant = Grant(id="a", node="laptop", amounts={"cpu": 1.5, "memory": 0.5, "network": 100.0, "gpu": 1.0})
    assert grant.text() == "1.5 cpu, 0.5 GiB memory, 100 MB/s network, 1 gpu on laptop"
