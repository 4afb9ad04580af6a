"""What a fake cluster needs of whatever runs its pods, and a kubelet whose containers do as a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fakes.kube.conditions import condition
from fakes.kube.output import Output
from fakes.kube.resources import Refused
from fakes.kube.statuses import fill
from fakes.kube.store import Document, Store, now


class Streams(Protocol):
    """The streams of a command that is run in a container."""

    def read(self) -> Iterator[bytes]:
        """Yield what comes on standard input, until its end where the caller says it."""

    def write(self, data: bytes, *, error: bool = False) -> None:
        """Write to standard output or standard error."""


#: Runs a command: pod, container, command line, streams → exit status.
Execute = Callable[[str, str, Sequence[str], Streams], int]


class Kubelet(Protocol):
    """Runs the pods that are bound to nodes, one thread calling at a time."""

    def attach(self, store: Store) -> None:
        """Take the store whose pods it is to run."""

    def sync(self, pod: Document) -> None:
        """Look at a pod that was bound or changed."""

    def gone(self, pod: Document) -> None:
        """Let go of a pod that is no more."""

    def output(self, pod: Document, container: str) -> Output | None:
        """Return a container's log, None where it has not started."""

    def execute(self, pod: Document, container: str, argv: Sequence[str], streams: Streams) -> int:
        """Run a command in a container."""

    def close(self) -> None:
        """End whatever runs."""


@dataclass(slots=True)
class Play:
    """How one container goes.

    Parameters
    ----------
    code : int or None
        Exit status; None while it runs on, until `ScriptedKubelet.finish`.
    after_s : float
        For so long it runs, seconds.
    log : bytes
        What it writes when it starts.
    waits : str
        Why it never starts: ``ImagePullBackOff``, ``CreateContainerConfigError``.
    message : str
        Of the wait or the end.
    reason : str
        Of the end: ``OOMKilled``; ``Completed`` or ``Error`` by default.
    stubborn : bool
        Whether it ignores SIGTERM.
    """

    code: int | None = 0
    after_s: float = 0.0
    log: bytes = b""
    waits: str = ""
    message: str = ""
    reason: str = ""
    stubborn: bool = False


@dataclass(slots=True)
class _Container:
    play: Play
    output: Output
    state: dict[str, Any]
    started_at: float = 0.0
    code: int | None = None
    reason: str = ""
    killed_at: float | None = None


@dataclass(slots=True)
class _Pod:
    document: Document
    containers: dict[str, _Container] = field(default_factory=dict)
    ending: bool = False
    due: float = 0.0

    def plan(self) -> None:
        """Set when to look at it again."""
        running = [one for one in self.containers.values() if "running" in one.state]
        times = [one.started_at + one.play.after_s for one in running if one.play.code is not None]
        times += [one.killed_at for one in running if one.killed_at is not None]
        self.due = min([moment for moment in times if moment > time.monotonic()], default=float("inf"))


class ScriptedKubelet:
    """Runs nothing: containers go as a test's function says, hundreds of them in one thread.

    Parameters
    ----------
    script : callable, optional
        Pod and container's name → `Play`; by default each ends at once with 0, sidecars run on.
    execute : callable, optional
        Runs commands in containers.
    """

    def __init__(self, script: Callable[[Document, str], Play] | None = None, execute: Execute | None = None) -> None:
        self.script = script or (lambda pod, container: Play())
        self.on_execute = execute
        self.lost: set[str] = set()
        self.outputs: dict[tuple[str, str], Output] = {}
        self._store: Store | None = None
        self._pods: dict[str, _Pod] = {}
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    # --- what tests do ---

    def finish(self, name: str, container: str = "main", code: int = 0, reason: str = "") -> None:
        """End a container that runs on."""
        with self._lock:
            pod = self._pods[self._uid(name)]
            pod.containers[container].code, pod.containers[container].reason = code, reason
            pod.due = 0.0
        self._wake.set()

    def write(self, name: str, data: bytes, container: str = "main") -> None:
        """Have a container write something."""
        self.outputs[self._uid(name), container].write(data)

    def evict(self, name: str, reason: str = "Evicted", message: str = "The node was low on resource: memory.") -> None:
        """Fail a pod as a kubelet does whose node lacks something."""
        self._fail(self._uid(name), reason, message, "TerminationByKubelet")

    # --- the contract ---

    def attach(self, store: Store) -> None:
        """Take the store whose pods it runs, and begin."""
        self._store = store
        self._thread.start()

    def sync(self, pod: Document) -> None:
        """Look at a pod that was bound or changed."""
        with self._lock:
            found = self._pods.setdefault(pod["metadata"]["uid"], _Pod(pod))
            found.document, found.due = pod, 0.0
        self._wake.set()

    def gone(self, pod: Document) -> None:
        """Let go of a pod that is no more."""
        with self._lock:
            self._pods.pop(pod["metadata"]["uid"], None)

    def output(self, pod: Document, container: str) -> Output | None:
        """Return what a container has written."""
        return self.outputs.get((pod["metadata"]["uid"], container))

    def execute(self, pod: Document, container: str, argv: Sequence[str], streams: Streams) -> int:
        """Run a command as the test says."""
        running = self._pods[pod["metadata"]["uid"]].containers.get(container)
        if running is None or "running" not in running.state:
            raise Refused(500, "InternalError", f'container not found ("{container}")')
        if self.on_execute is None:
            raise Refused(
                500, "InternalError", f'error executing command in container: exec: "{argv[0]}": executable file not found in $PATH'
            )
        return self.on_execute(pod["metadata"]["name"], container, argv, streams)

    def close(self) -> None:
        """End."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    # --- inside ---

    def _uid(self, name: str) -> str:
        with self._lock:
            return next(uid for uid, pod in self._pods.items() if pod.document["metadata"]["name"] == name)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(0.05)
            self._wake.clear()
            with self._lock:
                moment = time.monotonic()
                pods = [pod for pod in self._pods.values() if pod.due <= moment and pod.document["spec"].get("nodeName") not in self.lost]
            for pod in pods:
                pod.due = float("inf")
                self._advance(pod)

    def _advance(self, pod: _Pod) -> None:
        """Go on with a pod as far as it goes now."""
        if pod.document.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            self._let_go(pod)
            return
        if "deletionTimestamp" in pod.document["metadata"]:
            self._terminate(pod)
        before: dict[str, Any] | None = None
        while before != (after := {name: one.state for name, one in pod.containers.items()}) or before is None:
            before = after
            self._step(pod)
        self._report(pod)
        pod.plan()

    def _step(self, pod: _Pod) -> None:
        spec = pod.document["spec"]
        for container in spec.get("initContainers") or []:
            one = self._begun(pod, container["name"])
            self._tick(one, sidecar=container.get("restartPolicy") == "Always", pod=pod)
            if container.get("restartPolicy") == "Always":
                if "waiting" in one.state:
                    return
            elif one.state.get("terminated", {}).get("exitCode") != 0:
                return
        if pod.ending and not any(container["name"] in pod.containers for container in spec["containers"]):
            return
        mains = [self._begun(pod, container["name"]) for container in spec["containers"]]
        for one in mains:
            self._tick(one, sidecar=False, pod=pod)
        if all("terminated" in one.state for one in mains):
            for container in spec.get("initContainers") or []:
                sidecar = pod.containers[container["name"]]
                if "running" in sidecar.state:
                    sidecar.code = sidecar.play.code if sidecar.play.code is not None else 0
                    self._end(sidecar)

    def _begun(self, pod: _Pod, name: str) -> _Container:
        if name not in pod.containers:
            play = self.script(pod.document, name)
            output = Output()
            state: dict[str, Any] = {"waiting": {"reason": play.waits, "message": play.message}}
            one = _Container(play, output, state)
            if not play.waits:
                one.state = {"running": {"startedAt": now()}}
                one.started_at = time.monotonic()
                self.outputs[pod.document["metadata"]["uid"], name] = output
                output.write(play.log)
            pod.containers[name] = one
        return pod.containers[name]

    def _tick(self, one: _Container, *, sidecar: bool, pod: _Pod) -> None:
        if "running" not in one.state:
            return
        elapsed = time.monotonic() - one.started_at
        if one.killed_at is not None and time.monotonic() >= one.killed_at:
            one.code, one.reason = (one.code if one.code is not None else 137), one.reason or "Error"
        elif one.code is None and not sidecar and one.play.code is not None and elapsed >= one.play.after_s:
            one.code, one.reason = one.play.code, one.play.reason
        if one.code is not None:
            self._end(one)

    @staticmethod
    def _end(one: _Container) -> None:
        one.output.end()
        reason = one.reason or ("Completed" if one.code == 0 else "Error")
        one.state = {
            "terminated": {
                "exitCode": one.code, "reason": reason, "message": one.play.message, "startedAt": one.state["running"]["startedAt"],
                "finishedAt": now(), "containerID": "containerd://x",
            }
        }  # fmt: skip

    def _terminate(self, pod: _Pod) -> None:
        pod.ending = True
        grace_s = float(pod.document["metadata"].get("deletionGracePeriodSeconds") or 0)
        for one in pod.containers.values():
            if "running" in one.state:
                kill_at = time.monotonic() + grace_s
                if one.killed_at is None and not one.play.stubborn:
                    one.code = one.code if one.code is not None else 143
                one.killed_at = kill_at if one.killed_at is None else min(one.killed_at, kill_at)

    def _let_go(self, pod: _Pod) -> None:
        metadata = pod.document["metadata"]
        if "deletionTimestamp" in metadata and metadata.get("deletionGracePeriodSeconds") != 0:
            self._write(pod, lambda draft: draft["metadata"].update(deletionGracePeriodSeconds=0))

    def _report(self, pod: _Pod) -> None:
        self._write(pod, lambda draft: self._fill(pod, draft))
        if pod.ending and not any("running" in one.state for one in pod.containers.values()):
            self._let_go(pod)

    def _fill(self, pod: _Pod, draft: Document) -> None:
        fill(draft, {name: one.state for name, one in pod.containers.items()}, ending=pod.ending)

    def _fail(self, uid: str, reason: str, message: str, why: str) -> None:
        with self._lock:
            pod = self._pods[uid]
        for one in pod.containers.values():
            if "running" in one.state:
                one.code = 137
                self._end(one)

        def fail(draft: Document) -> None:
            self._fill(pod, draft)
            draft["status"] |= {"phase": "Failed", "reason": reason, "message": message}
            condition(draft["status"], "DisruptionTarget", True, why, message)

        self._write(pod, fail)

    def _write(self, pod: _Pod, how: Callable[[Document], None]) -> None:
        assert self._store is not None
        metadata = pod.document["metadata"]

        def same(draft: Document) -> None:
            if draft["metadata"]["uid"] != metadata["uid"]:
                raise Refused(404, "NotFound", "another pod of that name")
            how(draft)

        try:
            pod.document = self._store.change("pods", metadata["namespace"], metadata["name"], same)
        except Refused:
            self.gone(pod.document)
