"""A cluster as one node of the ledger: where its nodes are not ours to see, or not ours to choose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.kubernetes.facts import Document
from airflow_dla.runtime.kubernetes.nodes import is_ours, our_amounts, resource_names
from airflow_dla.runtime.kubernetes.quantities import held_by_pod, quantities
from airflow_dla.specs import Node, PlaceSpec
from airflow_dla.specs.resources import amounts
from airflow_dla.specs.values import mapping_of, text

#: What is granted of a place where somebody else decides who starts: more than anybody asks for.
_PLENTY: Final = {"cpu": 1e5, "memory": 1e6, "disk": 1e6, "gpu": 1e4, "gpu_memory": 1e6}
#: Words of a ResourceQuota before a resource's own name; ours ask for no less than their limit.
_OF_QUOTAS: Final = ("requests.", "limits.", "")
#: Without these a job cannot be granted anything.
_NEEDED: Final = ("cpu", "memory")


def named(place: PlaceSpec, labels: Mapping[str, str]) -> Node:
    """Return a place of which its owner says what may be granted there in all.

    Raises
    ------
    InvalidSpec
        If the capacity names what is no resource.

    Examples
    --------
    >>> place = PlaceSpec(name="k", kind="kubernetes", in_cluster=True, capacity={"cpu": 64, "gpu": 4, "gpu_type": "h100"})
    >>> node = named(place, {"images": "yes"})
    >>> node.name, node.capacity, node.labels
    ('k', {'cpu': 64.0, 'gpu': 4.0}, {'gpu_type': 'h100', 'images': 'yes'})
    """
    where = f"place {place.name!r}: capacity"
    given = {name: amount for name, amount in place.capacity.items() if amount is not None}
    own = mapping_of(text)(given.pop("labels", {}), f"{where}.labels")
    if "gpu_type" in given:
        own["gpu_type"] = str(given.pop("gpu_type"))
    return Node(name=place.name, place=place.name, capacity=amounts(given, where), labels={**own, **place.labels, **labels})


def unlimited(place: PlaceSpec, labels: Mapping[str, str]) -> Node:
    """Return a place whose jobs wait for somebody else's admission: everything is granted there at once.

    Examples
    --------
    >>> place = PlaceSpec(name="k", kind="kubernetes", in_cluster=True, allocator="kueue", queue="q", resources={"mig-1g.10gb": "a.io/s"})
    >>> unlimited(place, {}).capacity["mig-1g.10gb"]
    10000.0
    """
    slices = dict.fromkeys(place.resources, _PLENTY["gpu"])
    return Node(name=place.name, place=place.name, capacity=_PLENTY | slices, labels={**place.labels, **labels})


def by_quota(
    quotas: Iterable[Document],
    pods: Sequence[Document],
    place: PlaceSpec,
    *,
    workspace: str,
    labels: Mapping[str, str],
    whole: bool = False,
) -> Node:
    """Return a place that may have what the quotas of its namespace leave.

    Parameters
    ----------
    quotas, pods : documents
        Of the namespace.
    place : `PlaceSpec`
    workspace : str
        Identity of the workspace; what its own pods have used up is not taken off.
    labels : mapping of str
    whole : bool
        As it is when nobody but us is in the namespace.

    Raises
    ------
    InvalidSpec
        If no quota says how much CPU or memory there is.
    """
    ours = [held_by_pod(pod) for pod in pods if is_ours(pod, workspace) and pod.get("status", {}).get("phase") in {"Pending", "Running"}]
    left: dict[str, float] = {}
    for quota in quotas:
        if quota.get("spec", {}).get("scopes") or quota.get("spec", {}).get("scopeSelector"):
            continue
        for resource, amount in _left(quota, ours, whole=whole).items():
            left[resource] = min(amount, left.get(resource, amount))
    capacity = our_amounts(left, resource_names(place))
    missing = [resource for resource in _NEEDED if resource not in capacity]
    if missing:
        raise InvalidSpec(
            f"place {place.name!r}: nodes and pods of the cluster may not be listed, and no ResourceQuota of its namespace says how much "
            f"{' and '.join(missing)} there is; let its user list both by a ClusterRole, or write into the place's capacity what may be "
            'granted there in all: {"cpu": 64, "memory": "256GiB", "gpu": 4}'
        )
    return Node(name=place.name, place=place.name, capacity=capacity, labels={**place.labels, **labels})


def _left(quota: Document, ours: Sequence[Mapping[str, float]], *, whole: bool) -> dict[str, float]:
    """Return what a quota leaves us, by the cluster's names of resources."""
    where, status = f"ResourceQuota {quota['metadata']['name']!r}", quota.get("status") or {}
    hard = _of_resources(status.get("hard") or quota.get("spec", {}).get("hard"), where)
    used = {} if whole else _of_resources(status.get("used"), where)
    found: dict[str, float] = {}
    for (prefix, resource), amount in hard.items():
        own = 0.0 if whole else sum(one.get(resource, 0.0) for one in ours)
        found[resource] = min(amount - used.get((prefix, resource), 0.0) + own, found.get(resource, float("inf")))
    return found


def _of_resources(raw: Mapping[str, Any] | None, where: str) -> dict[tuple[str, str], float]:
    """Read amounts of a quota, by its word and the resource; numbers of objects are left out."""
    found = {}
    for name, amount in quantities(raw, where).items():
        prefix = next(prefix for prefix in _OF_QUOTAS if name.startswith(prefix))
        found[prefix, name.removeprefix(prefix)] = amount
    return found
