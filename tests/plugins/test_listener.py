"""Tests of which marks the listener acts on; the marks themselves are tested on a whole Airflow."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from airflow_dla.plugins.listener import marked_by_a_person


def test_only_the_api_server_s_calls_count() -> None:
    """Workers and scheduler say the old state, or hand over another object."""
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415 - heavy, and needed for its type alone

    orm = TaskInstance.__new__(TaskInstance)
    assert marked_by_a_person(None, orm)
    assert not marked_by_a_person("running", orm)
    assert not marked_by_a_person(None, SimpleNamespace())


def test_the_plugin_loads_next_to_nothing() -> None:
    """Every Airflow process loads it, so it brings neither FastAPI nor the ledger nor numpy."""
    code = (
        "import sys; from airflow_dla.plugins.dla import DlaPlugin;"
        "heavy = {'fastapi', 'scipy', 'torch', 'airflow_dla.ledger', 'airflow_dla.hooks'} & set(sys.modules);"
        "assert not heavy, heavy; assert DlaPlugin.fastapi_apps[0]['url_prefix'] == '/dla'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
