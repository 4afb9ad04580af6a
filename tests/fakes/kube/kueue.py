"""What Kueue does to the Jobs of a fake cluster, as one of 0.20 was seen to do it, in its words.

A Job of a queue gets a Workload. That has quota reserved and is admitted, by priority and
age, or its condition says why not; then its Job is let go. One of a lower priority makes
way: its Job is suspended, its quota is free as soon as no pod of it is active, and it is
admitted again, the same Job with a new pod, when there is room. Jobs whose label was taken
away are not looked at any more, and their Workloads go on as they were. Known differences:
one flavor for each resource, no cohorts, checks or topologies, no back-off.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import uuid
from collections.abc import Callable
from typing import Any, Final

from fakes.kube.amounts import quantity, requests_of, written
from fakes.kube.conditions import condition, holds
from fakes.kube.resources import RESOURCES, Refused
from fakes.kube.store import Document, Store, owners

_QUEUE: Final = "kueue.x-k8s.io/queue-name"
_CLASS: Final = "kueue.x-k8s.io/priority-class"
_KINDS: Final = ("jobs", "workloads", "localqueues", "clusterqueues", "workloadpriorityclasses")

#: Tells people something of an object: object, kind, reason, message, source.
Tell = Callable[[Document, str, str, str, str], None]


class Kueue:
    """One thread that looks at everything whenever something has changed.

    Parameters
    ----------
    store : `Store`
    tell : callable
        Makes an event.

    Attributes
    ----------
    paused : bool
        Whether its manager does not run.
    """

    def __init__(self, store: Store, tell: Tell) -> None:
        self.paused = False
        self._store = store
        self._tell = tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        at, due = self._store.start(None), True
        while not self._stop.is_set():
            try:
                changes, at = self._store.read(at, 0.05)
                due = due or any(change.key[0] in _KINDS for change in changes)
            except Refused:
                at, due = self._store.start(None), True
            if due and not self.paused:
                due = False
                try:
                    self._look()
                except Refused:  # gone, or changed by others: their change is the next one to be seen
                    due = True
                except Exception:
                    logging.getLogger(__name__).exception("Kueue failed")

    def _look(self) -> None:
        for queue in self._store.all("localqueues"):
            self._judge_queue(queue)
        for job in self._store.all("jobs"):
            if _QUEUE in (job["metadata"].get("labels") or {}) and "deletionTimestamp" not in job["metadata"]:
                self._look_at(job)
        for queue in self._store.all("clusterqueues"):
            self._schedule(queue)

    # --- queues ---

    def _judge_queue(self, queue: Document) -> None:
        of = self._store.get("clusterqueues", "", queue["spec"]["clusterQueue"])
        verdict = (True, "Ready", "Can submit new workloads to localQueue")
        if of is None:
            verdict = (False, "ClusterQueueDoesNotExist", "Can't submit new workloads to clusterQueue")
        elif _is_held(of):
            verdict = (False, "ClusterQueueIsInactive", "Can't submit new workloads to clusterQueue")
        elif _is_held(queue):
            verdict = (False, "Stopped", "LocalQueue is stopped")
        self._change(queue, lambda draft: condition(draft.setdefault("status", {}), "Active", *verdict))

    # --- one Job ---

    def _look_at(self, job: Document) -> None:
        workload = next((one for one in self._store.all("workloads") if job["metadata"]["uid"] in owners(one)), None)
        ended = holds(job["status"], "Complete") or holds(job["status"], "Failed")
        if workload is None:
            if not ended:
                self._make(job)
        elif ended:
            how = "Succeeded" if ended["type"] == "Complete" else "Failed"
            self._change(workload, lambda draft: condition(draft["status"], "Finished", True, how, ended.get("message", "")))
        elif holds(workload["status"], "Evicted") or not workload["spec"].get("active", True):
            self._take_back(job, workload)
        elif holds(workload["status"], "Admitted"):
            self._suspend(job, suspend=False)
        else:
            self._suspend(job, suspend=True)
            self._follow(job, workload)

    def _make(self, job: Document) -> None:
        labels, name = job["metadata"]["labels"], job["metadata"]["name"]
        named = labels.get(_CLASS)
        found = None if named is None else self._store.get("workloadpriorityclasses", "", named)
        if named is not None and found is None:
            words = f'WorkloadPriorityClass "{named}" not found'
            self._tell(job, "Warning", "WorkloadPriorityClassNotFound", words, "batch/job-kueue-controller")
            return
        self._suspend(job, suspend=True)
        uid, namespace = job["metadata"]["uid"], job["metadata"]["namespace"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": True, "blockOwnerDeletion": True}
        metadata = {
            "name": f"job-{name}-{uuid.uuid4().hex[:5]}", "labels": {"kueue.x-k8s.io/job-uid": uid}, "ownerReferences": [owner],
        }  # fmt: skip
        template = copy.deepcopy(job["spec"]["template"])
        spec = {
            "active": True, "queueName": labels[_QUEUE], "priority": int(found["value"]) if found else 0,
            "podSets": [{"name": "main", "count": _count(job), "template": template}],
        }  # fmt: skip
        self._store.create(RESOURCES["workloads"], namespace, {"metadata": metadata, "spec": spec, "status": {}})

    def _follow(self, job: Document, workload: Document) -> None:
        """Have a Workload that waits ask for what its Job asks for now."""

        def change(draft: Document) -> None:
            draft["spec"]["podSets"][0]["count"] = _count(job)
            draft["spec"]["queueName"] = job["metadata"]["labels"][_QUEUE]

        self._change(workload, change)

    def _take_back(self, job: Document, workload: Document) -> None:
        if not holds(workload["status"], "Evicted"):
            words = "The workload is deactivated"
            self._change(workload, lambda draft: condition(draft["status"], "Evicted", True, "Deactivated", words))
        self._suspend(job, suspend=True)
        if not job["status"].get("active"):
            said = (holds(workload["status"], "Evicted") or {}).get("message", "")
            self._change(workload, lambda draft: _unreserve(draft, said))
            if workload["spec"].get("active", True):
                self._follow(job, workload)

    def _suspend(self, job: Document, *, suspend: bool) -> None:
        self._change(job, lambda draft: draft["spec"].update(suspend=suspend))

    # --- quota ---

    def _schedule(self, queue: Document) -> None:
        """Admit what there is room for; of what waits, say why."""
        name = queue["metadata"]["name"]
        locals_ = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in self._store.all("localqueues")}
        workloads = [one for one in self._store.all("workloads") if not holds(one["status"], "Finished")]
        for one in workloads:
            key = (one["metadata"]["namespace"], one["spec"]["queueName"])
            if key not in locals_ and not holds(one["status"], "QuotaReserved"):
                self._wait(one, "Misconfigured", f"LocalQueue {key[1]} doesn't exist")
        mine = [one for one in workloads if (one["metadata"]["namespace"], one["spec"]["queueName"]) in locals_]
        mine = [one for one in mine if _cluster_queue(one, locals_) == name]
        waiting = [one for one in mine if not holds(one["status"], "QuotaReserved") and one["spec"].get("active", True)]
        for one in sorted(waiting, key=lambda one: (-one["spec"]["priority"], int(one["metadata"]["resourceVersion"]))):
            local = locals_[one["metadata"]["namespace"], one["spec"]["queueName"]]
            if _is_held(queue) or _is_held(local):
                held = f"ClusterQueue {name}" if _is_held(queue) else f"LocalQueue {local['metadata']['name']}"
                self._wait(one, "Suspended", f"{held} is inactive")
            else:
                others = [self._now(each) for each in mine if each is not one]
                self._try(one, queue, [each for each in others if holds(each["status"], "QuotaReserved")])

    def _try(self, workload: Document, queue: Document, holding: list[Document]) -> None:
        quota, asked = _quota(queue), _asked(workload)
        used = {name: sum(_asked(each).get(name, 0.0) for each in holding) for name in quota}
        head = "couldn't assign flavors to pod set main: "
        for name, amount in asked.items():
            flavor, most = quota.get(name, ("", 0.0))
            if name not in quota:
                self._wait(workload, "NoMatchingFlavor", f"{head}resource {name} unavailable in ClusterQueue")
                return
            if amount > most:
                words = f"previously considered podsets requests (0) + current podset request ({written(amount)})"
                short = f"{head}insufficient quota for {name} in flavor {flavor}, {words} > maximum capacity ({written(most)})"
                self._wait(workload, "ExceedsMaxQuota", short)
                return
        short_of = [name for name, amount in asked.items() if used[name] + amount > quota[name][1]]
        if not short_of:
            self._change(workload, lambda draft: _admit(draft, queue["metadata"]["name"]))
            return
        name = short_of[0]
        more = written(used[name] + asked[name] - quota[name][1])
        words = f"{head}insufficient unused quota for {name} in flavor {quota[name][0]}, {more} more needed"
        victims = [each for each in holding if each["spec"]["priority"] < workload["spec"]["priority"]]
        if (queue["spec"].get("preemption") or {}).get("withinClusterQueue") == "LowerPriority" and victims:
            for victim in victims:
                self._change(victim, lambda draft: _preempt(draft, workload))
            self._wait(workload, "WaitingForPreemptedWorkloads", f"{words}. Pending the preemption of {len(victims)} workload(s)")
        else:
            self._wait(workload, "WaitingForQuota", words)

    def _now(self, workload: Document) -> Document:
        return self._store.get("workloads", workload["metadata"]["namespace"], workload["metadata"]["name"]) or workload

    def _wait(self, workload: Document, reason: str, message: str) -> None:
        def change(draft: Document) -> None:
            condition(draft["status"], "QuotaReserved", False, reason, message)
            condition(draft["status"], "Admitted", False, "NoReservation", "The workload has no reservation")

        self._change(workload, change)

    def _change(self, document: Document, how: Callable[[Document], Any]) -> None:
        plural = next(name for name, resource in RESOURCES.items() if resource.kind == document["kind"])
        with contextlib.suppress(Refused):
            self._store.change(
                plural, document["metadata"].get("namespace", ""), document["metadata"]["name"], lambda draft: how(draft) and None
            )


def _is_held(queue: Document) -> bool:
    return queue["spec"].get("stopPolicy", "None") != "None"


def _cluster_queue(workload: Document, locals_: dict[tuple[str, str], Document]) -> str:
    return str(locals_[workload["metadata"]["namespace"], workload["spec"]["queueName"]]["spec"]["clusterQueue"])


def _count(job: Document) -> int:
    return min(int(job["spec"]["parallelism"]), int(job["spec"]["completions"]))


def _asked(workload: Document) -> dict[str, float]:
    sets = workload["spec"]["podSets"]
    found = [(each["count"], requests_of(each["template"]["spec"])) for each in sets]
    return {name: count * amount for count, requests in found for name, amount in requests.items() if count}


def _quota(queue: Document) -> dict[str, tuple[str, float]]:
    flavors = [flavor for group in queue["spec"]["resourceGroups"] for flavor in group["flavors"]]
    return {one["name"]: (flavor["name"], quantity(one["nominalQuota"])) for flavor in flavors for one in flavor["resources"]}


def _admit(workload: Document, queue: str) -> None:
    status = workload["status"]
    for kind in ("Evicted", "Preempted"):
        if found := holds(status, kind):
            condition(status, kind, False, "QuotaReserved", f"Previously: {found.get('message', '')}")
    status["admission"] = {"clusterQueue": queue}
    condition(status, "QuotaReserved", True, "QuotaReserved", f"Quota reserved in ClusterQueue {queue}")
    condition(status, "Admitted", True, "Admitted", "The workload is admitted")


def _preempt(workload: Document, other: Document) -> None:
    ids = f"(UID: {other['metadata']['uid']}, JobUID: {other['metadata']['labels']['kueue.x-k8s.io/job-uid']})"
    path = "preemptor path: /queue; preemptee path: /queue"
    words = f"Preempted to accommodate a workload {ids} due to prioritization in the ClusterQueue; {path}"
    condition(workload["status"], "Evicted", True, "Preempted", words)
    condition(workload["status"], "Preempted", True, "InClusterQueue", words)


def _unreserve(workload: Document, said: str) -> None:
    workload["status"].pop("admission", None)
    condition(workload["status"], "QuotaReserved", False, "PendingEvaluation", said)
    condition(workload["status"], "Admitted", False, "NoReservation", "The workload has no reservation")
