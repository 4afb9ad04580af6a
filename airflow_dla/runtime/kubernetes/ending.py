"""How a pod ended: what a cluster says of it, as an engine would say it of a container, and whose doing it was.

What a cluster does to a pod (drains, preemption, a node that is gone, somebody's ``kubectl
delete``) is nobody's failure: the attempt is lost or preempted, and a new one is made. What
the program did before that counts first.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from airflow_dla.runtime.conclude import conclude, finite
from airflow_dla.runtime.facts import Staged, Stop, seconds
from airflow_dla.runtime.kubernetes.facts import FETCH, MAIN, Condition, Container, Document, Pod, conditions
from airflow_dla.specs import Exit, ExitReason, JobFile
from airflow_dla.specs.values import remark

#: Reasons of the condition DisruptionTarget, and of a pod's status: what happened, in words, and what kind of end it is.
_DISRUPTIONS: Final[Mapping[str, tuple[ExitReason, str]]] = {
    "PreemptionByScheduler": (ExitReason.PREEMPTED, "a pod of a higher priority class took its place"),
    "Preempting": (ExitReason.PREEMPTED, "its node needed the room for a critical pod"),
    "EvictionByEvictionAPI": (ExitReason.LOST, "it was evicted, as when a node is drained"),
    "DeletionByTaintManager": (ExitReason.LOST, "its node was tainted, which happens by itself when a node does not answer"),
    "DeletionByPodGC": (ExitReason.LOST, "its node is gone"),
    "NodeShutdown": (ExitReason.LOST, "its node was shut down"),
    "Shutdown": (ExitReason.LOST, "its node was shut down"),
    "Terminated": (ExitReason.LOST, "its node was shut down"),
    "NodeLost": (ExitReason.LOST, "its node does not answer"),
    "NodeAffinity": (ExitReason.LOST, "its node is not what was granted any more"),
    "UnexpectedAdmissionError": (ExitReason.LOST, "its node could not hand out what was granted"),
    "Evicted": (ExitReason.LOST, "its node was short of something"),
    "TerminationByKubelet": (ExitReason.LOST, "its node ended it"),
}
#: What a kubelet calls a pod that does not fit after all: ``OutOfcpu``, ``OutOfnvidia.com/gpu``.
_DOES_NOT_FIT: Final = "OutOf"

#: What a kubelet says of a pod that wrote more than it may; the job's own doing, and its author's to mend.
_WROTE_TOO_MUCH: Final = re.compile(
    r"Usage of EmptyDir volume \"(?P<volume>[^\"]+)\" exceeds the limit \"(?P<limit>[^\"]+)\""
    r"|ephemeral local storage usage exceeds|local ephemeral storage limit",
)
#: A Job's own word of the exit status of a pod that is gone.
_STATUS: Final = re.compile(r"failed with exit code (\d+)")
_NOT_STARTED: Final = frozenset({"StartError", "ContainerCannotRun", "CreateContainerError", "RunContainerError"})
_MEMORY: Final = "OOMKilled"
#: How a program ends that is made to: 128 + SIGKILL, 128 + SIGTERM.
_SIGNALLED: Final = frozenset({137, 143})
#: A kubelet deletes a pod so long after its containers ended, or a little later, s.
_DELETES_S: Final = 5.0
#: What a kubelet says of a container that it does not find any more.
_FORGOTTEN: Final = "ContainerStatusUnknown"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a pod ended.

    Parameters
    ----------
    state : mapping
        As an engine's ``State`` of a container, for `conclude`; empty where nothing is known.
    verdict : pair of `ExitReason` and str, or None
        What it was where the program itself has no say: what was done to it, or to ours before it.
    """

    state: Mapping[str, Any]
    verdict: tuple[ExitReason, str] | None = None


def ending(pod: Pod | None, document: Document | None, events: Sequence[Document] = ()) -> Ending:
    """Say how an attempt's pod ended.

    Parameters
    ----------
    pod : `Pod` or None
        As it was seen last; None where nobody has seen it.
    document : mapping or None
        Its Job; None where that is gone too.
    events : sequence of mapping
        Of the pod, as far as somebody looked: they tell best whether it was made to end.

    Examples
    --------
    >>> ending(None, None).verdict[0].value
    'lost'
    """
    if pod is None:
        return _unseen(document)
    state = _state(pod.main)
    if _ended_by_itself(pod, events):
        return Ending(state)
    verdict = _done_to(pod) or _before(pod)
    if verdict is not None or pod.main.ended:
        return Ending(state, verdict)
    known = _unseen(document)
    return known if known.state else Ending(state, _deleted(pod))


def concluded(
    job: JobFile,
    found: Ending,
    *,
    stop: Stop | None,
    hard: bool,
    said: Sequence[Mapping[str, Any]],
    tail: bytes,
    metrics: Mapping[str, float],
    staged: Staged | None,
    image: str = "",
    peaks: Mapping[str, Any] = MappingProxyType({}),
) -> Exit:
    """Say how an attempt ended: a stop that was wanted first, then what was done to its pod, then what it says itself.

    Parameters
    ----------
    job : `JobFile`
    found : `Ending`
    stop, hard, said, tail, metrics, staged, image
        As `airflow_dla.runtime.conclude.conclude` takes them.
    peaks : mapping of resource to float
        What it used, as `usage` has it; what the helper beside it says counts more.
    """
    end = conclude(job, found.state, stop=stop, hard=hard, said=said, tail=tail, metrics=metrics, staged=staged, image=image)
    end = dataclasses.replace(end, peaks={**finite(peaks), **end.peaks})
    if stop is not None and stop.why:
        return dataclasses.replace(end, message=remark(stop.why, "message"))
    if stop is not None or found.verdict is None:
        return end
    reason, message = found.verdict
    return dataclasses.replace(end, reason=reason, message=message, outputs={})


# --- what the program did ------------------------------------------------------------


def _state(main: Container) -> dict[str, Any]:
    """Return a container as an engine would say it."""
    if not main.ended:
        return {"StartedAt": main.started_at} if main.started_at else {}
    started = seconds(main.started_at) > 0 and main.reason not in _NOT_STARTED
    return {
        "StartedAt": main.started_at if started else "",
        "FinishedAt": main.finished_at,
        "ExitCode": main.code,
        "OOMKilled": main.reason == _MEMORY,
        "Error": "" if started else main.message or main.reason,
    }


def _ended_by_itself(pod: Pod, events: Sequence[Document]) -> bool:
    """Return whether the program had ended before anything was done to its pod.

    A kubelet says when it stops a container. Where nobody heard it there are times, in whole
    seconds, and of a deletion in the end only when it was done.
    """
    main = pod.main
    if not main.ended or main.reason == _FORGOTTEN:
        return False
    if main.code == 0:
        return True
    if pod.reason in _DISRUPTIONS or any(_stops_main(event) for event in events):
        return False
    finished_at, disruption = seconds(main.finished_at), _disruption(pod)
    if disruption is not None and disruption.at <= finished_at:
        return False
    if pod.deleted_at is None or main.reason == _MEMORY:
        return True
    return main.code not in _SIGNALLED and (bool(events) or finished_at < pod.deleted_at - _DELETES_S)


def _stops_main(event: Document) -> bool:
    return event.get("reason") == "Killing" and str(event.get("message", "")).startswith(f"Stopping container {MAIN}")


def _unseen(document: Document | None) -> Ending:
    """Conclude from a Job alone: its conditions keep what became of a pod that is gone."""
    status = {} if document is None else document.get("status") or {}
    told = conditions(status)
    times = {"StartedAt": str(status.get("startTime") or "")}
    if told.get("Complete", _NO).true:
        return Ending({**times, "ExitCode": 0, "FinishedAt": str(status.get("completionTime") or "")})
    failed = next((told[name] for name in ("Failed", "FailureTarget") if told.get(name, _NO).true), _NO)
    code = _STATUS.search(failed.message)
    if code is not None and f"Container {MAIN} " in failed.message and int(code[1]) not in _SIGNALLED:
        return Ending({**times, "ExitCode": int(code[1]), "FinishedAt": times["StartedAt"]})
    if "DisruptionTarget" in failed.message:
        return Ending({}, (ExitReason.LOST, f"its pod was ended by its cluster and is gone: {failed.message}"))
    gone = "its Job and its pod are gone" if document is None else "its pod is gone"
    return Ending({}, (ExitReason.LOST, f"{gone} and left no word: somebody deleted it, or its node is gone"))


_NO: Final = Condition(true=False)


# --- what was done to it -------------------------------------------------------------


def _disruption(pod: Pod) -> Condition | None:
    found = pod.conditions.get("DisruptionTarget")
    return found if found is not None and found.true else None


def _done_to(pod: Pod) -> tuple[ExitReason, str] | None:
    """Return what a cluster did to a pod; None if nothing is known of that."""
    disruption = _disruption(pod)
    told = pod.message or (disruption.message if disruption else "")
    excess = _WROTE_TOO_MUCH.search(told)
    if excess is not None and pod.reason == "Evicted":
        return ExitReason.USER_ERROR, _excess(excess, told)
    known = _known(pod, disruption)
    if known is None:
        return _deleted(pod) if pod.deleted_at is not None else None
    reason, what = known
    where = f" on node {pod.node}" if pod.node else ""
    return reason, f"its pod was ended{where}: {what}{_in_brackets(told)}"


def _known(pod: Pod, disruption: Condition | None) -> tuple[ExitReason, str] | None:
    if pod.reason.startswith(_DOES_NOT_FIT):
        return ExitReason.LOST, f"its node {pod.node} had no room after all; others use it, past the ledger"
    # The kubelet's own word says more than that it was the kubelet.
    reasons = [pod.reason, disruption.reason if disruption else ""]
    known = next((_DISRUPTIONS[reason] for reason in reasons if reason in _DISRUPTIONS), None)
    if known is None and disruption is not None:
        return ExitReason.LOST, f"its cluster ended it ({disruption.reason})"
    if known is None and pod.main.reason == _FORGOTTEN:
        return ExitReason.LOST, f"its node does not know of it any more{_in_brackets(pod.main.message)}"
    return known


def _excess(match: re.Match[str], told: str) -> str:
    if match["volume"] == "tmp":
        return f"it wrote more than {match['limit']} bytes into /tmp, which lies in memory; write what is large into $TMPDIR"
    if match["volume"] == "shm":
        return f"it held more than {match['limit']} bytes in /dev/shm; ask for more with request={{'shm': …}}"
    return f"it wrote more to disk than it was granted; ask for more with request={{'disk': …}}{_in_brackets(told)}"


def _deleted(pod: Pod) -> tuple[ExitReason, str]:
    if pod.deleted_at is None:
        return ExitReason.LOST, f"its pod {pod.name} is gone and left no word: somebody deleted it, or its node is gone"
    who = "by somebody or something that is not us; the cluster's audit log tells who"
    return ExitReason.LOST, f"its pod {pod.name} was deleted, {who}"


def _before(pod: Pod) -> tuple[ExitReason, str] | None:
    """Return what went wrong before the job began: in a container of ours."""
    if pod.main.ended:
        return None
    broken = next((pod.containers[name] for name in (FETCH,) if name in pod.containers and pod.containers[name].code), None)
    if broken is None:
        return None
    if broken.reason == _MEMORY:
        return ExitReason.OUT_OF_MEMORY, "fetching its inputs took more memory than was granted; ask for more memory"
    if broken.reason in _NOT_STARTED:
        advice = "name a helper image with Python 3.8 or later for the place"
        return ExitReason.REFUSED, f"what fetches its inputs could not start: {broken.message or broken.reason}; {advice}"
    return ExitReason.LOST, f"what fetches its inputs ended with status {broken.code}{_in_brackets(broken.message)}; look into its log"


def _in_brackets(words: str) -> str:
    said = " ".join(words.split())
    return f" ({said[:400]})" if said else ""
