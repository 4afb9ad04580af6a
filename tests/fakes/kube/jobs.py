"""What the Job controller decides, from a Job and its pods."""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fakes.kube.conditions import condition, holds
from fakes.kube.store import Document, now, seconds

TRACKING: Final = "batch.kubernetes.io/job-tracking"


@dataclass(slots=True)
class Decision:
    """What is to be done.

    Parameters
    ----------
    status : mapping
        The Job's, then.
    create : bool
        Whether a pod is to be made.
    delete : list of str
        Pods that are to go.
    forget : bool
        Whether these do not count any more, however they end: there are too many of them.
    later_s : float or None
        When to look again.
    """

    status: dict[str, Any]
    create: bool = False
    delete: list[str] = field(default_factory=list)
    forget: bool = False
    later_s: float | None = None


def finished(job: Document) -> dict[str, Any] | None:
    """Return the condition that ended a Job, or None."""
    return holds(job.get("status"), "Complete") or holds(job.get("status"), "Failed")


def decide(job: Document, pods: Sequence[Document], forgotten: Collection[str] = ()) -> Decision:
    """Return what to do about a Job of one pod at a time.

    Parameters
    ----------
    job : mapping
    pods : sequence of mapping
    forgotten : collection of str
        Identities of pods that are only waited for: how they end does not count.
    """
    spec, status = job["spec"], copy.deepcopy(job.get("status") or {})
    made = Decision(status)
    if finished(job):
        _count(status, job, pods)
        return made
    counted = [pod for pod in pods if pod["metadata"]["uid"] not in forgotten]
    failed = [pod for pod in counted if _phase(pod) == "Failed"]
    ended = [pod for pod in counted if _phase(pod) == "Succeeded"]
    live = [pod for pod in pods if _phase(pod) not in ("Failed", "Succeeded")]
    going = [pod for pod in live if "deletionTimestamp" in pod["metadata"]]
    _count(status, job, [pod for pod in pods if pod in counted or pod in going])
    if spec["podReplacementPolicy"] != "Failed":
        failed += going
        live = [pod for pod in live if pod not in going]
        going = []
    if spec.get("suspend"):
        made.delete, made.forget = [pod["metadata"]["name"] for pod in live if pod not in going], True
        status.pop("startTime", None)
        condition(status, "Suspended", True, "JobSuspended", "Job suspended")
        return made
    if "startTime" not in status:
        status["startTime"] = now()
        if holds(status, "Suspended"):
            condition(status, "Suspended", False, "JobResumed", "Job resumed")
    if why := _failure(job, failed, status):
        made.delete = [pod["metadata"]["name"] for pod in live if pod not in going]
        condition(status, "FailureTarget", True, *why)
        if not live:
            condition(status, "Failed", True, *why)
    elif len(ended) >= spec["completions"]:
        condition(status, "SuccessCriteriaMet", True, "CompletionsReached", "Reached expected number of succeeded pods")
        condition(status, "Complete", True, "CompletionsReached", "Reached expected number of succeeded pods")
        status["completionTime"] = now()
    else:
        _balance(made, spec["parallelism"], [pod for pod in live if pod not in going], going, len(ended))
    if deadline := spec.get("activeDeadlineSeconds"):
        made.later_s = max(0.05, seconds(status["startTime"]) + deadline - time.time())
    return made


def _balance(made: Decision, wanted: int, active: Sequence[Document], going: Sequence[Document], ended: int) -> None:
    """Have a pod made where one is missing, once those that go are gone; have those removed that are too many."""
    made.create = len(active) + len(going) + ended < wanted
    if len(active) > wanted:
        made.delete, made.forget = [pod["metadata"]["name"] for pod in active[wanted:]], True


def pod_of(job: Document) -> Document:
    """Return the next pod of a Job."""
    template, metadata = job["spec"]["template"], job["metadata"]
    given = template.get("metadata") or {}
    labels = {**(given.get("labels") or {}), **selector(job)}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
    owner |= {"controller": True, "blockOwnerDeletion": True}
    base = f"{metadata['name'][:57]}-"
    made = {"generateName": base, "labels": labels, "finalizers": [TRACKING], "ownerReferences": [owner]}
    if given.get("annotations"):
        made["annotations"] = given["annotations"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": copy.deepcopy(template["spec"])}


def selector(job: Document) -> dict[str, str]:
    """Return the labels that a Job's pods have."""
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    return {
        "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name,
    }  # fmt: skip


def _count(status: dict[str, Any], job: Document, pods: Sequence[Document]) -> None:
    phases = [_phase(pod) for pod in pods]
    going = [pod for pod in pods if "deletionTimestamp" in pod["metadata"] and _phase(pod) in ("Pending", "Running")]
    active = len([phase for phase in phases if phase in ("Pending", "Running")]) - len(going)
    ready = sum(holds(pod.get("status"), "Ready") is not None for pod in pods if _phase(pod) == "Running")
    doomed = len(going) if job["spec"]["podReplacementPolicy"] != "Failed" else 0
    failed = max(phases.count("Failed") + doomed, status.get("failed", 0))
    succeeded = max(phases.count("Succeeded"), status.get("succeeded", 0))
    for name, count in (("active", active), ("failed", failed), ("succeeded", succeeded)):
        if count:
            status[name] = count
        else:
            status.pop(name, None)
    status |= {"ready": ready, "terminating": len(going), "uncountedTerminatedPods": {}}
    if holds(status, "FailureTarget") and not finished({"status": status}) and not active and not going:
        found = holds(status, "FailureTarget") or {}
        condition(status, "Failed", True, found["reason"], found["message"])


def _failure(job: Document, failed: Sequence[Document], status: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why a Job has failed."""
    spec = job["spec"]
    if found := holds(dict(status), "FailureTarget"):
        return found["reason"], found["message"]
    for pod in failed:
        if message := _forbidden(spec.get("podFailurePolicy") or {}, pod):
            return "PodFailurePolicy", message
    counted = [pod for pod in failed if not _ignored(spec.get("podFailurePolicy") or {}, pod)]
    if max(len(counted), status.get("failed", 0) if "podFailurePolicy" not in spec else 0) > spec["backoffLimit"]:
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = spec.get("activeDeadlineSeconds")
    if deadline and time.time() >= seconds(status["startTime"]) + deadline:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    return None


def _forbidden(policy: Mapping[str, Any], pod: Document) -> str:
    for at, rule in enumerate(policy.get("rules") or []):
        if matched := _matches(rule, pod):
            where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            return f"{matched.format(where=where)} matching {rule['action']} rule at index {at}" if rule["action"] == "FailJob" else ""
    return ""


def _ignored(policy: Mapping[str, Any], pod: Document) -> bool:
    for rule in policy.get("rules") or []:
        if _matches(rule, pod):
            return bool(rule["action"] == "Ignore")
    return False


def _matches(rule: Mapping[str, Any], pod: Document) -> str:
    for wanted in rule.get("onPodConditions") or []:
        for found in (pod.get("status") or {}).get("conditions") or []:
            if found["type"] == wanted["type"] and found["status"] == wanted.get("status", "True"):
                return f"Pod {{where}} has condition {found['type']}"
    codes = rule.get("onExitCodes")
    if not codes:
        return ""
    status = pod.get("status") or {}
    for one in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]:
        code = (one["state"].get("terminated") or {}).get("exitCode")
        named = codes.get("containerName") in (None, one["name"])
        if code and named and (code in codes["values"]) == (codes["operator"] == "In"):
            return f"Container {one['name']} for pod {{where}} failed with exit code {code}"
    return ""


def _phase(pod: Document) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))
