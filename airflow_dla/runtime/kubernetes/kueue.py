"""Kueue, where it decides which job starts when: what a Job tells it, and what it tells of a job.

A Job with the label of a queue is begun suspended; Kueue makes a Workload of it, and starts it
when the queue has quota for it. A Workload that is evicted after its pods have run is an
attempt that made way: Kueue would start the same Job again, and an attempt has one pod.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from airflow_dla.errors import LaunchRefused, PlaceError
from airflow_dla.runtime.kubernetes.answers import Forbidden
from airflow_dla.runtime.kubernetes.facts import Document
from airflow_dla.runtime.kubernetes.names import QUEUE
from airflow_dla.specs import ExitReason, JobFile, PlaceSpec

#: Label of a Job with the class that says before whom it goes.
PRIORITY: Final = "kueue.x-k8s.io/priority-class"
#: Label of a Workload with the uid of its Job.
OF_JOB: Final = "kueue.x-k8s.io/job-uid"

State = Literal["waiting", "admitted", "evicted", "refused", "finished"]

#: What Kueue says of a request that no quota can ever hold, and of one that another flavor may hold yet.
_TOO_LARGE: Final = ("> maximum capacity", "unavailable in ClusterQueue")
_HOPEFUL: Final = ("insufficient unused quota", "Pending the preemption")
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
#: So long, and up to twice as long, a member waits for its quota while the first holds what it has, s.
_STARVES_S: Final = 180.0
#: What of Kueue's words says nothing to people.
_FOR_MACHINES: Final = re.compile(r" \(UID: [^)]*\)|; preempt(or|ee) path: \S+?(?=;|$)")
#: Events of a Job of which Kueue makes no Workload.
_UNTAKEN: Final = frozenset({"WorkloadPriorityClassNotFound", "ErrWorkloadCompose"})
#: What would do about a queue that admits nothing.
_ADVICE: Final[Mapping[str, str]] = {
    "doesn't exist": "correct the queue of place {place!r}, or have it made",
    "is inactive": "it starts nothing until whoever runs the cluster lets it",
    "doesn't match ClusterQueue selector": "have the ClusterQueue take jobs of this namespace",
    "doesn't match node affinity": "no flavor of the queue has nodes of the labels that place and job ask for",
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


def look(cluster: WorkloadsLike, job: Document, place: PlaceSpec, events: Callable[[], Sequence[Document]] = tuple) -> Admission:
    """Ask what Kueue makes of a Job.

    Parameters
    ----------
    cluster : `WorkloadsLike`
    job : mapping
    place : `PlaceSpec`
    events : callable, optional
        Returns what is said of the Job: only there stands why Kueue makes no Workload of it.

    Raises
    ------
    NotFound
        If the cluster has no Kueue.
    PlaceUnavailable
        If it does not answer.
    """
    try:
        workloads, _ = cluster.list("workloads", labels=selector(job))
    except Forbidden:
        if not job["spec"].get("suspend"):
            return Admission("admitted", "Kueue has admitted it")
        return Admission("waiting", f"waits for Kueue to admit it in queue {place.queue!r}; why is not shown to this user")
    workload = workload_of(job, workloads)
    said = next((str(event["message"]) for event in events() if event.get("reason") in _UNTAKEN), "") if workload is None else ""
    if said:
        return Admission("waiting", f"Kueue does not take it into queue {place.queue!r}: {said}; correct the place, or have it made")
    return admission(workload, place)


def taken_back(cluster: WorkloadsLike, job: Document, place: PlaceSpec) -> tuple[ExitReason, str]:
    """Say why Kueue took a Job back: it made way and another attempt follows, or somebody wants it not to run at all."""
    try:
        workload = workload_of(job, cluster.list("workloads", labels=selector(job))[0])
    except PlaceError:
        workload = None
    found = admission(workload, place)
    if found.state == "refused":
        return ExitReason.REFUSED, found.text
    if found.state == "evicted":
        return ExitReason.PREEMPTED, f"Kueue took it back: it {found.text}"
    conditions = {} if workload is None else {each["type"]: each for each in workload.get("status", {}).get("conditions") or ()}
    before = _said(conditions.get("Evicted") or {}).removeprefix("Previously: ")
    return ExitReason.PREEMPTED, f"Kueue took it back{f': {before}' if before else ''}"


def starves(job: JobFile, waited_s: float) -> bool:
    """Return whether a member of a distributed job has waited so long for its quota that all members had better make way.

    Kueue admits each by itself, and the first holds its quota until the last is there: two such
    jobs may wait for each other for ever. Each gives up after a time of its own.

    Parameters
    ----------
    job : `JobFile`
    waited_s : float
        Since its Job was made, seconds.

    Examples
    --------
    >>> from airflow_dla.specs import Entrypoint, Grant
    >>> run, grant = Entrypoint(command=("true",)), Grant(id="a.1", node="k")
    >>> alone = JobFile(attempt="a.1", entrypoint=run, store="file:///s", checkpoint="a", nonce="n", grant=grant)
    >>> starves(alone, 1e6)
    False
    """
    if job.part is None or job.part.node_rank == 0:
        return False
    apart = int.from_bytes(hashlib.sha256(job.attempt.encode()).digest()[:4], "big") / (1 << 32)
    return waited_s > _STARVES_S * (1.0 + apart)


def refuse_foreign(job: Document, place: PlaceSpec) -> None:
    """Refuse a Job that Kueue has taken though its place does not say so: both would decide when it runs.

    Raises
    ------
    LaunchRefused
        If the Job has a queue that is not ours.
    """
    queue = (job["metadata"].get("labels") or {}).get(QUEUE)
    if queue is not None:
        raise LaunchRefused(
            f"place {place.name}: Kueue puts the Jobs of this namespace into queue {queue!r}; say allocator: kueue, queue: {queue} "
            "for the place, or name a namespace without a default LocalQueue"
        )


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
        return Admission("finished", f"Kueue counts it as finished: {_said(conditions['Finished'])}")
    if workload.get("spec", {}).get("active") is False:
        why = _said(conditions.get("Evicted") or conditions.get("DeactivationTarget") or {})
        return Admission("refused", f"Kueue has deactivated it{f': {why}' if why else ''}; whoever runs the cluster can activate it again")
    if _holds(conditions, "Evicted"):
        # It counts as admitted until its pod is gone.
        return Admission("evicted", _of_evicted(conditions["Evicted"]))
    if _holds(conditions, "Admitted"):
        return Admission("admitted", _of_admitted(workload, conditions))
    if _holds(conditions, "QuotaReserved"):
        return _of_checks(workload, queue)
    return _of_queue(conditions.get("QuotaReserved") or {}, place, queue)


def _of_admitted(workload: Document, conditions: Mapping[str, Document]) -> str:
    by = (workload.get("status", {}).get("admission") or {}).get("clusterQueue")
    said = f"Kueue has admitted it{f' by ClusterQueue {by!r}' if by else ''}"
    ready = conditions.get("PodsReady")
    return f"{said}; {_said(ready)}" if ready and ready.get("status") == "False" and _said(ready) else said


def _of_evicted(evicted: Document) -> str:
    return f"{_EVICTED.get(evicted.get('reason', '').partition('DueTo')[0], 'was evicted')} ({_said(evicted)})"


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
    if any(words in said for words in _TOO_LARGE) and not any(words in said for words in _HOPEFUL):
        return Admission("refused", f"{queue} can never hold it: {said}; ask for less, or have its ClusterQueue enlarged")
    advice = next((advice for words, advice in _ADVICE.items() if words in said), "")
    if advice:
        return Admission("waiting", f"waits in {queue}: {said}; {advice.format(place=place.name)}")
    return Admission("waiting", f"waits in {queue}: {said}" if said else f"waits in {queue} for its turn")


def _holds(conditions: Mapping[str, Document], kind: str) -> bool:
    return conditions.get(kind, {}).get("status") == "True"


def _said(condition: Mapping[str, Any]) -> str:
    return _FOR_MACHINES.sub("", str(condition.get("message") or condition.get("reason") or "")).strip().rstrip(".")


def _because(check: Document) -> str:
    return f" ({check['message'].strip()})" if check.get("message") else ""
