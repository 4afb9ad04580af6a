"""Metrics through Airflow's own stats, where no StatsD host is named."""

from __future__ import annotations

from collections.abc import Mapping

from airflow.sdk.observability import stats


class AirflowMetrics:
    """Hands metrics to whatever backend Airflow is configured with."""

    def incr(self, name: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Count one event."""
        stats.incr(name, tags=dict(tags or {}))

    def gauge(self, name: str, value: float, *, tags: Mapping[str, str] | None = None) -> None:
        """Say how much of something there is."""
        stats.gauge(name, value, tags=dict(tags or {}))

    def timing(self, name: str, seconds: float, *, tags: Mapping[str, str] | None = None) -> None:
        """Say how long something took; Airflow takes milliseconds."""
        stats.timing(name, seconds * 1000, tags=dict(tags or {}))
