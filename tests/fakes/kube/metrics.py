"""The metrics API of the fake cluster, as metrics-server serves it: what pods use is what a test says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fakes.kube.resources import RESOURCES, Resource, not_found
from fakes.kube.selectors import matcher

if TYPE_CHECKING:
    from fakes.kubernetes_api import FakeCluster

GROUP: Final = "metrics.k8s.io"
PODS: Final = Resource("pods", "PodMetrics", GROUP, "v1beta1", subresources=())


def measured(cluster: FakeCluster, namespace: str, name: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return what one pod uses, or all that are chosen; of pods that are there and were measured."""
    if name:
        if name not in cluster.measured:
            raise not_found(PODS, name)
        return _document(cluster, cluster.api.get(RESOURCES["pods"], namespace, name))
    match = matcher(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    pods = [pod for pod in cluster.api.list(RESOURCES["pods"], namespace, {})["items"] if match(pod)]
    items = [_document(cluster, pod) for pod in pods if pod["metadata"]["name"] in cluster.measured]
    return {"kind": "PodMetricsList", "apiVersion": PODS.api_version, "metadata": {}, "items": items}


def _document(cluster: FakeCluster, pod: Mapping[str, Any]) -> dict[str, Any]:
    named = {key: pod["metadata"].get(key) for key in ("name", "namespace", "labels")}
    at, containers = cluster.measured[named["name"]]
    used = [{"name": container, "usage": dict(usage)} for container, usage in containers.items()]
    return {"kind": PODS.kind, "apiVersion": PODS.api_version, "metadata": named, "timestamp": at, "window": "15s", "containers": used}
