"""Fixtures of the whole suite; an Airflow home of its own, before anything imports Airflow."""

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# What Hypothesis finds by chance is for whoever works here; the gate must give one answer for one commit.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

_HOME = tempfile.mkdtemp(prefix="dla-tests-airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "_AIRFLOW"))]:
    del os.environ[_name]
os.environ.update(AIRFLOW_HOME=_HOME, AIRFLOW__CORE__LOAD_EXAMPLES="False", AIRFLOW__CORE__UNIT_TEST_MODE="True")

collect_ignore_glob = ["bench/*"]  # scripts, run by hand

_FIXTURES = ("postgres", "ledger", "workspace", "airflow", "docker", "kubernetes", "s3")
pytest_plugins = [f"fixtures_{name}" for name in _FIXTURES]


def pytest_collection_finish() -> None:
    """Leave what was loaded until here to itself: looking for garbage among a million objects takes a second each time."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not Path("/dev/nvidiactl").exists():
        pytest.skip("no NVIDIA GPU on this machine: there is no /dev/nvidiactl")
