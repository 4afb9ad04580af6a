"""The objects of one kind as a shared watch tells them: however many attempts are followed, the cluster is asked by one.

A thread lists, then watches on from there, and begins anew when the server has forgotten
what came between. Who asks here is answered from memory. As long as the server does not
answer, what it said last holds for a while: nothing is gone because nobody could look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.errors import DlaError, PlaceUnavailable
from airflow_dla.runtime.kubernetes.cluster import Cluster, Event, Gone
from airflow_dla.runtime.kubernetes.names import attempt_of

_WATCH_S: Final = 30.0
_FIRST_S: Final = 15.0
_IDLE_S: Final = 600.0
_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 5.0

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Deleted:
    document: Document
    at: float


class Mirror:
    """What is known of one kind of object in one namespace; safe from any number of threads.

    Its thread begins with the first question, and ends when nobody has asked for ten minutes.

    Parameters
    ----------
    cluster : `Cluster`
    kind : str
        Plural: ``pods``.
    labels : str
        Selector of those that are looked at.
    patience_s : float
        For so long after the server was heard last, what it said holds, seconds.
    keep_s : float
        For so long the last state of what was deleted is kept, seconds.
    watch_s : float
        Seconds after which a watch is begun anew, also where it tells nothing.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(
        self, cluster: Cluster, kind: str, labels: str = "", *, patience_s: float = 60.0, keep_s: float = 600.0,
        watch_s: float = _WATCH_S, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.kind = kind
        self._cluster = cluster
        self._labels = labels
        self._patience_s = patience_s
        self._keep_s = keep_s
        self._watch_s = watch_s
        self._clock = clock
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._asked_at = self._heard_at = float("-inf")
        self._fault = self._version = ""
        self._known: dict[str, Document] = {}
        self._attempts: dict[str, Document] = {}
        self._deleted: dict[str, _Deleted] = {}

    # --- questions ---

    def get(self, name: str) -> Document | None:
        """Return an object as it was told last, None where there is none; not to be changed.

        Raises
        ------
        PlaceUnavailable
            If the server was not heard for too long.
        """
        with self._changed:
            self._answerable()
            return self._known.get(name)

    def all(self) -> Mapping[str, Document]:
        """Return every object by name; raises as `get` does."""
        with self._changed:
            self._answerable()
            return dict(self._known)

    def last(self, name: str) -> Document | None:
        """Return an object as it was told last, also one that was deleted lately; raises as `get` does."""
        with self._changed:
            self._answerable()
            gone = self._deleted.get(name)
            return self._known.get(name) or (None if gone is None else gone.document)

    def by_attempt(self, attempt: str) -> Document | None:
        """Return the object of an attempt, of several the newest; where none is left, the last that was deleted lately.

        Raises
        ------
        PlaceUnavailable
            As `get` does.
        """
        with self._changed:
            self._answerable()
            if (found := self._attempts.get(attempt)) is not None:
                return found
            return max((one.document for one in self._deleted.values() if attempt_of(one.document) == attempt), key=_age, default=None)

    def put(self, document: Document) -> None:
        """Take what a request returned, if it is newer than what is known: whoever wrote sees what he wrote."""
        with self._changed:
            name, metadata = document["metadata"]["name"], document["metadata"]
            gone = self._deleted.get(name)
            if gone is None or gone.document["metadata"]["uid"] != metadata["uid"]:
                self._take(document)

    def close(self) -> None:
        """End the thread, within a second or so; a later question begins another."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # --- answers ---

    def _answerable(self) -> None:
        """Return once there is something to answer from; the lock is held."""
        self._asked_at = self._clock()
        if self._thread is None or not self._thread.is_alive():  # also in a forked process, where nobody tells what changes
            self._begin()
        until = self._clock() + _FIRST_S
        while self._heard_at == float("-inf") and not self._fault and self._clock() < until:
            self._changed.wait(_SHORTEST_S)
        if self._clock() - self._heard_at > self._patience_s:
            raise PlaceUnavailable(self._fault or f"place {self._cluster.name}: its API server has not told about {self.kind} for long")

    def _begin(self) -> None:
        self._closed, self._fault, self._version, self._heard_at = False, "", "", float("-inf")
        self._thread = threading.Thread(target=self._run, name=f"dla-{self._cluster.name}-{self.kind}", daemon=True)
        self._thread.start()

    def _over(self) -> bool:
        return self._closed or self._thread is not threading.current_thread() or self._clock() - self._asked_at > _IDLE_S

    # --- the thread ---

    def _run(self) -> None:
        pause_s = _SHORTEST_S
        while not self._end():
            try:
                self._version = self._version or self._list()
                self._watch()
                pause_s = _SHORTEST_S
            except Gone:
                self._version = ""
                time.sleep(_SHORTEST_S)  # a server may forget faster than it lists
            except DlaError as error:
                self._fail(str(error))
            except Exception as error:  # noqa: BLE001 - nobody would tell what changes any more
                self._fail(f"place {self._cluster.name}: looking at {self.kind} failed: {error!r}")
                self._version = ""
            with self._changed:
                if self._fault and not self._over():
                    self._changed.wait(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_S)

    def _end(self) -> bool:
        """Whether the thread ends: decided while nobody asks, so that whoever asks next begins another."""
        with self._changed:
            if self._over() and self._thread is threading.current_thread():
                self._thread = None
            return self._thread is not threading.current_thread()

    def _list(self) -> str:
        items, version = self._cluster.list(self.kind, labels=self._labels)
        with self._changed:
            there = {item["metadata"]["uid"] for item in items}
            for document in list(self._known.values()):
                if document["metadata"]["uid"] not in there and _version(document) <= int(version or 0):
                    self._forget(document)
            for item in items:
                self._take(item)
            self._hear()
        return version

    def _watch(self) -> None:
        """Take what a watch tells until it ends."""
        events = self._cluster.watch(
            self.kind, labels=self._labels, resource_version=self._version, timeout_s=self._watch_s, stop=self._over
        )  # fmt: skip
        for event in events:
            with self._changed:
                self._tell(event)
                self._hear()
            self._version = str(event.object["metadata"]["resourceVersion"])
        with self._changed:
            self._hear()

    def _tell(self, event: Event) -> None:
        if event.type == "DELETED":
            self._forget(event.object)
        elif event.type != "BOOKMARK":
            self._take(event.object)

    def _hear(self) -> None:
        self._heard_at, self._fault = self._clock(), ""
        for name in [name for name, gone in self._deleted.items() if self._heard_at - gone.at > self._keep_s]:
            del self._deleted[name]
        self._changed.notify_all()

    def _fail(self, reason: str) -> None:
        with self._changed:
            self._fault = reason
            self._changed.notify_all()

    # --- what is known ---

    def _take(self, document: Document) -> None:
        name = document["metadata"]["name"]
        known = self._known.get(name)
        if known is not None and _version(known) >= _version(document):
            return
        document["metadata"].pop("managedFields", None)  # as large as all the rest, and nobody reads it
        self._known[name] = document
        attempt = attempt_of(document)
        if attempt is not None and (attempt not in self._attempts or _age(self._attempts[attempt]) <= _age(document)):
            self._attempts[attempt] = document

    def _forget(self, document: Document) -> None:
        name, uid = document["metadata"]["name"], document["metadata"]["uid"]
        known = self._known.get(name)
        if known is not None and known["metadata"]["uid"] != uid:
            return  # another has its name already
        self._known.pop(name, None)
        self._deleted[name] = _Deleted(document, self._clock())
        attempt = attempt_of(document)
        if attempt is not None and attempt in self._attempts and self._attempts[attempt]["metadata"]["uid"] == uid:
            del self._attempts[attempt]
            others = [one for one in self._known.values() if attempt_of(one) == attempt]
            self._attempts |= {attempt: max(others, key=_age)} if others else {}


def _age(document: Mapping[str, Any]) -> tuple[str, int]:
    return str(document["metadata"].get("creationTimestamp", "")), _version(document)


def _version(document: Mapping[str, Any]) -> int:
    """Return a resource version as the number that it is: within a kind the larger is the newer."""
    return int(document["metadata"].get("resourceVersion") or 0)
