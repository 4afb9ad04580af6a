"""Why attempts have not started, asked for as seldom as people read it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from airflow_dla.runtime.kubernetes import kueue
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.facts import Document, Pod, is_suspended
from airflow_dla.runtime.kubernetes.shelf import told_of
from airflow_dla.runtime.kubernetes.waiting import Outlook, Wait, waiting
from airflow_dla.specs import JobFile, PlaceSpec

#: Seconds between two looks at what a cluster says of one attempt; after a while longer, a part of how long it has waited.
_EVERY_S: Final = 2.0
_PART: Final = 0.05
_LONGEST_S: Final = 30.0
_REMEMBERED: Final = 4096


class Reasons:
    """Asks for the events of what waits.

    Parameters
    ----------
    cluster : `Cluster`
    place : `PlaceSpec`
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(self, cluster: Cluster, place: PlaceSpec, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._place = place
        self._clock = clock
        self._known: dict[str, tuple[float, float, Wait]] = {}

    def of(self, found: Document, pod: Pod | None, job: JobFile) -> Wait:
        """Return why a Job's program has not started; as it was a moment ago where that was looked at."""
        uid, now = pod.uid if pod is not None else str(found["metadata"]["uid"]), self._clock()
        since, asked, known = self._known.pop(uid, (now, float("-inf"), None))
        if known is None or now - asked >= min(_LONGEST_S, _EVERY_S + _PART * (asked - since)):
            known, asked = self._look(found, pod, uid, job), now
        self._known[uid] = (since, asked, known)
        while len(self._known) > _REMEMBERED:
            self._known.pop(next(iter(self._known)))
        return known

    def _look(self, found: Document, pod: Pod | None, uid: str, job: JobFile) -> Wait:
        if self._place.allocator == "kueue" and pod is None:
            admission = kueue.look(self._cluster, found, self._place, lambda: told_of(self._cluster, uid))
            if admission.state != "admitted" or is_suspended(found):
                return Wait(admission.text, Outlook.REFUSED if admission.state in {"refused", "finished"} else Outlook.WAITS)
        events = told_of(self._cluster, uid)
        program = (job.entrypoint.command or ("python3",))[0]
        return waiting(pod, found, events, now=time.time(), program=program)
