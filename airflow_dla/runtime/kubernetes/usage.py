"""What jobs use of what they were granted: told by our runner inside, or measured by the cluster.

Our runner reads its own control group, and the mate beside a command that command's. Of a
plain command with nothing of ours in its pod the cluster's metrics API knows, where there is
one (metrics-server, or what serves the same): the mean of some seconds, every 15 s or so.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.errors import DlaError
from airflow_dla.runtime.facts import seconds
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.facts import MAIN, Document, Pod
from airflow_dla.runtime.kubernetes.quantities import quantities
from airflow_dla.specs.resources import GIB

#: Seconds between two readings, as metrics-server has them; and until a cluster that has none is asked again.
_EVERY_S: Final = 15.0
_NEVER_S: Final = 600.0
#: So many pods are asked for by their names; of more, all of the workspace's are.
_FEW: Final = 4
_REMEMBERED: Final = 4096


@dataclass(slots=True)
class _Readings:
    """What was read of one pod: the most memory, in bytes, and the sum of its readings of CPUs in use."""

    memory: float = 0.0
    cpus: float = 0.0
    count: int = 0
    at: str = ""


class Usage:
    """The most that pods of one namespace held, as their cluster measures it; safe from several threads.

    Parameters
    ----------
    cluster : `Cluster`
    labels : str
        Selector of the workspace's pods.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(self, cluster: Cluster, labels: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._labels = labels
        self._clock = clock
        self._turn = threading.Lock()
        self._served = False
        self._next_at = float("-inf")
        self._wanted: set[str] = set()
        self._known: OrderedDict[str, _Readings] = OrderedDict()

    def look(self, pod: Pod) -> None:
        """Have a running pod measured; asks for all that were wanted since the last time at once."""
        self._wanted.add(pod.name)
        if self._clock() < self._next_at or not self._turn.acquire(blocking=False):
            return
        try:
            self._served = self._served or self._cluster.serves("podmetrics")
            wanted, self._wanted = self._wanted, set()
            for found in self._measured(wanted) if self._served else ():
                self._note(found)
            self._next_at = self._clock() + (_EVERY_S if self._served else _NEVER_S)
        except DlaError:  # we may not ask, or what serves it is away: jobs run without
            self._next_at = self._clock() + _NEVER_S
        finally:
            self._turn.release()

    def peaks(self, pod: Pod) -> dict[str, float]:
        """Return ``memory`` in GiB and ``cpu_s`` of a pod that has ended, once; nothing where it was not measured.

        CPU seconds are the mean of what was read times how long the program ran.
        """
        with self._turn:
            found = self._known.pop(pod.name, None)
        if found is None:
            return {}
        ran_s = max(0.0, seconds(pod.main.finished_at) - seconds(pod.main.started_at))
        return {"memory": round(found.memory / GIB, 6), "cpu_s": round(found.cpus / found.count * ran_s, 3)}

    def _measured(self, wanted: set[str]) -> Sequence[Document]:
        if len(wanted) > _FEW:
            return self._cluster.list("podmetrics", labels=self._labels)[0]
        found = [self._cluster.get("podmetrics", name) for name in sorted(wanted)]
        return [document for document in found if document is not None]

    def _note(self, document: Document) -> None:
        used = next((found["usage"] for found in document.get("containers") or () if found["name"] == MAIN), None)
        if used is None:
            return
        amounts = quantities(used, f"metrics of pod {document['metadata']['name']!r}")
        known = self._known.setdefault(str(document["metadata"]["name"]), _Readings())
        known.memory = max(known.memory, amounts.get("memory", 0.0))
        if (at := str(document.get("timestamp"))) != known.at:
            known.cpus, known.count, known.at = known.cpus + amounts.get("cpu", 0.0), known.count + 1, at
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def told(said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what our runner said at its end.

    Examples
    --------
    >>> told([{"kind": "note"}, {"kind": "peaks", "values": {"memory": 0.5, "cpu_s": 2.0}}])
    {'memory': 0.5, 'cpu_s': 2.0}
    """
    values = next((line.get("values") for line in reversed(said) if line.get("kind") == "peaks"), None)
    return dict(values) if isinstance(values, Mapping) else {}
