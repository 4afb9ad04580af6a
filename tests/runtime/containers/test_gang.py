"""Members of one job in containers of their own: they reach each other, and end as one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contracts.grants import MembersContract
from fixtures_workspace import NODE

from airflow_dla.artifacts import Store
from airflow_dla.control import Timing, Workspace
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Node


@pytest.fixture
def runtime(docker: DockerRuntime, base_image: str) -> DockerRuntime:
    """Return a runtime whose jobs have a Python."""
    docker.place = replace(docker.place, image=base_image)
    docker.node = NODE
    return docker


@pytest.fixture
def place(workspace: Workspace, runtime: DockerRuntime, store: Store) -> Workspace:
    """Return a workspace whose one node is the engine."""
    workspace.ledger.register_node(Node(name=NODE, capacity={"cpu": 2.0, "memory": 4.0}), host="here")
    timing = Timing(poll_s=0.1, eager_s=0.05, renew_s=1.0, reap_s=60.0)
    return replace(workspace, runtimes={NODE: runtime}, store=store, timing=timing)


class TestMembers(MembersContract):
    """As on every place that runs images."""
