"""How attempts ended: concluded once, by whoever comes first, and written where it stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.errors import NotFound
from airflow_dla.runtime.conclude import TAIL
from airflow_dla.runtime.facts import Stop
from airflow_dla.runtime.files import json_lines
from airflow_dla.runtime.kubernetes import body, names
from airflow_dla.runtime.kubernetes.cargo import Cargo
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.ending import Ending, concluded, ending
from airflow_dla.runtime.kubernetes.facts import FETCH, MAIN, Document, Pod, exit_of
from airflow_dla.runtime.kubernetes.logs import Logs
from airflow_dla.runtime.kubernetes.pods import Needs
from airflow_dla.runtime.kubernetes.shelf import Shelf
from airflow_dla.runtime.kubernetes.usage import Usage, told
from airflow_dla.runtime.readings import lines_of, readings
from airflow_dla.specs import Exit, ExitReason, JobFile

#: Lines of the end of a log in which the reason of a failure is looked for.
_TAIL_LINES: Final = 50
_KILLED: Final = 137
#: Exit status of what fetches, when it has said why.
_FAILED: Final = 1
#: Ends that one process remembers while their outputs are on the way.
_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True)
class _Last:
    """What the cluster says of an attempt that has ended, read once."""

    found: Ending
    tail: bytes
    said: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    peaks: Mapping[str, Any]


class Endings:
    """Concludes how attempts of one namespace ended.

    Parameters
    ----------
    cluster : `Cluster`
    shelf : `Shelf`
    cargo : `Cargo`
    logs : `Logs`
    usage : `Usage`
    """

    def __init__(self, cluster: Cluster, shelf: Shelf, cargo: Cargo, logs: Logs, usage: Usage) -> None:
        self._cluster = cluster
        self._shelf = shelf
        self._cargo = cargo
        self._logs = logs
        self._usage = usage
        self._last: dict[str, _Last] = {}

    def of(self, document: Document, job: JobFile, pod: Pod | None, stop: Stop | None) -> Exit | None:
        """Return how an attempt ended; None until what it left is published or kept.

        Parameters
        ----------
        document : mapping
            Its Job.
        job : `JobFile`
        pod : `Pod` or None
            Its program has ended, or never will begin.
        stop : `Stop` or None
        """
        last = self._looked(document, job, pod)
        hard = stop is not None and last.found.state.get("ExitCode") == _KILLED
        image = str((document["metadata"].get("annotations") or {}).get(names.IMAGE, ""))

        def found(staged: Any) -> Exit:
            return concluded(
                job, last.found, stop=stop, hard=hard, said=last.said, tail=last.tail, metrics=last.metrics, staged=staged, image=image,
                peaks=last.peaks,
            )  # fmt: skip

        staged = self._cargo.finish(job, pod, succeeded=found(None).succeeded, hard=hard)
        if staged is None:
            return None
        concluding = found(staged)
        written = self._shelf.change(job.attempt, lambda now: body.concluded(now, concluding), unless=(names.EXIT,))
        self._last.pop(job.attempt, None)
        return concluding if written is None else exit_of(written)

    def _looked(self, document: Document, job: JobFile, pod: Pod | None) -> _Last:
        if job.attempt not in self._last:
            # Of one that may have been made to end.
            events = self._shelf.events(pod) if pod is not None and pod.deleted_at is not None else []
            found = self._explained(ending(pod, document, events), pod)
            tail = self._tail(pod) if pod is not None and found.state.get("ExitCode") else b""
            whole = [] if pod is None or not pod.started else self._logs.whole(job.attempt, pod)
            said = tuple(spoken(whole, job.nonce)) if Needs.of(job).runner else ()
            metrics = {} if Needs.of(job).runner else readings(job.metrics, whole)
            peaks = told(said) if pod is None or Needs.of(job).runner else self._usage.peaks(pod)
            self._last[job.attempt] = _Last(found, tail, said, metrics, peaks)
            while len(self._last) > _REMEMBERED:
                self._last.pop(next(iter(self._last)))
        return self._last[job.attempt]

    def _explained(self, found: Ending, pod: Pod | None) -> Ending:
        """Return an ending with what our fetching container said of it, if it was that which failed."""
        fetch = None if pod is None else pod.containers.get(FETCH)
        if pod is None or fetch is None or fetch.code != _FAILED or pod.main.ended or pod.deleted_at is not None:
            return found
        said = self._cargo.failure(pod)
        return found if said is None else dataclasses.replace(found, verdict=(ExitReason(said[0]), said[1]))

    def _tail(self, pod: Pod) -> bytes:
        try:
            return self._cluster.log(pod.name, MAIN, tail_lines=_TAIL_LINES)[-TAIL:]
        except NotFound:
            return b""


def spoken(pieces: Iterable[bytes], nonce: str) -> Iterator[Mapping[str, Any]]:
    r"""Return what our runner said in a log.

    Examples
    --------
    >>> list(spoken([b"epoch 1\nepoch 2::dla:n0nce::{\"kind\": \"note\"}\n", b"::dla:other::{}\n"], "n0nce"))
    [{'kind': 'note'}]
    """
    mark = f"::dla:{nonce}::".encode()
    # A program may have left its last line open before ours.
    return json_lines(line.partition(mark)[2] for line in lines_of(pieces) if mark in line)
