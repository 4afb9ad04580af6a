"""A cluster as tests use it: by somebody else's client, by those who may less, past a wire that is cut."""

from __future__ import annotations

import copy
import functools
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml
from contracts.runtime import wait_until
from cut_wire import CutWire

from airflow_dla.runtime.kubernetes import names

Document = dict[str, Any]

#: What a follower needs: the verbs of a Role, by API group and resource.
ROLE: Final[Mapping[str, Sequence[str]]] = {
    "batch/jobs": ("create", "get", "list", "watch", "patch", "delete"),
    "/pods": ("get", "list", "watch", "delete"),
    "/pods/log": ("get",),
    "/pods/exec": ("create", "get"),
    "/pods/resize": ("patch",),
    "/secrets": ("create",),
    "/configmaps": ("create",),
    "/services": ("create", "delete"),
    "/events": ("list",),
}

_RBAC: Final = "rbac.authorization.k8s.io/v1"
#: What attempts leave in a namespace.
_LEFT: Final = (("batch/v1", "jobs"), ("v1", "pods"), ("v1", "secrets"), ("v1", "services"))
MERGE: Final = "application/merge-patch+json"
#: For so long the cluster may not have noticed yet that a pod has ended.
_SETTLED_S: Final = 15.0
#: Parameters of the fixture ``site`` where a fake cluster does not say, or lose, what a real one does.
REAL: Final = (pytest.param("named_site", marks=pytest.mark.kubernetes),)
_OURS: Final = "app.kubernetes.io/part-of=dla-tests"


class Refused(Exception):
    """Raised when a cluster will not do what a test needs."""


@dataclass(frozen=True)
class Site:
    """A namespace of a cluster, and who asks there.

    Parameters
    ----------
    config : mapping
        A kubeconfig of one context.
    namespace, image : str
        An image that has a shell and Python.
    pythonless : str
        One that may have none.
    """

    config: Document
    namespace: str
    image: str
    pythonless: str

    # --- as somebody else ---

    def connect(self) -> Any:
        """Return a client of Kubernetes' own library."""
        import kubernetes

        configuration = kubernetes.client.Configuration()
        kubernetes.config.load_kube_config_from_dict(copy.deepcopy(self.config), client_configuration=configuration)
        return kubernetes.client.ApiClient(configuration)

    def at(self, version: str, plural: str, name: str = "", *, cluster_wide: bool = False) -> str:
        """Return the path of an object, or of all of a kind."""
        within = "" if cluster_wide else f"/namespaces/{self.namespace}"
        return f"/{'apis' if '/' in version else 'api'}/{version}{within}/{plural}{f'/{name}' if name else ''}"

    def ask(self, method: str, path: str, body: Any = None, *, content: str = "application/json") -> Any:
        """Send a request and return its document; `Refused` if it is not good."""
        return json.loads(self._answer(method, path, body, content=content))

    def log(self, pod: Mapping[str, Any], container: str) -> str:
        """Return what a container of a pod has written; nothing where it has not begun."""
        waits = {one["name"] for one in pod["status"].get("containerStatuses") or () if "waiting" in one["state"]}
        path = f"{self.at('v1', 'pods', pod['metadata']['name'])}/log?container={container}"
        return "" if container in waits else self._answer("GET", path).decode()

    def _answer(self, method: str, path: str, body: Any = None, *, content: str = "application/json") -> bytes:
        client = self._client
        headers = {**client.default_headers, "Accept": "application/json", "Content-Type": content}
        client.update_params_for_auth(headers, [], ["BearerToken"])
        data = None if body is None else json.dumps(body)
        answer = client.rest_client.pool_manager.request(method, f"{client.configuration.host}{path}", body=data, headers=headers)
        if answer.status >= 400:
            raise Refused(f"{method} {path}: {answer.status} {answer.data.decode()[:500]}")
        return bytes(answer.data)

    def pods(self, labels: str = "") -> list[Document]:
        """Return the namespace's pods."""
        return list(self.ask("GET", f"{self.at('v1', 'pods')}?labelSelector={labels}")["items"])

    def jobs(self, labels: str) -> list[Document]:
        """Return the namespace's Jobs that labels select."""
        return list(self.ask("GET", f"{self.at('batch/v1', 'jobs')}?labelSelector={labels}")["items"])

    def pod(self, attempt: str) -> Document:
        """Return the pod of an attempt."""
        return next(found for found in self.pods() if names.attempt_of(found) == attempt)

    def delete_pod(self, name: str) -> None:
        """Delete a pod as somebody would by hand."""
        self.ask("DELETE", self.at("v1", "pods", name))

    def evict(self, name: str) -> None:
        """Evict a pod, as a drain does."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.namespace}}
        self.ask("POST", self.at("v1", "pods", f"{name}/eviction"), eviction)

    # --- other sites of the same cluster ---

    @contextmanager
    def own_namespace(self, **labels: str) -> Iterator[Site]:
        """Make a namespace that is gone afterwards."""
        name = f"{self.namespace}-{uuid.uuid4().hex[:8]}"
        metadata = {"name": name, "labels": dict([_OURS.split("=")]) | labels}
        self.ask("POST", self.at("v1", "namespaces", cluster_wide=True), {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        try:
            yield replace(self, namespace=name)
        finally:
            self.ask("DELETE", self.at("v1", "namespaces", name, cluster_wide=True))

    @contextmanager
    def made(self, version: str, plural: str, kind: str, document: Mapping[str, Any], *, cluster_wide: bool = False) -> Iterator[Document]:
        """Make an object that is gone afterwards."""
        name = f"dla-{uuid.uuid4().hex[:8]}"
        metadata = {"name": name, "labels": dict([_OURS.split("=")])}
        full = {"apiVersion": version, "kind": kind, "metadata": metadata, **document}
        made = self.ask("POST", self.at(version, plural, cluster_wide=cluster_wide), full)
        try:
            yield made
        finally:
            self.ask("DELETE", self.at(version, plural, name, cluster_wide=cluster_wide))

    @contextmanager
    def admits(self, policy: Mapping[str, Any]) -> Iterator[None]:
        """Have the cluster look at what is made in this namespace before it is."""
        version = "admissionregistration.k8s.io/v1"
        with self.made(version, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", policy, cluster_wide=True) as made:
            here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}}
            bound = {"policyName": made["metadata"]["name"], "validationActions": ["Deny"], "matchResources": here}
            kind = "ValidatingAdmissionPolicyBinding"
            with self.made(version, f"{kind.lower()}s", kind, {"spec": bound}, cluster_wide=True):
                yield

    @contextmanager
    def limited(self, role: Mapping[str, Sequence[str]] = ROLE) -> Iterator[Site]:
        """Return the same namespace as one sees it who may do only so much there."""
        rules = [{"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
                 for found, verbs in role.items() for group, _, resource in [found.partition("/")]]  # fmt: skip
        with (
            self.made("v1", "serviceaccounts", "ServiceAccount", {}) as account,
            self.made(_RBAC, "roles", "Role", {"rules": rules}) as made,
            self.made(_RBAC, "rolebindings", "RoleBinding", {
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": made["metadata"]["name"]},
                "subjects": [{"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": self.namespace}],
            }),
        ):  # fmt: skip
            yield self.by_token(self.token(account["metadata"]["name"]))

    def token(self, account: str) -> str:
        """Return a new token of a service account."""
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        return str(self.ask("POST", self.at("v1", "serviceaccounts", f"{account}/token"), asked)["status"]["token"])

    def by_token(self, token: str) -> Site:
        """Return the same site for whom a token stands for."""
        return replace(self, config={**self.config, "users": [{"name": "test", "user": {"token": token}}]})

    @contextmanager
    def past(self) -> Iterator[tuple[Site, CutWire]]:
        """Return the same site past a wire that may be cut."""
        server = urlsplit(self.config["clusters"][0]["cluster"]["server"])
        wire = CutWire(str(server.hostname), server.port or 443)
        given = {**self.config["clusters"][0]["cluster"], "server": f"{server.scheme}://127.0.0.1:{wire.port}"}
        if server.scheme == "https":
            given.setdefault("tls-server-name", server.hostname)
        try:
            yield replace(self, config={**self.config, "clusters": [{"name": "test", "cluster": given}]}), wire
        finally:
            wire.close()

    def written(self, path: Path) -> Path:
        """Write the kubeconfig into a file; return its path."""
        path.write_text(yaml.safe_dump(self.config))
        return path

    # --- what is left ---

    def clear(self, workspace: str) -> list[str]:
        """Remove what a workspace has there; return the pods that still ran, and would not end by themselves."""
        selector, until = names.selector(workspace), time.monotonic() + _SETTLED_S
        while (still := running(self.pods(selector))) and time.monotonic() < until:
            time.sleep(0.2)
        for version, plural in _LEFT:
            self.ask("DELETE", f"{self.at(version, plural)}?labelSelector={selector}&propagationPolicy=Background&gracePeriodSeconds=1")
        wait_until(lambda: not self.pods(selector), 60)
        return still

    def forget_runners(self) -> None:
        """Remove what every workspace of a test left for the next ones."""
        self.ask("DELETE", f"{self.at('v1', 'configmaps')}?labelSelector={names.WORKSPACE}")

    @functools.cached_property
    def _client(self) -> Any:
        return self.connect()


def running(pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the pods that have not ended."""
    return [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") not in {"Succeeded", "Failed"}]


def read_config(path: Path) -> Document:
    """Read a kubeconfig's current context; files that it names are named absolutely then.

    Returns
    -------
    dict
        With one cluster, user and context, called ``test``.
    """
    given = yaml.safe_load(path.read_text())
    context = next(found["context"] for found in given["contexts"] if found["name"] == given["current-context"])
    parts = {}
    for kind in ("cluster", "user"):
        named = next(found[kind] for found in given[f"{kind}s"] if found["name"] == context[kind])
        parts[kind] = {key: str(path.parent / value) if key in _FILES else value for key, value in named.items()}
    return config_of(parts["cluster"], parts["user"])


_FILES: Final = frozenset({"certificate-authority", "client-certificate", "client-key", "tokenFile"})


def config_of(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Document:
    """Return a kubeconfig."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": dict(cluster)}],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
