"""Where metrics go: a StatsD server, Airflow's own stats, or nowhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Metrics(Protocol):
    """What takes our metrics. Names begin with ``dla.``; no call raises or waits."""

    def incr(self, name: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Count one event."""

    def gauge(self, name: str, value: float, *, tags: Mapping[str, str] | None = None) -> None:
        """Say how much of something there is."""

    def timing(self, name: str, seconds: float, *, tags: Mapping[str, str] | None = None) -> None:
        """Say how long something took."""


class NoMetrics:
    """Takes metrics and forgets them."""

    def incr(self, name: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Forget an event."""

    def gauge(self, name: str, value: float, *, tags: Mapping[str, str] | None = None) -> None:
        """Forget a value."""

    def timing(self, name: str, seconds: float, *, tags: Mapping[str, str] | None = None) -> None:
        """Forget a duration."""


class StatsdMetrics:
    """Sends metrics to a StatsD server over UDP, which never waits.

    Parameters
    ----------
    host : str
    port : int
    """

    def __init__(self, host: str, port: int = 8125) -> None:
        self._address = (host, port)

    @cached_property
    def _client(self) -> Any:
        import statsd  # noqa: PLC0415 - only where a workspace names a host

        try:
            return statsd.StatsClient(*self._address)
        except OSError as error:
            log.warning("No metrics from this process: StatsD host %s cannot be resolved: %s", self._address[0], error)
            return None

    def incr(self, name: str, *, tags: Mapping[str, str] | None = None) -> None:
        """Count one event."""
        if self._client:
            self._client.incr(_flat(name, tags))

    def gauge(self, name: str, value: float, *, tags: Mapping[str, str] | None = None) -> None:
        """Say how much of something there is."""
        if self._client:
            self._client.gauge(_flat(name, tags), value)

    def timing(self, name: str, seconds: float, *, tags: Mapping[str, str] | None = None) -> None:
        """Say how long something took; StatsD wants milliseconds."""
        if self._client:
            self._client.timing(_flat(name, tags), seconds * 1000)

    def close(self) -> None:
        """Close the socket."""
        if self._client:
            self._client.close()


def _flat(name: str, tags: Mapping[str, str] | None) -> str:
    """Join tags to the name, since plain StatsD knows none.

    Examples
    --------
    >>> _flat("dla.job.ended", {"reason": "lost"})
    'dla.job.ended.lost'
    """
    return ".".join([name, *(tags or {}).values()])
