"""Attempts as Jobs of one Kubernetes cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import Conflict, LaunchRefused, NotFound, NotReady
from airflow_dla.runtime.contract import Handle, Launch, LogSlice, Status
from airflow_dla.runtime.facts import Stop, seconds
from airflow_dla.runtime.files import write_all
from airflow_dla.runtime.kubernetes import body, kueue, names, once, policy, resizing
from airflow_dla.runtime.kubernetes.bundle import bundle
from airflow_dla.runtime.kubernetes.cargo import Cargo
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.endings import Endings
from airflow_dla.runtime.kubernetes.facts import MAIN, MATE, Document, Pod, exit_of, is_over, is_suspended, job_of, stop_of
from airflow_dla.runtime.kubernetes.logs import Logs
from airflow_dla.runtime.kubernetes.pods import PUBLISH_S, Needs
from airflow_dla.runtime.kubernetes.reasons import Reasons
from airflow_dla.runtime.kubernetes.shelf import Shelf
from airflow_dla.runtime.kubernetes.usage import Usage
from airflow_dla.runtime.kubernetes.waiting import Outlook, Wait
from airflow_dla.specs import Exit, ExitReason, Grant, JobFile, PlaceSpec

_SLICE: Final = 1 << 20
_PIECE: Final = 1 << 16
#: Seconds without a word after which a command in a pod counts as cut off.
_ENTERED_S: Final = 3600.0
#: Seconds that a resize may take until it counts as impossible now, and between two looks at it.
_RESIZE_S: Final = 8.0
_LOOK_S: Final = 0.1
#: What a pod is given when its grace is over.
_AT_ONCE_S: Final = 1.0


class KubernetesRuntime:
    """Runs attempts as Jobs in one namespace of a cluster.

    The Job holds what must be known of an attempt (see `shelf`), so nothing of ours has to
    live while it runs; whoever follows it carries its files (see `cargo`).

    Parameters
    ----------
    cluster : `Cluster`
    place : `PlaceSpec`
    workspace : str
        Tells this workspace's Jobs from others'.
    shelf : `Shelf`
    cargo : `Cargo`
    logs : `Logs`
    """

    def __init__(self, cluster: Cluster, place: PlaceSpec, *, workspace: str, shelf: Shelf, cargo: Cargo, logs: Logs) -> None:
        self.cluster = cluster
        self.place = place
        self._workspace = workspace
        self._shelf = shelf
        self._cargo = cargo
        self._logs = logs
        self._reasons = Reasons(cluster, place)
        self._usage = Usage(cluster, names.selector(workspace))
        self._endings = Endings(cluster, shelf, cargo, logs, self._usage)

    # --- the contract ---

    def plan(self, launch: Launch) -> Mapping[str, Any]:
        """Return the Job that `submit` would create."""
        policy.refuse(launch, self.place)
        return {"limits": dict(launch.job.grant.amounts), "job": self._body(launch)}

    def submit(self, launch: Launch) -> Handle:
        """Create an attempt's Job, once, whoever asks how often; return when its program has started, or never will.

        Raises
        ------
        NotReady
            While the cluster has no room, fetches the image, or inputs are brought.
        LaunchRefused
            If the place's policy or the cluster forbids it, or no waiting will help.
        JobLost
            If the node that was granted cannot have it.
        """
        attempt = launch.job.attempt
        found = self._shelf.find(attempt) or self._made(launch)
        if stop_of(found) is None and exit_of(found) is None:
            self._started(launch, self._completed(launch, found))
        pod = self._shelf.pod(attempt)
        address = {"address": pod.address} if launch.job.part is not None and pod is not None and pod.address else {}
        return {"node": launch.job.grant.node, "job": self._shelf.name(attempt), **address}

    def status(self, attempt: str) -> Status:
        """Return what is known of an attempt; one whose time or grace is over is ended here."""
        found = self._shelf.find(attempt)
        if found is None:
            return self._left_behind(self._shelf.pod(attempt))
        if (ended := exit_of(found)) is not None:
            return Status(alive=False, exit=ended)
        job, stop, pod = job_of(found), stop_of(found), self._shelf.pod(attempt)
        if job is None:
            return Status(alive=False, exit=_unstarted(stop))
        if stop is None and self._was_taken_back(found, pod):
            stop = self._take_back(attempt, found)
        if pod is None and is_over(found):
            pod = self._shelf.sought(attempt)
        elif pod is None and stop is None:
            return Status(alive=not is_suspended(found), note="its pod is made")
        if pod is not None and not pod.over and not pod.main.ended:
            self._press(job, pod, stop)
            self._cargo.look(job, pod)
            if not Needs.of(job).ours and pod.main.state == "running":
                self._usage.look(pod)
            return Status(alive=True, note=f"{self.place.name}: pod {pod.name} on {pod.node or 'no node yet'}")
        ended = self._endings.of(found, job, pod, stop)
        return Status(alive=True, note="its outputs are published") if ended is None else Status(alive=False, exit=ended)

    def logs(self, attempt: str, offset: int, *, limit: int = _SLICE) -> LogSlice:
        """Return the log from a byte offset: standard output and error in the order in which the node got them."""
        data = self._logs.read(attempt, self._shelf.pod(attempt), offset, limit)
        return LogSlice(data, offset + len(data))

    def cancel(self, attempt: str, reason: ExitReason) -> None:
        """Ask an attempt to stop; the first reason counts. One that never started never will."""
        found, pod = self._shelf.find(attempt), self._shelf.pod(attempt)
        if found is not None and (exit_of(found) is not None or (pod is not None and pod.main.ended)):
            return
        # What has no pod yet shall have none, and one without a node goes at once; a pod that is made now is deleted when it is seen.
        stop = Stop(reason, time.time())
        written = self._want(attempt, stop, suspend=pod is None or not pod.node)
        if written is None and stop_of(self._shelf.make(body.marker(attempt, self.place, stop, workspace=self._workspace))) is None:
            written = self._want(attempt, stop, suspend=True)
        if written is not None and pod is not None and (job := job_of(written)) is not None:
            self._press(job, pod, stop_of(written))

    def resize(self, attempt: str, grant: Grant) -> bool:
        """Change CPUs and memory in place; all of it or nothing, and nothing where Kueue counts what a job was admitted with."""
        found, pod = self._shelf.find(attempt), self._shelf.pod(attempt)
        job = None if found is None else job_of(found)
        if job is None or pod is None or pod.main.state != "running" or not resizing.can_resize(job.grant, grant):
            return False
        if self._queued and dict(job.grant.amounts) != dict(grant.amounts):
            return False
        if not self._resized(pod, grant):
            self._resized(pod, job.grant)
            return False
        self.cluster.patch("jobs", self._shelf.name(attempt), body.regranted(grant))
        self._cargo.tell_grant(job, pod, grant)
        return True

    def jobs(self) -> dict[str, bool]:
        """Return every attempt that has a Job here, and whether its pod runs."""
        return {attempt: self._alive(attempt, found) for attempt, found in self._shelf.all()}

    # --- outside the contract ---

    @property
    def keep_s(self) -> float:
        """Seconds that a failed Job is kept for those who want to look into it."""
        return self.place.keep_s

    def kept(self) -> dict[str, float]:
        """Return the attempts whose ended Jobs are still there, and when each was created."""
        ended = ((attempt, found) for attempt, found in self._shelf.all() if not self._alive(attempt, found))
        return {attempt: seconds(found["metadata"].get("creationTimestamp")) for attempt, found in ended}

    def collect(self, attempt: str) -> None:
        """Remove an ended Job with its pod, keeping its log; what runs stays."""
        found, pod = self._shelf.find(attempt), self._shelf.pod(attempt)
        if found is not None and not self._alive(attempt, found):
            if pod is not None:
                self._logs.keep(attempt, pod)
            self.cluster.delete("jobs", self._shelf.name(attempt), uid=found["metadata"]["uid"])

    def enter(self, attempt: str, command: Sequence[str], *, terminal: bool) -> int:
        """Run a command in an attempt's own container; a shell on a terminal is kubectl's to give.

        Secrets are variables of the container, so the command has them too.

        Raises
        ------
        NotFound
            If it does not run, or no command is named; says how a shell is had.
        """
        pod = self._shelf.running(attempt).name
        if not command:
            by_hand = f"kubectl exec -it -n {self.cluster.namespace} {pod} -c {MAIN} -- sh"
            raise NotFound(f"no terminal is to be had in pod {pod} from here: name a command, or run {by_hand}")
        typed = () if terminal else iter(lambda: os.read(0, _PIECE), b"")
        with self.cluster.exec(pod, MAIN, command, typed, patience_s=_ENTERED_S) as channel:
            for piece in channel:
                write_all(1, piece)
            write_all(2, channel.err)
            return channel.code

    # --- launching ---

    def _body(self, launch: Launch) -> dict[str, Any]:
        return body.job(launch, self.place, workspace=self._workspace, runner=bundle().name)

    def _made(self, launch: Launch) -> Document:
        """Create the Job; where it has secrets it waits for them."""
        policy.refuse(launch, self.place)
        self._cargo.check(launch.job)
        if Needs.of(launch.job).ours:
            self._shelf.share("configmaps", body.runner(bundle(), workspace=self._workspace))
        return self._shelf.make(self._body(launch))

    def _completed(self, launch: Launch, found: Document) -> Document:
        """Make what a suspended Job waits for, and let it go."""
        if launch.secrets and (is_suspended(found) or self._queued):
            self._shelf.share("secrets", body.secret(launch, found, workspace=self._workspace))
        if self._queued or not is_suspended(found):
            return found
        kueue.refuse_foreign(found, self.place)
        freed = self.cluster.patch("jobs", self._shelf.name(launch.job.attempt), body.unsuspend())
        if freed is None:
            raise NotReady("its Job was removed and is made again")
        return self._shelf.took(freed)

    def _started(self, launch: Launch, found: Document) -> None:
        """Go on only once its program has started, or never will."""
        job, pod = launch.job, self._shelf.pod(launch.job.attempt)
        if is_over(found) or (pod is not None and (pod.started or pod.over)):
            return
        if self._was_taken_back(found, pod):
            self._take_back(job.attempt, found)
            return
        if self._queued:
            found = once.let_go(self._shelf, job.attempt, found)
            pod = self._shelf.pod(job.attempt)
            if stop_of(found) is not None:
                return
        if pod is not None and pod.fetches:
            self._cargo.bring(job, pod)
        wait = self._reasons.of(found, pod, job)
        stop = self._given_up(job, found, pod, wait)
        if stop is not None:
            self._want(job.attempt, stop, suspend=True)
        if stop is None or stop.reason is not ExitReason.PREEMPTED:
            raise wait.error(self.place.name)

    def _given_up(self, job: JobFile, found: Document, pod: Pod | None, wait: Wait) -> Stop | None:
        """Return why nothing is waited for any more; None where it is."""
        now = time.time()
        if wait.outlook is not Outlook.WAITS:
            # Nobody asks about it again, and a cluster would wait for ever.
            return Stop(ExitReason(wait.outlook.value), now)
        if self._queued and pod is None and kueue.starves(job, now - seconds(found["metadata"].get("creationTimestamp"))):
            return Stop(
                ExitReason.PREEMPTED, now, why=f"the first member holds quota while this one waits, so all make way: it {wait.text}"
            )
        return None

    # --- following ---

    @property
    def _queued(self) -> bool:
        return self.place.allocator == "kueue"

    def _was_taken_back(self, found: Document, pod: Pod | None) -> bool:
        if not self._queued:
            return False
        if pod is not None and pod.deleted_at is not None and not is_suspended(found):
            # Whose doing it was stands in the Job, of which the watch may be behind that of its pod.
            found = self._shelf.asked(str(pod.attempt)) or found
        return once.was_taken_back(found, pod)

    def _take_back(self, attempt: str, found: Document) -> Stop | None:
        """End what Kueue took back: it would start the same Job again, and an attempt runs once."""
        reason, why = kueue.taken_back(self.cluster, found, self.place)
        written = self._want(attempt, Stop(reason, time.time(), why=why), suspend=True)
        return None if written is None else stop_of(written)

    def _want(self, attempt: str, stop: Stop, *, suspend: bool = False) -> Document | None:
        """Want a stop unless one is wanted; return the Job as it is then."""

        def patch(found: Document) -> list[dict[str, Any]]:
            return [*body.stopped(found, stop), *(body.never(found) if suspend else ())]

        return self._shelf.change(attempt, patch, unless=(names.STOP,))

    def _alive(self, attempt: str, found: Document) -> bool:
        if exit_of(found) is not None:
            return False
        pod = self._shelf.pod(attempt)
        return pod is not None and not pod.over

    def _press(self, job: JobFile, pod: Pod, stop: Stop | None) -> None:
        """End what has had its time: with its grace once, at once when that is over."""
        started = seconds(pod.main.started_at)
        if stop is None and job.run_timeout_s is not None and started and time.time() - started > job.run_timeout_s:
            written = self._want(job.attempt, Stop(ExitReason.TIMED_OUT, time.time()))
            stop = None if written is None else stop_of(written)
        if stop is not None and not pod.node:
            # A Job that makes none deletes one without a node at once; nobody else could.
            return
        if stop is not None and pod.deleted_at is None:
            # A node holds to what it was told first. Its mate has what the program leaves of that, and two seconds at least.
            self.cluster.delete("pods", pod.name, grace_s=job.grace_s, uid=pod.uid)
            return
        since = pod.deleted_at if stop is None else stop.at
        if since is None or time.time() - since < job.grace_s:
            return
        if stop is not None and pod.grace_s > _AT_ONCE_S:
            self.cluster.delete("pods", pod.name, grace_s=_AT_ONCE_S, uid=pod.uid)
        # Others who delete it, or drain its node, give the program the time that is meant for publishing.
        self._cargo.end(pod)

    def _left_behind(self, pod: Pod | None) -> Status:
        """Return what is known of an attempt whose Job somebody deleted: its pod goes, once its program's time is over."""
        if pod is None or pod.over or self._shelf.is_gone(pod):
            return Status(alive=False)
        if MATE in pod.containers:
            late = pod.deleted_at is not None and time.time() - pod.deleted_at >= pod.grace_s - PUBLISH_S
            self._cargo.abandon(pod, late=late)
        return Status(alive=True, note=f"its Job was deleted by hand, and pod {pod.name} ends")

    def _resized(self, pod: Pod, grant: Grant) -> bool:
        """Ask for other limits and wait until they are in force; false where they cannot be, or not now."""
        try:
            asked = self.cluster.patch("pods", pod.name, resizing.patch(grant), subresource="resize", json_patch=True)
        except (LaunchRefused, Conflict):
            return False
        until = time.monotonic() + _RESIZE_S
        while asked is not None:
            outcome = resizing.outcome(Pod.from_document(asked), grant, self._shelf.events(pod))
            if outcome.in_force or outcome.refused or time.monotonic() >= until:
                return outcome.in_force
            time.sleep(_LOOK_S)
            asked = self.cluster.get("pods", pod.name)
        return False


def _unstarted(stop: Stop | None) -> Exit:
    reason = ExitReason.LOST if stop is None else stop.reason
    return Exit(reason=reason, message=f"{reason} before it started")
