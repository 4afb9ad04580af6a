"""A kubelet that really runs pods: their containers on a Docker engine of this host."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from fakes.kube.conditions import condition
from fakes.kube.containers import Unmakeable, limits_of, request_of
from fakes.kube.engines import api_error, execute, log
from fakes.kube.kubelet import Streams
from fakes.kube.output import Output
from fakes.kube.resources import RESOURCES, Refused
from fakes.kube.statuses import fill
from fakes.kube.store import Document, Store, now
from fakes.kube.volumes import Unmountable, Volumes

_TICK_S: Final = 0.05
_AGAIN_S: Final = 0.5
_GONE: Final = "1970-01-01T00:00:00Z"
_LOG_S: Final = 60.0
#: A pod that is deleted stays so long after its containers, as with kubelets that look around once a second.
_LINGER_S: Final = 1.0


class DockerKubelet:
    """Runs the containers of pods on an engine that sees this host's folders.

    Pods have a sandbox that holds their network, and their process table where they share
    one. Init containers come one after the other, sidecars among them run beside the rest
    and end after it. An image that the engine lacks is never fetched.

    Parameters
    ----------
    connect : callable
        Returns a new `docker.APIClient`.
    image : str
        For sandboxes: it has ``sleep``.
    """

    def __init__(self, connect: Callable[[], Any], image: str) -> None:
        self.connect = connect
        self.image = image
        self.folder = Path(tempfile.mkdtemp(prefix="dla-kubelet-", dir="/var/tmp"))
        self.folder.chmod(0o711)
        self.store: Store
        self._pods: dict[str, _Pod] = {}
        self._lock = threading.Lock()

    def attach(self, store: Store) -> None:
        """Take the store whose pods it runs."""
        self.store = store

    def sync(self, pod: Document) -> None:
        """Look at a pod that was bound or changed."""
        uid = pod["metadata"]["uid"]
        with self._lock:
            found = self._pods.get(uid)
            if found is None:
                if pod["status"].get("phase") in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]:
                    return
                found = self._pods[uid] = _Pod(self, pod)
                found.start()
        found.document = pod
        found.wake.set()

    def gone(self, pod: Document) -> None:
        """Let go of a pod that is no more."""
        with self._lock:
            found = self._pods.get(pod["metadata"]["uid"])
        if found is not None:
            found.removed = True
            found.wake.set()

    def output(self, pod: Document, container: str) -> Output | None:
        """Return what a container has written."""
        found = self._pods.get(pod["metadata"]["uid"])
        return found.outputs.get(container) if found is not None else None

    def execute(self, pod: Document, container: str, argv: Sequence[str], streams: Streams) -> int:
        """Run a command in a container."""
        found = self._pods.get(pod["metadata"]["uid"])
        running = found is not None and "running" in found.states.get(container, {})
        if found is None or not running:
            raise Refused(500, "InternalError", f'container not found ("{container}")')
        with self.connect() as client:
            return execute(client, found.ids[container], argv, streams)

    def close(self) -> None:
        """End whatever runs, and remove it."""
        with self._lock:
            pods = list(self._pods.values())
        for pod in pods:
            pod.removed = True
            pod.wake.set()
        for pod in pods:
            pod.join(timeout=20)
        shutil.rmtree(self.folder, ignore_errors=True)


class _Pod(threading.Thread):
    """One pod, from its binding to its end."""

    def __init__(self, kubelet: DockerKubelet, document: Document) -> None:
        super().__init__(daemon=True, name=f"pod-{document['metadata']['name']}")
        self.kubelet = kubelet
        self.document = document
        self.uid = document["metadata"]["uid"]
        self.wake = threading.Event()
        self.removed = False
        self.ids: dict[str, str] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.restarts: dict[str, int] = {}
        self.outputs: dict[str, Output] = {}
        self.read: dict[str, int] = {}
        self.resources: dict[str, Any] = {}
        self.address = ""
        self._sandbox = ""
        self._readers: dict[str, threading.Thread] = {}
        self._killed: set[str] = set()
        self._ends_at: float | None = None
        self._deaf_until: dict[str, float] = {}
        self._reported = ""
        self._ended_at: float | None = None
        self.volumes = Volumes(kubelet.store, document, kubelet.folder / self.uid, kubelet.folder / "claims")

    # --- its life ---

    def run(self) -> None:
        """Go on until the pod is gone."""
        with self.kubelet.connect() as self.client:
            try:
                while not self.removed:
                    self._advance()
                    self.wake.wait(_TICK_S)
                    self.wake.clear()
            finally:
                self._clear()

    def _advance(self) -> None:
        ended = self.document["status"].get("phase") in ("Succeeded", "Failed")
        if ended and "deletionTimestamp" in self.document["metadata"]:
            self._report()
        elif not ended:
            self._look()
            if self._going:
                self._stop_all()
            else:
                self._go_on()
            self._report()

    @property
    def _going(self) -> bool:
        return "deletionTimestamp" in self.document["metadata"]

    @property
    def _spec(self) -> dict[str, Any]:
        return dict(self.document["spec"])

    def _go_on(self) -> None:
        """Start what comes next."""
        for container in self._spec.get("initContainers") or []:
            always = container.get("restartPolicy") == "Always"
            if not self._begun(container):
                return
            state = self.states[container["name"]]
            if "terminated" in state and always and not self._mains_ended():
                self._restart(container)
                return
            if not always and ("running" in state or state["terminated"]["exitCode"] != 0):
                self._stop_sidecars(done="running" not in state)
                return
        for container in self._spec["containers"]:
            self._begun(container)
        self._resize()
        self._stop_sidecars(done=self._mains_ended())

    def _mains_ended(self) -> bool:
        return all("terminated" in self.states.get(one["name"], {}) for one in self._spec["containers"])

    def _begun(self, container: Document) -> bool:
        """Start a container, or say why it waits."""
        name = container["name"]
        if name in self.ids or "terminated" in self.states.get(name, {}):
            return True
        if time.monotonic() < self._deaf_until.get(name, 0.0):
            return False
        try:
            self._begin(container)
        except (Unmountable, Unmakeable) as error:
            reason = "ContainerCreating" if isinstance(error, Unmountable) else "CreateContainerConfigError"
            self._wait(name, reason, str(error), "FailedMount" if isinstance(error, Unmountable) else "Failed")
            return False
        except _NoImage as error:
            again = "waiting" in self.states.get(name, {})
            reason = error.reason or ("ImagePullBackOff" if again else "ErrImagePull")
            self._wait(name, reason, error.backing_off if reason == "ImagePullBackOff" else str(error), "Failed")
            return False
        return True

    def _begin(self, container: Document) -> None:
        name = container["name"]
        self._check_image(container)
        self.volumes.prepare()
        self._open_sandbox()
        body = request_of(
            self.kubelet.store, self.document, container, binds=self.volumes.binds(container), sandbox=self._sandbox, address=self.address
        )
        made = self.client.create_container_from_config(body, f"k8s_{name}_{self.uid[:8]}_{self.restarts.get(name, 0)}")["Id"]
        try:
            self.client.start(made)
        except api_error() as error:
            words = str(error.explanation)
            ended = {"exitCode": 128, "reason": "StartError", "message": words, "startedAt": _GONE, "finishedAt": now()}
            self.states[name] = {"terminated": ended}
            self.outputs[name] = Output()
            self.outputs[name].end()
            self.client.remove_container(made, force=True)
            return
        self.ids[name] = made
        self.states[name] = {"running": {"startedAt": now()}}
        self.outputs.setdefault(name, Output())
        self.resources[name] = container.get("resources") or {}
        self._event("Normal", "Started", f"Container {name} started")
        reader = threading.Thread(target=self._read_log, args=(name, made), daemon=True)
        reader.start()
        self._readers[name] = reader

    def _restart(self, container: Document) -> None:
        name = container["name"]
        self.client.remove_container(self.ids.pop(name), force=True)
        self.restarts[name] = self.restarts.get(name, 0) + 1
        self._wait(name, "CrashLoopBackOff", f"back-off 10s restarting failed container={name}", "BackOff")

    def _wait(self, name: str, reason: str, message: str, event: str) -> None:
        self.states[name] = {"waiting": {"reason": reason, "message": message}}
        self._deaf_until[name] = time.monotonic() + _AGAIN_S
        self._event("Warning", event, message)

    def _check_image(self, container: Document) -> None:
        image = container["image"]
        if image != image.lower():
            raise _NoImage(image, f'Failed to apply default image tag "{image}": couldn\'t parse image name', "InvalidImageName")
        if container["imagePullPolicy"] != "Always" and self.client.images(image):
            return
        if container["imagePullPolicy"] == "Never":
            raise _NoImage(image, f'Container image "{image}" is not present with pull policy of Never', "ErrImageNeverPull")
        raise _NoImage(image, f'failed to pull and unpack image "{image}": dial tcp: lookup registry: no such host')

    # --- looking ---

    def _look(self) -> None:
        """See what has ended meanwhile."""
        for name, container in list(self.ids.items()):
            if "running" not in self.states[name]:
                continue
            found = self.client.inspect_container(container)["State"]
            if found["Running"] or found["Status"] == "created":
                continue
            self._readers[name].join(timeout=_LOG_S)  # its log is whole when its end is told
            self._read_rest(name, container)
            code = int(found["ExitCode"])
            reason = "OOMKilled" if found["OOMKilled"] else "Completed" if code == 0 else "Error"
            began = self.states[name]["running"]["startedAt"]
            ended = {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now(), "containerID": f"docker://{container}"}
            self.states[name] = {"terminated": ended}

    def _read_log(self, name: str, container: str) -> None:
        with contextlib.suppress(OSError, ValueError), self.kubelet.connect() as client:
            self.read[name] = 0
            for at_ns, data in log(client, container, follow=True):
                self.outputs[name].add(data, at_ns)
                self.read[name] += 1

    def _read_rest(self, name: str, container: str) -> None:
        """Read what the engine left out: followed to its end, it may keep the last that was written."""
        if not self._readers[name].is_alive():
            for at, (at_ns, data) in enumerate(log(self.client, container, follow=False)):
                if at >= self.read[name]:
                    self.outputs[name].add(data, at_ns)
        self.outputs[name].end()

    # --- ending ---

    def _stop_all(self) -> None:
        """End everything: the mains, then the sidecars, all within the pod's grace."""
        grace_s = float(self.document["metadata"].get("deletionGracePeriodSeconds") or 0)
        until = time.monotonic() + grace_s
        self._ends_at = until if self._ends_at is None else min(self._ends_at, until)
        once = [one["name"] for one in self._spec.get("initContainers") or [] if one.get("restartPolicy") != "Always"]
        mains = [*once, *(one["name"] for one in self._spec["containers"])]
        self._signal(mains)
        if not any("running" in self.states.get(name, {}) for name in mains):
            self._signal(self._sidecars())

    def _stop_sidecars(self, *, done: bool) -> None:
        if done:
            if self._ends_at is None:
                self._ends_at = time.monotonic() + float(self._spec.get("terminationGracePeriodSeconds", 30))
            self._signal(self._sidecars())

    def _sidecars(self) -> list[str]:
        return [one["name"] for one in self._spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]

    def _signal(self, names: Sequence[str]) -> None:
        assert self._ends_at is not None
        for name in names:
            if "running" not in self.states.get(name, {}):
                continue
            with contextlib.suppress(Exception):
                if time.monotonic() >= self._ends_at:
                    self.client.kill(self.ids[name], "SIGKILL")
                elif name not in self._killed:
                    self._killed.add(name)
                    self.client.kill(self.ids[name], "SIGTERM")

    def _let_go(self) -> None:
        metadata = self.document["metadata"]
        if metadata.get("deletionGracePeriodSeconds"):
            self._write(lambda draft: draft["metadata"].update(deletionGracePeriodSeconds=0))

    # --- resizing ---

    def _resize(self) -> None:
        for container in self._spec["containers"]:
            name, wanted = container["name"], container.get("resources") or {}
            if "running" not in self.states.get(name, {}) or self.resources.get(name) == wanted:
                continue
            limits = limits_of(container)
            try:
                self.client._result(self.client._post_json(self.client._url("/containers/{0}/update", self.ids[name]), data=limits))
                response = self.client.inspect_container(self.ids[name])["HostConfig"]
                assert all(response[key] == value for key, value in limits.items()), "not in force"
            except (AssertionError, api_error()) as error:
                words = f"cannot decrease memory limits: {error}"
                self._write(partial(_stuck, words))
                continue
            self.resources[name] = wanted
            self._write(lambda draft: condition(draft["status"], "PodResizeInProgress", False))

    # --- telling ---

    def _report(self) -> None:
        told = json.dumps([self.states, self.restarts, self.resources, self._going], sort_keys=True)
        if told == self._reported and not (self._going and not self._any_running()):
            return
        self._reported = told
        self._write(self._fill)
        if self._going and not self._any_running():
            self._ended_at = self._ended_at or time.monotonic()
            if time.monotonic() >= self._ended_at + _LINGER_S:
                self._let_go()

    def _any_running(self) -> bool:
        return any("running" in state for state in self.states.values())

    def _fill(self, draft: Document) -> None:
        fill(
            draft, self.states, ending=self._going, restarts=self.restarts, resources=self.resources, address=self.address or "192.0.2.77"
        )  # fmt: skip

    def _write(self, how: Callable[[Document], None]) -> None:
        metadata = self.document["metadata"]

        def same(draft: Document) -> None:
            if draft["metadata"]["uid"] != self.uid:
                raise Refused(404, "NotFound", "another pod of that name")
            how(draft)

        try:
            self.document = self.kubelet.store.change("pods", metadata["namespace"], metadata["name"], same)
        except Refused:
            self.removed = True

    def _event(self, kind: str, reason: str, message: str) -> None:
        metadata = self.document["metadata"]
        involved = {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": self.uid, "apiVersion": "v1"}
        name = f"{metadata['name']}.{abs(hash((reason, message))):x}"[:240]
        document = {
            "metadata": {"name": name}, "involvedObject": involved, "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": "kubelet"}, "reportingComponent": "kubelet",
        }  # fmt: skip
        with contextlib.suppress(Refused):
            self.kubelet.store.create(RESOURCES["events"], metadata["namespace"], document)

    # --- the sandbox ---

    def _open_sandbox(self) -> None:
        if self._sandbox:
            return
        metadata = self.document["metadata"]
        body = {
            "Image": self.kubelet.image, "Entrypoint": ["sleep"], "Cmd": ["infinity"], "Hostname": metadata["name"][:63],
            "Labels": {"dla-fake-kubelet": self.uid}, "HostConfig": {"IpcMode": "shareable", "Init": True},
        }  # fmt: skip
        self._sandbox = self.client.create_container_from_config(body, f"k8s_POD_{self.uid}")["Id"]
        self.client.start(self._sandbox)
        networks = self.client.inspect_container(self._sandbox)["NetworkSettings"]["Networks"]
        self.address = next((found["IPAddress"] for found in networks.values() if found["IPAddress"]), "")

    def _clear(self) -> None:
        for container in [*self.ids.values(), self._sandbox]:
            if container:
                with contextlib.suppress(Exception):
                    self.client.remove_container(container, force=True, v=True)
        for output in self.outputs.values():
            output.end()
        self.volumes.remove()
        with self.kubelet._lock:
            self.kubelet._pods.pop(self.uid, None)


def _stuck(words: str, draft: Document) -> None:
    condition(draft["status"], "PodResizeInProgress", True, "Error", words)


class _NoImage(Exception):
    def __init__(self, image: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.backing_off = f'Back-off pulling image "{image}": ErrImagePull: {message}'
