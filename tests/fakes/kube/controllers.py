"""What a cluster does by itself: Jobs make pods, pods get nodes, what is owned goes with its owner."""

from __future__ import annotations

import heapq
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from fakes.kube import jobs
from fakes.kube.conditions import condition, holds
from fakes.kube.kubelet import Kubelet
from fakes.kube.resources import RESOURCES, Refused
from fakes.kube.scheduling import place
from fakes.kube.store import Change, Document, Store, now, owners, seconds

_ENDED = ("Succeeded", "Failed")


class Controllers:
    """One thread that sees every change and does what the controllers of a cluster would.

    Parameters
    ----------
    store : `Store`
    kubelet : `Kubelet`
    create, delete : callable
        Make and delete an object as a client would: admission, grace.
    """

    def __init__(
        self, store: Store, kubelet: Kubelet, create: Callable[[str, str, Document], Document], delete: Callable[[str, str, str], None]
    ) -> None:  # fmt: skip
        self.paused = False
        self._store = store
        self._kubelet = kubelet
        self._create = create
        self._delete = delete
        self._later: list[tuple[float, str, str, str]] = []
        self._unplaced: set[tuple[str, str]] = set()
        self._forgotten: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(timeout=5)

    def event(self, about: Document, kind: str, reason: str, message: str, source: str) -> None:
        """Tell people something: the same again is counted."""
        involved = {"kind": about["kind"], "namespace": about["metadata"].get("namespace", ""), "name": about["metadata"]["name"]}
        involved |= {"uid": about["metadata"]["uid"], "apiVersion": about["apiVersion"]}
        namespace = involved["namespace"] or "default"
        same = uuid.uuid5(uuid.NAMESPACE_OID, reason + message + involved["uid"]).hex[:16]
        name = f"{involved['name']}.{same}"
        if self._store.get("events", namespace, name) is not None:
            again: Callable[[Document], Any] = lambda draft: draft.update(count=draft["count"] + 1, lastTimestamp=now())  # noqa: E731 - one line
            self._store.change("events", namespace, name, again)
            return
        document = {
            "metadata": {"name": name}, "involvedObject": involved, "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": source}, "reportingComponent": source,
        }  # fmt: skip
        self._store.create(RESOURCES["events"], namespace, document)

    # --- the loop ---

    def _run(self) -> None:
        at = self._store.start(None)
        while not self._stop.is_set():
            try:
                changes, at = self._store.read(at, 0.02)
            except Refused:  # compacted meanwhile: look at everything
                at = self._store.start(None)
                changes = [self._now(plural, one) for plural in ("pods", "jobs") for one in self._store.all(plural)]
            if self.paused:
                continue
            for change in changes:
                self._guarded(self._see, change)
            while self._later and self._later[0][0] <= time.time():
                _, plural, namespace, name = heapq.heappop(self._later)
                self._guarded(self._again, plural, namespace, name)

    @staticmethod
    def _now(plural: str, document: Document) -> Change:
        return Change(0, (plural, document["metadata"]["namespace"], document["metadata"]["name"]), document, document)

    @staticmethod
    def _guarded(act: Callable[..., None], *arguments: Any) -> None:
        try:
            act(*arguments)
        except Refused as refused:
            if refused.code not in (404, 409):
                logging.getLogger(__name__).exception("a controller was refused")
        except Exception:
            logging.getLogger(__name__).exception("a controller failed")

    def _see(self, change: Change) -> None:
        plural, namespace, name = change.key
        if change.new is None:
            assert change.old is not None
            self._orphan(change.old)
            if plural == "pods":
                self._kubelet.gone(change.old)
                self._job_of(change.old)
                self._place_all()
        elif plural == "pods":
            self._see_pod(change.new, change.old)
        elif plural == "jobs":
            self._sync_job(namespace, name)
        elif plural == "nodes":
            self._place_all()
        if change.new is not None and change.old is None:
            self._check_owners(change.new)

    def _again(self, plural: str, namespace: str, name: str) -> None:
        if plural == "jobs":
            self._sync_job(namespace, name)
        elif plural == "pods" and (pod := self._store.get("pods", namespace, name)) is not None:
            self._kubelet.sync(pod)

    def _see_pod(self, pod: Document, old: Document | None) -> None:
        if not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
            self._place(pod)
        elif pod["spec"].get("nodeName"):
            self._kubelet.sync(pod)
        elif pod["status"].get("phase") not in _ENDED:
            self._store.change("pods", pod["metadata"]["namespace"], pod["metadata"]["name"], _fail_unplaced)
        self._job_of(pod)
        ended = pod["status"].get("phase") in _ENDED
        if ended and old is not None and old["status"].get("phase") not in _ENDED:
            self._place_all()

    # --- owners ---

    def _orphan(self, owner: Document) -> None:
        for plural, namespace, name in self._store.owned(owner["metadata"]["uid"]):
            self._guarded(self._delete, plural, namespace, name)

    def _check_owners(self, document: Document) -> None:
        """Delete what was made for an owner that is gone."""
        found = owners(document)
        if found and not any(self._store.has_uid(uid) for uid in found):
            plural = next(name for name, resource in RESOURCES.items() if resource.kind == document["kind"])
            self._delete(plural, document["metadata"].get("namespace", ""), document["metadata"]["name"])

    # --- the scheduler ---

    def _place_all(self) -> None:
        for namespace, name in sorted(self._unplaced):
            pod = self._store.get("pods", namespace, name)
            if pod is None or pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
                self._unplaced.discard((namespace, name))
            else:
                self._place(pod)

    def _place(self, pod: Document) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        if pod["spec"].get("schedulingGates"):
            words = "Scheduling is blocked due to non-empty scheduling gates"
            self._store.change(
                "pods", namespace, name, lambda draft: condition(draft["status"], "PodScheduled", False, "SchedulingGated", words)
            )
            return
        node, why = place(pod, self._store.all("nodes"), self._store.all("pods"))
        why = self._unbound(pod) or why
        if node and not why:
            self._unplaced.discard((namespace, name))
            self._store.change("pods", namespace, name, lambda draft: _bind(draft, node))
            self.event(pod, "Normal", "Scheduled", f"Successfully assigned {namespace}/{name} to {node}", "default-scheduler")
            return
        self._unplaced.add((namespace, name))
        found: dict[str, Any] = next((one for one in pod["status"].get("conditions") or [] if one["type"] == "PodScheduled"), {})
        if found.get("message") != why:
            self._store.change(
                "pods", namespace, name, lambda draft: condition(draft["status"], "PodScheduled", False, "Unschedulable", why)
            )
            self.event(pod, "Warning", "FailedScheduling", why, "default-scheduler")

    def _unbound(self, pod: Document) -> str:
        """Return what keeps a pod whose claims are not bound."""
        for volume in pod["spec"].get("volumes") or []:
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim is None:
                continue
            found = self._store.get("persistentvolumeclaims", pod["metadata"]["namespace"], claim)
            if found is None:
                return f'0/{len(self._store.all("nodes"))} nodes are available: persistentvolumeclaim "{claim}" not found. not found'
            if (found.get("status") or {}).get("phase") != "Bound":
                return f"0/{len(self._store.all('nodes'))} nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
        return ""

    # --- Jobs ---

    def _job_of(self, pod: Document) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        for uid, reference in owners(pod).items():
            if reference["kind"] != "Job":
                continue
            job = self._store.get("jobs", namespace, reference["name"])
            if job is not None and job["metadata"]["uid"] == uid:
                self._sync_job(namespace, reference["name"])
            elif pod["metadata"].get("finalizers"):  # nobody is left to count it
                self._guarded(self._drop, namespace, name)

    def _sync_job(self, namespace: str, name: str) -> None:
        job = self._store.get("jobs", namespace, name)
        if job is None:
            return
        pods = [pod for pod in self._store.all("pods", namespace) if job["metadata"]["uid"] in owners(pod)]
        if "deletionTimestamp" in job["metadata"]:
            self._release(job, pods)
            return
        wanted = jobs.decide(job, pods, self._forgotten)
        if wanted.status != job.get("status"):
            written = self._store.change("jobs", namespace, name, lambda draft: draft.update(status=wanted.status))
            self._tell(written, job)
        self._release(job, pods)
        for pod in wanted.delete:
            if wanted.forget:
                self._forgotten.update(one["metadata"]["uid"] for one in pods if one["metadata"]["name"] == pod)
                self._guarded(self._drop, namespace, pod)
            self._guarded(self._delete, "pods", namespace, pod)
        if wanted.create:
            self._make_pod(job)
        if wanted.later_s is not None:
            heapq.heappush(self._later, (time.time() + wanted.later_s, "jobs", namespace, name))
        self._expire(namespace, name)

    def _release(self, job: Document, pods: list[Document]) -> None:
        """Let pods go that have been counted."""
        for pod in pods:
            metadata = pod["metadata"]
            counted = pod["status"].get("phase") in _ENDED or jobs.finished(job) or "deletionTimestamp" in job["metadata"]
            counted = counted or ("deletionTimestamp" in metadata and job["spec"]["podReplacementPolicy"] != "Failed")
            if jobs.TRACKING in (metadata.get("finalizers") or []) and counted:
                self._guarded(self._drop, metadata["namespace"], metadata["name"])

    def _drop(self, namespace: str, name: str) -> None:
        def change(draft: Document) -> None:
            draft["metadata"].pop("finalizers", None)

        self._store.change("pods", namespace, name, change)

    def _make_pod(self, job: Document) -> None:
        namespace, pod = job["metadata"]["namespace"], jobs.pod_of(job)
        try:
            made = self._create("pods", namespace, pod)
        except Refused as refused:
            self.event(job, "Warning", "FailedCreate", f"Error creating: {refused}", "job-controller")
            heapq.heappush(self._later, (time.time() + 0.5, "jobs", namespace, job["metadata"]["name"]))
            return
        self.event(job, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}", "job-controller")

    def _tell(self, job: Document, before: Document) -> None:
        for kind, reason in (("Complete", "Completed"), ("Failed", ""), ("Suspended", "Suspended")):
            found = holds(job.get("status"), kind)
            if found and not holds(before.get("status"), kind):
                words = found.get("message") or f"Job {reason.lower()}"
                self.event(job, "Warning" if kind == "Failed" else "Normal", reason or found["reason"], words, "job-controller")

    def _expire(self, namespace: str, name: str) -> None:
        """Delete a Job some time after its end, if it says so."""
        job = self._store.get("jobs", namespace, name)
        ttl = (job or {}).get("spec", {}).get("ttlSecondsAfterFinished")
        ended = jobs.finished(job) if job else None
        if ttl is None or ended is None:
            return
        left_s = seconds(ended["lastTransitionTime"]) + ttl - time.time()
        if left_s <= 0:
            self._delete("jobs", namespace, name)
        else:
            heapq.heappush(self._later, (time.time() + left_s, "jobs", namespace, name))


def _fail_unplaced(pod: Document) -> None:
    """Fail a pod that is to be deleted and has no node whose kubelet could: the pod collector does."""
    pod["status"]["phase"] = "Failed"


def _bind(pod: Document, node: str) -> None:
    pod["spec"]["nodeName"] = node
    condition(pod["status"], "PodScheduled", True)
