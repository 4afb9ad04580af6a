"""The kinds of objects that we ask a cluster for, and where each of them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from airflow_dla.errors import NotFound


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object.

    Parameters
    ----------
    plural : str
        As in addresses and in the rules of a Role.
    name : str
        As in the ``kind`` of a document.
    group : str
        API group; empty for the first one.
    version : str
        Of the group.
    namespaced : bool
        Whether each object is in a namespace.
    older : str
        Version that is asked for where the cluster does not serve the other; empty where there is one alone.

    Examples
    --------
    >>> kind_of("jobs").path("ml", "train-1", "status")
    '/apis/batch/v1/namespaces/ml/jobs/train-1/status'
    >>> kind_of("nodes").path("ml")
    '/api/v1/nodes'
    """

    plural: str
    name: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    older: str = ""

    @property
    def api_version(self) -> str:
        """Return the ``apiVersion`` of a document."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """Return the path of its group's version."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def words(self) -> str:
        """Return it as the rules of a Role name it, for messages."""
        return f"{self.plural!r} of API group {self.group!r}" if self.group else f"{self.plural!r}"

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the path of one object, or of all in a namespace; of all there are where the namespace is empty."""
        within = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        parts = [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join([f"{self.root}{within}/{self.plural}", *parts])


_KUEUE: Final = "kueue.x-k8s.io"

KINDS: Final = {
    kind.plural: kind
    for kind in (
        Kind("pods", "Pod"),
        Kind("jobs", "Job", "batch"),
        Kind("secrets", "Secret"),
        Kind("configmaps", "ConfigMap"),
        Kind("services", "Service"),
        Kind("events", "Event"),
        Kind("resourcequotas", "ResourceQuota"),
        Kind("limitranges", "LimitRange"),
        Kind("persistentvolumeclaims", "PersistentVolumeClaim"),
        Kind("serviceaccounts", "ServiceAccount"),
        Kind("namespaces", "Namespace", namespaced=False),
        Kind("nodes", "Node", namespaced=False),
        Kind("priorityclasses", "PriorityClass", "scheduling.k8s.io", namespaced=False),
        Kind("runtimeclasses", "RuntimeClass", "node.k8s.io", namespaced=False),
        Kind("storageclasses", "StorageClass", "storage.k8s.io", namespaced=False),
        Kind("workloads", "Workload", _KUEUE, "v1beta2", older="v1beta1"),
        Kind("localqueues", "LocalQueue", _KUEUE, "v1beta2", older="v1beta1"),
        Kind("clusterqueues", "ClusterQueue", _KUEUE, "v1beta2", namespaced=False, older="v1beta1"),
        Kind("workloadpriorityclasses", "WorkloadPriorityClass", _KUEUE, "v1beta2", namespaced=False, older="v1beta1"),
    )
} | {"podmetrics": Kind("pods", "PodMetrics", "metrics.k8s.io", "v1beta1")}


def kind_of(plural: str) -> Kind:
    """Return a kind by its plural name.

    Raises
    ------
    NotFound
        If it is none that we use.
    """
    try:
        return KINDS[plural]
    except KeyError:
        raise NotFound(f"no kind {plural!r} is asked for here, only {', '.join(sorted(KINDS))}") from None
