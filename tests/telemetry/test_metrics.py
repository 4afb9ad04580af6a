"""Tests of sending metrics."""

from __future__ import annotations

import socket

from airflow_dla.telemetry import NoMetrics, StatsdMetrics


def test_metrics_reach_a_statsd_server() -> None:
    """Counts, values and durations in milliseconds, tags joined to the name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        metrics = StatsdMetrics("127.0.0.1", server.getsockname()[1])
        metrics.incr("dla.job.ended", tags={"reason": "lost"})
        metrics.gauge("dla.allocation.waiting", 3)
        metrics.timing("dla.job.run", 1.5)
        said = [server.recv(1024).decode() for _ in range(3)]
        metrics.close()
    assert said == ["dla.job.ended.lost:1|c", "dla.allocation.waiting:3|g", "dla.job.run:1500.000000|ms"]


def test_nobody_listening_costs_nothing() -> None:
    """A server that is not there raises nothing."""
    metrics = StatsdMetrics("127.0.0.1", 9)
    metrics.incr("dla.job.ended")
    metrics.close()
    NoMetrics().incr("dla.job.ended")
    NoMetrics().gauge("dla.allocation.waiting", 1)
    NoMetrics().timing("dla.job.run", 1)


def test_a_name_that_cannot_be_resolved_stops_no_job() -> None:
    """Metrics are never worth a failure."""
    StatsdMetrics("no-such-host.invalid").incr("dla.job.ended")
