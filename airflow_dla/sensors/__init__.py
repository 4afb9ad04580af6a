"""Sensors: wait for room in the workspace, or for a model version."""

from airflow_dla.sensors.capacity import CapacitySensor
from airflow_dla.sensors.model_version import ModelVersionSensor

__all__ = ["CapacitySensor", "ModelVersionSensor"]
