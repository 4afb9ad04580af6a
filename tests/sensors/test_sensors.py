"""Tests of the sensors, with a real ledger."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from fixtures_airflow import MakeTask, context

from airflow_dla.hooks import DlaHook, ResourceAllocationHook
from airflow_dla.sensors import CapacitySensor, ModelVersionSensor

pytestmark = pytest.mark.usefixtures("embedded")


def poke(task: Any) -> Any:
    """Ask a sensor once."""
    return task.poke(context("t"))


def test_capacity_is_there_until_somebody_takes_it(make_task: MakeTask) -> None:
    """The sensor takes nothing itself."""
    node = next(iter(DlaHook(kind="worker").workspace().ledger.nodes())).node
    sensor = make_task(CapacitySensor, request={"cpu": node.capacity["cpu"]})
    assert poke(sensor)
    with ResourceAllocationHook().grant(cpu=0.5):
        assert not poke(sensor)
    assert poke(sensor)


def test_capacity_that_never_comes_fails(make_task: MakeTask) -> None:
    """No node is large enough, so waiting is no use."""
    with pytest.raises(AirflowFailException, match="cpu"):
        poke(make_task(CapacitySensor, request={"cpu": 4096}))


def test_a_model_version_is_waited_for(make_task: MakeTask) -> None:
    """Its XCom is a reference pinned by number."""
    sensor = make_task(ModelVersionSensor, model="digits@champion")
    newer = make_task(ModelVersionSensor, model="digits@champion", newer_than="1")
    assert not poke(sensor).is_done
    registry = DlaHook().workspace().registry
    digest = "sha256:" + "0" * 64
    registry.register("digits", digest=digest, signature={}, metrics={}, lineage={}, registered_by="j.1")
    registry.promote("digits", 1, "champion", interval_end=None, by="t", why="t")
    answer = poke(sensor)
    assert answer.is_done
    assert answer.xcom_value["model"] == "digits@1"
    assert not poke(newer).is_done
