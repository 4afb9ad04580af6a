"""Looks at a cluster for what may be granted there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from airflow_dla.runtime.kubernetes.nodes import nodes_of
from airflow_dla.runtime.kubernetes.pools import by_quota, named, unlimited
from airflow_dla.specs import Node, PlaceSpec

#: Seconds after which we ask again what we may see.
_PERMITTED_S: Final = 600.0
#: Pods that have ended hold nothing.
_LIVE: Final = "status.phase!=Succeeded,status.phase!=Failed"

Documents = list[dict[str, Any]]


class ClusterLike(Protocol):
    """The part of a cluster that is looked at here."""

    def list(self, kind: str, *, labels: str = "", fields: str = "", cluster_wide: bool = False) -> tuple[Documents, str]:
        """Return the objects that selectors choose."""

    def allowed(self, verb: str, kind: str, subresource: str = "") -> bool:
        """Whether we may do something."""

    def at(self, namespace: str) -> ClusterLike:
        """Return another namespace; the empty one stands for all."""


class ClusterNodes:
    """Looks at a cluster's nodes, as often as it is asked.

    Parameters
    ----------
    cluster : `ClusterLike`
        In the place's namespace.
    place : `PlaceSpec`
    workspace : str
        Identity of the workspace, whose pods are ours.
    labels : mapping of str
        What each node is known by besides the place's own labels.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(
        self,
        cluster: ClusterLike,
        *,
        place: PlaceSpec,
        workspace: str,
        labels: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._place = place
        self._workspace = workspace
        self._labels = labels
        self._clock = clock
        self._permitted: tuple[bool, float] | None = None

    def discover(self) -> Sequence[Node]:
        """Return what may be granted now.

        One node for each of the cluster's; one for all of them where Kueue decides, where the
        place's capacity says what there is in all, or where we may not see them.

        Raises
        ------
        PlaceUnavailable
            If the API server does not answer.
        InvalidSpec
            If nothing says how much there is.
        """
        return self._nodes(whole=False)

    def whole(self) -> Sequence[Node]:
        """Return what could be granted if nobody but us were there."""
        return self._nodes(whole=True)

    def _nodes(self, *, whole: bool) -> Sequence[Node]:
        place = self._place
        if place.allocator == "kueue":
            return (unlimited(place, self._labels),)
        if place.capacity:
            return (named(place, self._labels),)
        if self._may_see():
            nodes, _ = self._cluster.list("nodes", cluster_wide=True)
            pods = [] if whole else self._pods(cluster_wide=True)
            return nodes_of(nodes, pods, place, workspace=self._workspace, labels=self._labels, whole=whole)
        quotas = self._cluster.list("resourcequotas")[0] if self._cluster.allowed("list", "resourcequotas") else []
        pods = [] if whole else self._pods(cluster_wide=False)
        return (by_quota(quotas, pods, place, workspace=self._workspace, labels=self._labels, whole=whole),)

    def _pods(self, *, cluster_wide: bool) -> Documents:
        return self._cluster.list("pods", fields=_LIVE, cluster_wide=cluster_wide)[0]

    def _may_see(self) -> bool:
        """Whether we may list nodes, and pods of all namespaces."""
        if self._permitted is None or self._clock() - self._permitted[1] > _PERMITTED_S:
            seen = self._cluster.allowed("list", "nodes") and self._cluster.at("").allowed("list", "pods")
            self._permitted = seen, self._clock()
        return self._permitted[0]
