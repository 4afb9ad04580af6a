"""Kueue, where it decides which job starts when: what a Job tells it, and what it tells of a job.

A Job with the label of a queue is begun suspended; Kueue makes a Workload of it, and starts it
when the queue has quota for it. A Workload that is evicted after its pods have run is an
attempt that made way: Kueue would start the same Job again, and an attempt has one pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from airflow_dla.runtime.kubernetes.facts import Document
from airflow_dla.runtime.kubernetes.names import QUEUE
from airflow_dla.specs import PlaceSpec

#: Label of a Job with the class that says before whom it goes.
PRIORITY: Final = "kueue.x-k8s.io/priority-class"
#: Label of a Workload with the uid of its Job.
OF_JOB: Final = "kueue.x-k8s.io/job-uid"

State = Literal["waiting", "admitted", "evicted", "refused", "finished"]

#: What Kueue says of a request that no quota can ever hold.
_TOO_LARGE: Final = ("request > maximum capacity", "unavailable in ClusterQueue")
#: Why a Workload made way, by Kueue's reason, in words for the task log.
_EVICTED: Final[Mapping[str, str]] = {
    "Preempted": "made way for another workload",
    "PodsReadyTimeout": "was not ready in time after its admission",
    "AdmissionCheck": "lost an admission check",
    "ClusterQueueStopped": "its ClusterQueue was stopped",
    "LocalQueueStopped": "its LocalQueue was stopped",
    "NodeFailures": "its node failed",
    "Deactivated": "was deactivated",
}


@dataclass(frozen=True, slots=True)
class Admission:
    """What Kueue makes of a job.

    Parameters
    ----------
    state : {"waiting", "admitted", "evicted", "refused", "finished"}
        ``evicted``: it was admitted and is not any more, and may be again. ``refused``: waiting will not help.
    text : str
        For people.
    """

    state: State
    text: str


def labels(place: PlaceSpec, priority: int = 0) -> dict[str, str]:
    """Return the labels by which Kueue finds a place's Jobs, and knows before whom one goes; none where it decides nothing.

    Parameters
    ----------
    place : `PlaceSpec`
        Its classes of priorities, each with the least priority that gets it. A job below all of
        them has none: then the priority class of its pods says before whom it goes.
    priority : int
        Of the job.

    Examples
    --------
    >>> priorities = {"high": 10, "urgent": 100, "normal": 0}
    >>> place = PlaceSpec(name="k", kind="kubernetes", in_cluster=True, allocator="kueue", queue="a", workload_priorities=priorities)
    >>> labels(place, 99)
    {'kueue.x-k8s.io/queue-name': 'a', 'kueue.x-k8s.io/priority-class': 'high'}
    """
    if place.allocator != "kueue" or place.queue is None:
        return {}
    reached = {least: name for name, least in place.workload_priorities.items() if least <= priority}
    return {QUEUE: place.queue, **({PRIORITY: reached[max(reached)]} if reached else {})}


def selector(job: Document) -> str:
    """Return what selects the Workload of a Job."""
    return f"{OF_JOB}={job['metadata']['uid']}"


def workload_of(job: Document, workloads: Iterable[Document]) -> Document | None:
    """Return the Workload that Kueue made of a Job; None where it made none yet."""
    uid = job["metadata"]["uid"]
    return next((found for found in workloads if _owner(found) == uid), None)


class WorkloadsLike(Protocol):
    """The part of a cluster that is asked here."""

    def list(self, kind: str, *, labels: str = "", fields: str = "", cluster_wide: bool = False) -> tuple[list[dict[str, Any]], str]:
        """Return the objects that selectors choose."""


def look(cluster: WorkloadsLike, job: Document, place: PlaceSpec) -> Admission:
    """Ask what Kueue makes of a Job.

    Raises
    ------
    NotFound
        If the cluster has no Kueue.
    PlaceUnavailable
        If it does not answer, or does not let us see Workloads.
    """
    workloads, _ = cluster.list("workloads", labels=selector(job))
    return admission(workload_of(job, workloads), place)


def _owner(workload: Document) -> str | None:
    metadata = workload["metadata"]
    owners = [owner["uid"] for owner in metadata.get("ownerReferences") or () if owner.get("kind") == "Job"]
    return owners[0] if owners else (metadata.get("labels") or {}).get(OF_JOB)


def admission(workload: Document | None, place: PlaceSpec) -> Admission:
    """Read what a Workload says of its job.

    Parameters
    ----------
    workload : mapping or None
        None where Kueue made none yet.
    place : `PlaceSpec`

    Examples
    --------
    >>> place = PlaceSpec(name="k", kind="kubernetes", in_cluster=True, allocator="kueue", queue="team-a")
    >>> admission(None, place).text
    "waits for Kueue to take it into queue 'team-a'; if that lasts, Kueue does not manage this namespace, or has no such queue"
    """
    queue = f"queue {place.queue!r}"
    if workload is None:
        return Admission(
            "waiting", f"waits for Kueue to take it into {queue}; if that lasts, Kueue does not manage this namespace, or has no such queue"
        )
    return _of_workload(workload, place, queue)


def _of_workload(workload: Document, place: PlaceSpec, queue: str) -> Admission:
    conditions = {found["type"]: found for found in workload.get("status", {}).get("conditions") or ()}
    if _holds(conditions, "Finished"):
        return Admission("finished", _said(conditions["Finished"]))
    if workload.get("spec", {}).get("active") is False:
        why = _said(conditions.get("Evicted") or conditions.get("DeactivationTarget") or {})
        return Admission("refused", f"Kueue has deactivated it{f': {why}' if why else ''}; whoever runs the cluster can activate it again")
    if _holds(conditions, "Admitted"):
        return Admission("admitted", _of_admitted(workload, conditions))
    if _holds(conditions, "Evicted"):
        evicted = conditions["Evicted"]
        return Admission("evicted", f"{_EVICTED.get(evicted.get('reason', '').partition('DueTo')[0], 'was evicted')} ({_said(evicted)})")
    if _holds(conditions, "QuotaReserved"):
        return _of_checks(workload, queue)
    return _of_queue(conditions.get("QuotaReserved") or {}, place, queue)


def _of_admitted(workload: Document, conditions: Mapping[str, Document]) -> str:
    by = (workload.get("status", {}).get("admission") or {}).get("clusterQueue")
    said = f"Kueue has admitted it{f' by ClusterQueue {by!r}' if by else ''}"
    ready = conditions.get("PodsReady")
    return f"{said}; {_said(ready)}" if ready and ready.get("status") == "False" and _said(ready) else said


def _of_checks(workload: Document, queue: str) -> Admission:
    """Read which checks stand between a reserved quota and the start."""
    checks = [check for check in workload.get("status", {}).get("admissionChecks") or () if check.get("state") != "Ready"]
    told = ", ".join(f"{check['name']} is {check.get('state', 'Pending')}{_because(check)}" for check in checks)
    if any(check.get("state") == "Rejected" for check in checks):
        return Admission("refused", f"has quota in {queue}, and Kueue's checks will not let it start: {told}")
    return Admission("waiting", f"has quota in {queue} and waits for Kueue's checks: {told or 'none is told'}")


def _of_queue(reserved: Document, place: PlaceSpec, queue: str) -> Admission:
    """Read why there is no quota yet."""
    said = _said(reserved)
    if any(words in said for words in _TOO_LARGE):
        return Admission("refused", f"{queue} can never hold it: {said}; ask for less, or have its ClusterQueue enlarged")
    if "doesn't exist" in said:
        return Admission("waiting", f"waits in {queue}: {said}; correct the queue of place {place.name!r}, or have it made")
    return Admission("waiting", f"waits in {queue}: {said}" if said else f"waits in {queue} for its turn")


def _holds(conditions: Mapping[str, Document], kind: str) -> bool:
    return conditions.get(kind, {}).get("status") == "True"


def _said(condition: Mapping[str, Any]) -> str:
    return str(condition.get("message") or condition.get("reason") or "").strip().rstrip(".")


def _because(check: Document) -> str:
    return f" ({check['message'].strip()})" if check.get("message") else ""
