"""Names of nodes in a place that has many of them: the place's, a dot, and what the place itself calls them."""

from __future__ import annotations

from collections.abc import Iterable


def node_name(place: str, own: str) -> str:
    """Return the name of a node of a cluster, as ledger and grants know it.

    Examples
    --------
    >>> node_name("k8s", "gpu-1.lab")
    'k8s.gpu-1.lab'
    """
    return f"{place}.{own}"


def cluster_of(node: str, clusters: Iterable[str]) -> str | None:
    """Return the cluster that a node belongs to: the one with the longest name, for names may hold dots.

    Examples
    --------
    >>> cluster_of("k8s.eu.n1", ["k8s", "k8s.eu"]), cluster_of("k8s", ["k8s"]), cluster_of("host-1", ["k8s"])
    ('k8s.eu', 'k8s', None)
    """
    return max((place for place in clusters if node == place or node.startswith(f"{place}.")), key=len, default=None)
