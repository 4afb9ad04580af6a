"""A Kubernetes cluster that is none: a real HTTP server on the loopback, with what a cluster does behind it.

It was written beside a real one (1.36) and speaks its words. Known differences: unknown
fields are refused instead of dropped with a warning; documents have no managedFields;
resource versions count up by one for all kinds; a few seconds in which real controllers
wait (the pod collector, back-off) are left out; server-side apply, tables and OpenAPI are not served.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from fakes.kube.access import Access
from fakes.kube.admission import Rules
from fakes.kube.api import Api
from fakes.kube.conditions import condition
from fakes.kube.controllers import Controllers
from fakes.kube.http import ApiServer
from fakes.kube.kubelet import Execute, Kubelet, Play, ScriptedKubelet, Streams
from fakes.kube.kueue import Kueue
from fakes.kube.output import Output
from fakes.kube.resources import RESOURCES, Refused
from fakes.kube.store import Document, Store, now

__all__ = ["Execute", "FakeCluster", "Output", "Play", "Refused", "ScriptedKubelet", "Streams"]


class FakeCluster:
    """A cluster of one namespace and one node; a context manager.

    Parameters
    ----------
    kubelet : `Kubelet`, optional
        A `ScriptedKubelet` by default.
    namespace : str
    kueue : bool
        Whether there is Kueue.
    minor : int
        Of its version.
    protocols : sequence of str
        Versions of the channel protocol that it speaks.
    address : str
        Of its nodes.

    Attributes
    ----------
    store : `Store`
        Its objects, for tests that look past the API.
    measured : dict of str to (str, dict)
        What its metrics API tells of a pod, if that is among `groups`: a time, and containers' usage.
    rules : `Rules`
        Permissions, tokens, webhooks, throttling.
    requests : Counter
        How often each verb and path was asked for.
    bookmark_s : float
        Seconds between bookmarks; a real server's are about a minute apart.
    watchers : int
        Logs that the nodes can follow at once.
    """

    def __init__(
        self, kubelet: Kubelet | None = None, *, namespace: str = "ml", kueue: bool = False, minor: int = 36,
        protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io"), address: str = "192.0.2.1",
    ) -> None:  # fmt: skip
        self.kubelet: Kubelet = kubelet or ScriptedKubelet()
        self.namespace = namespace
        self.minor = minor
        self.address = address
        self.protocols = protocols
        own = {resource.group for resource in RESOURCES.values()} - {"", "kueue.x-k8s.io"}
        self.groups = own | ({"kueue.x-k8s.io"} if kueue else set())
        self.bookmark_s = 1.0
        self.watchers = 128
        self.measured: dict[str, tuple[str, dict[str, dict[str, str]]]] = {}
        self.closed = False
        self.store = Store()
        self.rules = Rules()
        self.access = Access(self.store)
        self.api = Api(self.store, self.rules)
        self.requests: Counter[str] = Counter()
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self._open: Counter[str] = Counter()
        self._generation = 0
        self._thawed = threading.Event()
        self._thawed.set()
        self.controllers = Controllers(self.store, self.kubelet, self._create, self._delete)
        self.kueue = Kueue(self.store, self.controllers.event) if kueue else None
        self._server: ApiServer | None = None
        self._port = 0
        self.add_namespace(namespace)
        self.add_node("node-1")

    def __enter__(self) -> Self:
        self.kubelet.attach(self.store)
        self.controllers.start()
        if self.kueue is not None:
            self.kueue.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self.stop()
        if self.kueue is not None:
            self.kueue.stop()
        self.controllers.stop()
        self.kubelet.close()

    # --- the server ---

    @property
    def url(self) -> str:
        """Return where it listens, also while it is stopped."""
        return f"http://127.0.0.1:{self._port}"

    def connect(self, token: str = "") -> Any:
        """Return a new `kubernetes.client.ApiClient` of it."""
        from kubernetes import client

        configuration = client.Configuration(host=self.url)
        configuration.proxy = None
        if token:
            configuration.api_key["BearerToken"] = f"Bearer {token}"
        return client.ApiClient(configuration)

    def start(self) -> None:
        """Listen, where it listened before."""
        self.closed = False
        self._server = ApiServer(self, self._port)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and cut every connection; what runs runs on."""
        if self._server is not None:
            self.closed = True
            self._generation += 1
            self._server.shutdown()
            self._server.server_close()
            self._server.cut()
            self._server = None

    def freeze(self) -> None:
        """Take requests, and answer none."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._thawed.set()

    def cut(self) -> None:
        """Cut every connection; new ones are taken."""
        assert self._server is not None
        self._generation += 1
        self._server.cut()

    def compact(self) -> None:
        """Forget the past: who asks for it gets 410."""
        self.store.bump()
        self.store.compact()

    def watches(self, plural: str) -> int:
        """Return how many watches of a kind are open."""
        return self._open[plural]

    # --- what is in it ---

    def add_namespace(self, name: str) -> None:
        """Add a namespace."""
        document = {"metadata": {"name": name}, "status": {"phase": "Active"}}
        self.store.create(RESOURCES["namespaces"], "", document)

    def add_node(
        self, name: str, amounts: Mapping[str, str] | None = None, *, labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
    ) -> None:  # fmt: skip
        """Add a node, of 4 CPUs and 16 GiB unless amounts say otherwise."""
        room = {"cpu": "4", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi", **(amounts or {})}
        status: dict[str, Any] = {"capacity": room, "allocatable": room, "nodeInfo": {"kubeletVersion": f"v1.{self.minor}.2"}}
        status["addresses"] = [{"type": "InternalIP", "address": self.address}, {"type": "Hostname", "address": name}]
        condition(status, "Ready", True, "KubeletReady", "kubelet is posting ready status")
        named = {"kubernetes.io/hostname": name, **(labels or {})}
        document = {"metadata": {"name": name, "labels": named}, "spec": {"taints": [dict(taint) for taint in taints]}, "status": status}
        self.store.create(RESOURCES["nodes"], "", document)

    def pods(self, namespace: str = "") -> list[Document]:
        """Return the pods there are."""
        return self.store.all("pods", namespace or self.namespace)

    def disrupt(self, pod: str, reason: str = "PreemptionByScheduler", message: str = "preempted", grace_s: float | None = None) -> None:
        """Have the cluster delete a pod for a reason that is not its own."""
        self.api.disrupt(self.namespace, pod, reason, message, grace_s)

    def lose_node(self, name: str) -> None:
        """Let a node fall silent: its pods are marked, told to go, and nobody there hears it."""
        if isinstance(self.kubelet, ScriptedKubelet):
            self.kubelet.lost.add(name)
        self.store.change("nodes", "", name, _silence)
        for pod in self.store.all("pods"):
            if pod["spec"].get("nodeName") == name:
                message = f"Taint manager: deleting due to NoExecute taint on node {name}"
                self.api.disrupt(pod["metadata"]["namespace"], pod["metadata"]["name"], "DeletionByTaintManager", message)

    def remove_node(self, name: str) -> None:
        """Take a node away; the pod collector ends what was on it."""
        self.store.remove("nodes", "", name)
        for pod in self.store.all("pods"):
            if pod["spec"].get("nodeName") == name:
                namespace, called = pod["metadata"]["namespace"], pod["metadata"]["name"]
                self.store.change("pods", namespace, called, _collected)
                with contextlib.suppress(Refused):
                    self.api.delete(RESOURCES["pods"], namespace, called, {"gracePeriodSeconds": 0})

    # --- for the server ---

    def count(self, method: str, path: str, query: dict[str, str]) -> None:
        """Remember a request."""
        self.requests[f"{method} {path}"] += 1
        self.asked.append((method, path, query))

    def wait_while_frozen(self) -> None:
        """Wait for the thaw."""
        self._thawed.wait()

    @contextlib.contextmanager
    def watching(self, plural: str) -> Iterator[Callable[[], bool]]:
        """Count an open watch; it asks whether it may go on."""
        generation = self._generation
        self._open[plural] += 1
        try:
            yield lambda: self._generation == generation and self._thawed.wait()
        finally:
            self._open[plural] -= 1

    @contextlib.contextmanager
    def following(self) -> Iterator[Callable[[], bool] | None]:
        """Count a log that is followed; None where the node cannot."""
        with self.watching("pods/log") as alive:
            yield alive if self._open["pods/log"] <= self.watchers else None

    def _create(self, plural: str, namespace: str, document: Document) -> Document:
        return self.api.create(RESOURCES[plural], namespace, document)

    def _delete(self, plural: str, namespace: str, name: str) -> None:
        self.api.delete(RESOURCES[plural], namespace, name)


def _silence(node: Document) -> None:
    condition(node["status"], "Ready", None, "NodeStatusUnknown", "Kubelet stopped posting node status.")
    taints = [{"key": "node.kubernetes.io/unreachable", "effect": effect, "timeAdded": now()} for effect in ("NoSchedule", "NoExecute")]
    node["spec"]["taints"] = [*(node["spec"].get("taints") or []), *taints]


def _collected(pod: Document) -> None:
    pod["status"]["phase"] = "Failed"
    condition(pod["status"], "DisruptionTarget", True, "DeletionByPodGC", "PodGC: node no longer exists")
