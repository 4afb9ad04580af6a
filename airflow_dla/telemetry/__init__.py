"""Samples in, metrics out. Nothing is lost or slowed when nobody listens."""

from airflow_dla.telemetry.metrics import Metrics, NoMetrics, StatsdMetrics

__all__ = ["Metrics", "NoMetrics", "StatsdMetrics"]
