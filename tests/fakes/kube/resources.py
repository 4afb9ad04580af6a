"""What the fake cluster serves: its kinds, and the documents that an API server makes of what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object, as discovery names it.

    Parameters
    ----------
    plural, kind, group, version : str
    namespaced : bool
    subresources : sequence of str
    """

    plural: str
    kind: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    subresources: tuple[str, ...] = ("status",)

    @property
    def api_version(self) -> str:
        """Return the ``apiVersion`` of its documents."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """Return it as messages name it: ``jobs.batch``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_KUEUE: Final = "kueue.x-k8s.io"
_RBAC: Final = "rbac.authorization.k8s.io"
_ADMISSION: Final = "admissionregistration.k8s.io"

RESOURCES: Final = {
    resource.plural: resource
    for resource in (
        Resource("pods", "Pod", subresources=("status", "log", "exec", "eviction", "resize", "binding", "ephemeralcontainers")),
        Resource("jobs", "Job", "batch"),
        Resource("secrets", "Secret", subresources=()),
        Resource("configmaps", "ConfigMap", subresources=()),
        Resource("services", "Service"),
        Resource("events", "Event", subresources=()),
        Resource("resourcequotas", "ResourceQuota"),
        Resource("limitranges", "LimitRange", subresources=()),
        Resource("persistentvolumeclaims", "PersistentVolumeClaim"),
        Resource("serviceaccounts", "ServiceAccount", subresources=("token",)),
        Resource("namespaces", "Namespace", namespaced=False),
        Resource("nodes", "Node", namespaced=False),
        Resource("priorityclasses", "PriorityClass", "scheduling.k8s.io", namespaced=False, subresources=()),
        Resource("storageclasses", "StorageClass", "storage.k8s.io", namespaced=False, subresources=()),
        Resource("roles", "Role", _RBAC, subresources=()),
        Resource("rolebindings", "RoleBinding", _RBAC, subresources=()),
        Resource("validatingadmissionpolicies", "ValidatingAdmissionPolicy", _ADMISSION, namespaced=False),
        Resource("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", _ADMISSION, namespaced=False, subresources=()),
        Resource("workloads", "Workload", _KUEUE, "v1beta2"),
        Resource("localqueues", "LocalQueue", _KUEUE, "v1beta2"),
        Resource("clusterqueues", "ClusterQueue", _KUEUE, "v1beta2", namespaced=False),
        Resource("resourceflavors", "ResourceFlavor", _KUEUE, "v1beta2", namespaced=False, subresources=()),
        Resource("workloadpriorityclasses", "WorkloadPriorityClass", _KUEUE, "v1beta2", namespaced=False, subresources=()),
    )
}


class Refused(Exception):
    """Raised with what the server answers instead of what it was asked for.

    Parameters
    ----------
    code : int
        HTTP status.
    reason, message : str
    details : mapping, optional
    headers : mapping, optional
        More headers of the answer.
    """

    def __init__(
        self, code: int, reason: str, message: str, *, details: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    @property
    def document(self) -> dict[str, Any]:
        """Return the ``Status`` that says it."""
        return status(self.code, self.reason, str(self), self.details)


def status(code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a ``Status`` of a failure."""
    found = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason}
    return {**found, "details": dict(details or {}), "code": code}


def not_found(resource: Resource, name: str) -> Refused:
    """Return the refusal of an object that is not there."""
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return Refused(404, "NotFound", f'{resource.qualified} "{name}" not found', details=details)


def exists(resource: Resource, name: str) -> Refused:
    """Return the refusal of a second object of a name."""
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return Refused(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', details=details)


def modified(resource: Resource, name: str) -> Refused:
    """Return the refusal of a change to a version that is not the last."""
    words = f'Operation cannot be fulfilled on {resource.qualified} "{name}": '
    return Refused(409, "Conflict", f"{words}the object has been modified; please apply your changes to the latest version and try again")


def invalid(resource: Resource, name: str, *causes: str) -> Refused:
    """Return the refusal of a document that breaks rules."""
    said = causes[0] if len(causes) == 1 else f"[{', '.join(causes)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {"name": name, "group": resource.group, "kind": resource.kind}
    return Refused(422, "Invalid", f'{kind} "{name}" is invalid: {said}', details=details)


def forbidden(resource: Resource, name: str, why: str) -> Refused:
    """Return the refusal of something that is not allowed."""
    named = f' "{name}"' if name else ""
    return Refused(403, "Forbidden", f"{resource.qualified}{named} is forbidden: {why}", details={"name": name, "kind": resource.plural})
