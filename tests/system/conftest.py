"""One Airflow for all system tests of a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from system.airflow_server import AirflowServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowServer]:
    """Start an Airflow whose DAGs are those in tests/system/dags; tests share it, each with runs of its own."""
    home = tmp_path_factory.mktemp("airflow")
    with AirflowServer(home, Path(__file__).parent / "dags", env={"PYTHONPATH": str(ROOT)}) as server:
        yield server
