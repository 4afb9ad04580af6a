"""What a pod and a Job say of themselves, as values to decide from.

Documents are those of the API, as plain mappings; what is missing in them was not said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from airflow_dla.runtime.facts import Stop, seconds
from airflow_dla.runtime.kubernetes import names
from airflow_dla.specs import Exit, Grant, JobFile

Document = Mapping[str, Any]

#: Containers of an attempt's pod: the job's own, and ours that fetch before it and publish beside it.
MAIN: Final = "main"
FETCH: Final = "fetch"
MATE: Final = "mate"

_TRACKING: Final = "batch.kubernetes.io/job-tracking"
_OVER: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What the cluster says of an object.

    Parameters
    ----------
    true : bool
    reason, message : str
    at : float
        Since when, seconds since the epoch; 0 where it does not say.
    """

    true: bool
    reason: str = ""
    message: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What a node says of a container.

    Parameters
    ----------
    state : {"waiting", "running", "terminated"}
    reason, message : str
        Why it waits, or how it ended.
    code : int or None
        Exit status of one that ended; 128 + N where signal N ended it.
    started_at, finished_at : str
        As the API writes times.
    restarts : int
    resources : mapping
        ``{"requests": …, "limits": …}`` that are in force, where the node says so.
    image : str
        As its id.
    """

    state: str = "waiting"
    reason: str = ""
    message: str = ""
    code: int | None = None
    started_at: str = ""
    finished_at: str = ""
    restarts: int = 0
    resources: Mapping[str, Any] = field(default_factory=dict)
    image: str = ""

    @classmethod
    def from_status(cls, status: Document) -> Self:
        """Read one of ``status.containerStatuses``."""
        state = status.get("state") or {}
        kind = next((name for name in ("terminated", "running", "waiting") if state.get(name) is not None), "waiting")
        said = state.get(kind) or {}
        return cls(
            state=kind,
            reason=str(said.get("reason") or ""),
            message=str(said.get("message") or ""),
            code=int(said.get("exitCode") or 0) if kind == "terminated" else None,
            started_at=str(said.get("startedAt") or ""),
            finished_at=str(said.get("finishedAt") or ""),
            restarts=int(status.get("restartCount") or 0),
            resources=status.get("resources") or {},
            image=str(status.get("imageID") or ""),
        )

    @property
    def ended(self) -> bool:
        """Whether it has ended; ours that publish are started again when they do."""
        return self.state == "terminated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What is known of an attempt's pod.

    Parameters
    ----------
    name, uid : str
    attempt : str or None
    node, address : str
        The cluster's node, and the pod's own IP; empty until there is one.
    pinned : bool
        Whether one node alone will do, which was granted.
    gates : tuple of str
        What keeps it from the scheduler.
    tracked : bool
        Whether its Job will count how it ends.
    phase, reason, message : str
    generation : int
        How often what is wanted of it was changed.
    created_at : float
        Seconds since the epoch.
    deleted_at : float or None
        When somebody asked for its deletion; None where nobody did.
    grace_s : float
        What it is given to end in, once its deletion was asked for.
    containers : mapping of name to `Container`
        Ours included; one that the node has not told of yet is missing.
    conditions : mapping of type to `Condition`
    """

    name: str
    uid: str = ""
    attempt: str | None = None
    node: str = ""
    address: str = ""
    pinned: bool = False
    gates: tuple[str, ...] = ()
    tracked: bool = True
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    generation: int = 0
    created_at: float = 0.0
    deleted_at: float | None = None
    grace_s: float = 0.0
    containers: Mapping[str, Container] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: Document) -> Self:
        """Read a Pod."""
        metadata, status = document["metadata"], document.get("status") or {}
        told = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        return cls(
            name=str(metadata.get("name") or ""),
            uid=str(metadata.get("uid") or ""),
            attempt=names.attempt_of(document),
            node=str((document.get("spec") or {}).get("nodeName") or ""),
            address=str(status.get("podIP") or ""),
            pinned=_is_pinned(document.get("spec") or {}),
            gates=gates_of(document),
            tracked=_TRACKING in (metadata.get("finalizers") or ()),
            phase=str(status.get("phase") or "Pending"),
            reason=str(status.get("reason") or ""),
            message=str(status.get("message") or ""),
            generation=int(metadata.get("generation") or 0),
            created_at=seconds(metadata.get("creationTimestamp")),
            deleted_at=_deleted_at(metadata),
            grace_s=float(metadata.get("deletionGracePeriodSeconds") or 0),
            containers={str(found["name"]): Container.from_status(found) for found in told},
            conditions=conditions(status),
        )

    @property
    def main(self) -> Container:
        """The job's own container."""
        return self.containers.get(MAIN, _UNTOLD)

    @property
    def fetches(self) -> bool:
        """Whether ours runs that fetches inputs."""
        return self.containers.get(FETCH, _UNTOLD).state == "running"

    @property
    def held(self) -> bool:
        """Whether it was not let go yet: nothing of it runs, nor ever did."""
        return names.GATE in self.gates

    @property
    def over(self) -> bool:
        """Whether nothing of it runs any more, nor ever will."""
        return self.phase in _OVER

    @property
    def started(self) -> bool:
        """Whether the job's own program was started."""
        return self.main.state == "running" or (self.main.ended and seconds(self.main.started_at) > 0)

    @property
    def unreachable(self) -> Condition | None:
        """Since when its node has not said anything of it; None while it does."""
        ready = self.conditions.get("Ready")
        silent = self.conditions.get("DisruptionTarget")
        if ready is not None and not ready.true and ready.reason == "NodeLost":
            return ready
        return silent if silent is not None and silent.true and silent.reason == "DeletionByTaintManager" and not self.over else None


_UNTOLD: Final = Container()


def conditions(status: Document) -> dict[str, Condition]:
    """Return the conditions of an object's status, by type."""
    found: Iterable[Document] = status.get("conditions") or ()
    return {str(condition.get("type")): _condition(condition) for condition in found}


def is_over(job: Document) -> bool:
    """Whether a Job makes no pod any more."""
    told = conditions(job.get("status") or {})
    return any(told[name].true for name in ("Complete", "Failed", "FailureTarget") if name in told)


def is_suspended(job: Document) -> bool:
    """Whether a Job waits for us, or for Kueue."""
    return bool(job["spec"].get("suspend"))


def _condition(found: Document) -> Condition:
    return Condition(
        true=found.get("status") == "True",
        reason=str(found.get("reason") or ""),
        message=str(found.get("message") or ""),
        at=seconds(found.get("lastTransitionTime")),
    )


def gates_of(pod: Document) -> tuple[str, ...]:
    """Return what keeps a pod from the scheduler, in order."""
    return tuple(str(gate.get("name")) for gate in (pod.get("spec") or {}).get("schedulingGates") or ())


def _is_pinned(spec: Document) -> bool:
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = affinity.get("nodeSelectorTerms") or ()
    return bool(terms) and all(any(found.get("key") == "metadata.name" for found in term.get("matchFields") or ()) for term in terms)


def _deleted_at(metadata: Document) -> float | None:
    """Return when a deletion was asked for; the API says when it is due."""
    due = metadata.get("deletionTimestamp")
    return None if not due else seconds(due) - float(metadata.get("deletionGracePeriodSeconds") or 0)


# --- what a Job remembers ------------------------------------------------------------


def job_of(document: Document) -> JobFile | None:
    """Return what was launched, with the grant that holds now; None of a Job that says nothing of it."""
    found = _annotation(document, names.JOB)
    if found is None:
        return None
    grant = _annotation(document, names.GRANT)
    return JobFile.from_mapping({**found, "grant": grant} if grant is not None else found)


def granted_of(document: Document) -> Grant | None:
    """Return the grant that holds since a resize; None where there was none."""
    found = _annotation(document, names.GRANT)
    return None if found is None else Grant.from_mapping(found)


def stop_of(document: Document) -> Stop | None:
    """Return the stop that is wanted, and when it was asked for, seconds since the epoch."""
    found = _annotation(document, names.STOP)
    return None if found is None else Stop.from_mapping(found)


@dataclass(frozen=True, slots=True)
class Bound:
    """The pod of a Job that was let go: no other of it ever is.

    Parameters
    ----------
    name, uid : str
    """

    name: str
    uid: str


def bound_of(document: Document) -> Bound | None:
    """Return the pod that runs for a Job which Kueue may start again; None until one was let go."""
    found = _annotation(document, names.POD)
    return None if found is None else Bound(str(found["name"]), str(found["uid"]))


def exit_of(document: Document) -> Exit | None:
    """Return how the attempt ended, once that was concluded: then it holds, whatever becomes of its pod."""
    found = _annotation(document, names.EXIT)
    return None if found is None else Exit.from_mapping(found)


def _annotation(document: Document, name: str) -> dict[str, Any] | None:
    found = ((document.get("metadata") or {}).get("annotations") or {}).get(name)
    return None if found is None else dict(json.loads(found))
