"""What a cluster has of attempts: a Job each, whose annotations say what must be said once, and its pod.

Nothing of an attempt lies on any of Airflow's hosts, so whoever reaches the cluster can
follow it. A Job that the watch does not show is asked for before it counts as missing: the
watch may be behind what another process has just made. What is said first counts, whoever
says it: a change is of the version that was read, or it is not made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import Conflict, NotFound, NotReady
from airflow_dla.runtime.kubernetes import names
from airflow_dla.runtime.kubernetes.answers import Forbidden
from airflow_dla.runtime.kubernetes.cluster import Cluster, Exists
from airflow_dla.runtime.kubernetes.facts import Bound, Document, Pod, bound_of
from airflow_dla.runtime.kubernetes.mirror import Mirror

#: A change that lost against another one is made again so often.
_TRIES: Final = 5


class Shelf:
    """The Jobs and pods of a workspace, in one namespace.

    Parameters
    ----------
    cluster : `Cluster`
    jobs, pods : `Mirror`
        As two shared watches tell them.
    workspace : str
    """

    def __init__(self, cluster: Cluster, jobs: Mirror, pods: Mirror, workspace: str) -> None:
        self._cluster = cluster
        self._jobs = jobs
        self._pods = pods
        self._workspace = workspace
        self._shared: set[str] = set()

    def name(self, attempt: str) -> str:
        """Return what an attempt's Job is called."""
        return names.name(self._workspace, attempt)

    def find(self, attempt: str) -> Document | None:
        """Return an attempt's Job."""
        found = self._jobs.get(self.name(attempt)) or self._cluster.get("jobs", self.name(attempt))
        return None if found is None else self.took(found)

    def asked(self, attempt: str) -> Document | None:
        """Return an attempt's Job as the cluster has it now, whatever the watch is at."""
        found = self._cluster.get("jobs", self.name(attempt))
        return None if found is None else self.took(found)

    def took(self, job: Document) -> Document:
        """Show at once what the cluster answered, whatever the watch is at; return it."""
        self._jobs.put(dict(job))
        return job

    def make(self, document: Mapping[str, Any]) -> Document:
        """Create a Job, or return the one of that name.

        Raises
        ------
        NotReady
            If that one is being removed.
        """
        try:
            return self.took(self._cluster.create("jobs", document))
        except Exists:
            found = self._cluster.get("jobs", document["metadata"]["name"])
        if found is None or found["metadata"].get("deletionTimestamp"):
            raise NotReady("what was left of it is removed from the cluster first")
        return self.took(found)

    def share(self, kind: str, document: Mapping[str, Any]) -> None:
        """Make an object unless one of its name is there; what was made once is not asked for again."""
        name = f"{kind}/{document['metadata']['name']}"
        if name not in self._shared:
            with contextlib.suppress(Exists):
                self._cluster.create(kind, document)
            self._shared.add(name)

    def pod(self, attempt: str) -> Pod | None:
        """Return an attempt's pod, also one that has gone lately; none of those that were never let go."""
        # A follower may ask before the watch has begun.
        job = self._jobs.get(self.name(attempt))
        if job is not None and (bound := bound_of(job)) is not None:
            return self._bound(bound)
        pod = self._there(self._pods.by_attempt(attempt))
        return None if pod is not None and pod.held else pod

    def is_gone(self, pod: Pod) -> bool:
        """Whether a pod was removed, whatever was told of it last."""
        return self._pods.get(pod.name) is None

    def held(self, attempt: str) -> Document | None:
        """Return the newest pod of an attempt if it waits to be let go."""
        found = self._pods.by_attempt(attempt)
        if found is None or self._pods.get(found["metadata"]["name"]) is None:
            return None
        pod = Pod.from_document(found)
        return found if pod.held and pod.deleted_at is None and not pod.over else None

    def let_go(self, pod: Document, patch: Sequence[Mapping[str, Any]]) -> None:
        """Change a pod so that it may be placed; one that is gone stays so."""
        written = self._cluster.patch("pods", pod["metadata"]["name"], patch, json_patch=True)
        if written is not None:
            self._pods.put(written)

    def sought(self, attempt: str) -> Pod | None:
        """Return an attempt's pod as `pod` does, and ask for one that the watch does not show: it may be behind that of the Jobs."""
        if (known := self.pod(attempt)) is not None:
            return known
        labels = f"{names.selector(self._workspace)},{names.ATTEMPT}={names.label(attempt)}"
        for document in self._cluster.list("pods", labels=labels)[0]:
            self._pods.put(document)
        return self.pod(attempt)

    def events(self, pod: Pod) -> list[dict[str, Any]]:
        """Return what is said of a pod by those who run it."""
        return told_of(self._cluster, pod.uid)

    def running(self, attempt: str) -> Pod:
        """Return the pod of an attempt whose program runs.

        Raises
        ------
        NotFound
        """
        pod = self.pod(attempt)
        if pod is None or pod.main.state != "running":
            raise NotFound(f"{attempt} does not run; airflow dla jobs list shows what does")
        return pod

    def all(self) -> Iterator[tuple[str, Document]]:
        """Return every attempt with its Job."""
        for document in self._jobs.all().values():
            if (attempt := names.attempt_of(document)) is not None:
                yield attempt, document

    def change(
        self, attempt: str, made: Callable[[Document], Sequence[Mapping[str, Any]]], *, unless: Collection[str] = ()
    ) -> Document | None:  # fmt: skip
        """Change an attempt's Job as it is now; return what it is then, None where there is none.

        Parameters
        ----------
        attempt : str
        made : callable
            Makes the JSON patch for a Job, which fails if the Job has changed since.
        unless : collection of str, optional
            Annotations: where one of them is there, what was said first stays.

        Raises
        ------
        Conflict
            If others change it all the time.
        """
        for _ in range(_TRIES):
            document = self._cluster.get("jobs", self.name(attempt))
            if document is None:
                return None
            if not set(unless).isdisjoint(document["metadata"].get("annotations") or {}):
                return self.took(document)
            with contextlib.suppress(Conflict):
                written = self._cluster.patch("jobs", self.name(attempt), made(document), json_patch=True)
                return None if written is None else self.took(written)
        raise Conflict(f"Job {self.name(attempt)} changes faster than it can be read; the same call may be made again")

    def _bound(self, bound: Bound) -> Pod | None:
        """Return the pod that was let go; asked for where the watch does not show it, which may be behind who let it go."""
        found = self._pods.last(bound.name) or self._cluster.get("pods", bound.name)
        if found is None or found["metadata"]["uid"] != bound.uid:
            return None
        self._pods.put(found)
        return self._there(found)

    def _there(self, document: Document | None) -> Pod | None:
        """Return a pod as the watch told it; none that is gone and never was on a node, of which nobody says that it ended."""
        pod = None if document is None else Pod.from_document(document)
        return None if pod is not None and not pod.node and self.is_gone(pod) else pod


def told_of(cluster: Cluster, uid: str) -> list[dict[str, Any]]:
    """Return the events of an object; none where we may not read them, which only explain."""
    try:
        return cluster.list("events", fields=f"involvedObject.uid={uid}")[0]
    except Forbidden:
        return []
