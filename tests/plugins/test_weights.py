"""Tests of the priority weight, on tasks as the scheduler sees them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from airflow_dla.operators import JobOperator
from airflow_dla.plugins.dla import DlaPlugin
from airflow_dla.plugins.weights import JobPriorityWeight


@pytest.fixture(scope="module")
def tasks() -> Any:
    """Return the tasks of a DAG that went through the scheduler's serialization."""
    with DAG("d", schedule=None) as dag:
        first = JobOperator(task_id="first", entrypoint="a:b", policy={"priority": 3})
        last = EmptyOperator(task_id="last")
        first >> JobOperator(task_id="middle", entrypoint="a:b") >> last
        first >> last
        JobOperator(task_id="later", entrypoint="a:b", policy={"priority": "{{ params.p }}"}, priority_weight=7)
    return DagSerialization.from_dict(DagSerialization.to_dict(dag)).task_dict


@pytest.mark.parametrize(("task", "weight"), [("first", 3003), ("middle", 2), ("last", 1), ("later", 7)])
def test_weight_is_the_jobs_priority_and_the_chain_below(tasks: Any, task: str, weight: int) -> None:
    """A priority that is not known yet counts as 0."""
    assert JobPriorityWeight().get_weight(SimpleNamespace(task=tasks[task])) == weight


def test_weight_fits_into_airflows_column() -> None:
    """A wild priority breaks nothing."""
    task = SimpleNamespace(task_id="t", priority_weight=1, policy={"priority": 10**9}, get_dag=lambda: None)
    assert JobPriorityWeight().get_weight(SimpleNamespace(task=task)) == 2**31 - 1


def test_the_plugin_offers_it() -> None:
    """Airflow finds it by the plugin."""
    assert JobPriorityWeight in DlaPlugin.priority_weight_strategies
