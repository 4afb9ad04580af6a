"""Why attempts have not started, asked for as seldom as people read it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from airflow_dla.runtime.kubernetes import waiting
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.facts import Document, Pod

#: Seconds between two looks at what a cluster says of one attempt; then as many more as it has waited, divided by this.
_EVERY_S: Final = 2.0
_SLOWER: Final = 20.0
_LONGEST_S: Final = 30.0
_REMEMBERED: Final = 4096


class Reasons:
    """Asks for the events of what waits.

    Parameters
    ----------
    cluster : `Cluster`
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(self, cluster: Cluster, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._known: dict[str, tuple[float, float, waiting.Wait]] = {}

    def of(self, job: Document, pod: Pod | None) -> waiting.Wait:
        """Return why a Job's program has not started yet; as it was a moment ago where that was looked at."""
        uid, now = pod.uid if pod is not None else str(job["metadata"]["uid"]), self._clock()
        since, asked, known = self._known.get(uid, (now, float("-inf"), None))
        if known is not None and now - asked < min(_LONGEST_S, _EVERY_S + (asked - since) / _SLOWER):
            return known
        events, _ = self._cluster.list("events", fields=f"involvedObject.uid={uid}")
        found = waiting.waiting(pod, job, events, now=time.time(), program=_program(job))
        self._known.pop(uid, None)
        self._known[uid] = (since, now, found)
        while len(self._known) > _REMEMBERED:
            self._known.pop(next(iter(self._known)))
        return found


def _program(job: Document) -> str:
    """Return the first word of a Job's command line."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    return str((container.get("command") or [""])[0])
