"""What a cluster has left for us: what its nodes can hold, less what pods of others set aside.

Every node of the cluster is one of the ledger, called ``PLACE.NODE``. Which of its GPUs a
pod gets is for the device plugin to say, so they are granted by number.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_dla.runtime.gpus import gpu_type
from airflow_dla.runtime.kubernetes.facts import MAIN, Document
from airflow_dla.runtime.kubernetes.names import WORKSPACE, label
from airflow_dla.runtime.kubernetes.quantities import Amounts, held_by_pod, held_on_nodes, of_container, quantities
from airflow_dla.specs import Node, PlaceSpec, mig_profile
from airflow_dla.specs.node_names import node_name
from airflow_dla.specs.resources import GIB

#: What is granted of anything is told to so small a part of it.
_GRAIN: Final = 1000
_MIG: Final = "nvidia.com/mig-"
_UNITS: Final = {"memory": GIB, "disk": GIB}
#: Labels that NVIDIA's feature discovery gives to nodes; the memory is of one GPU, MiB.
_PRODUCT: Final = "nvidia.com/gpu.product"
_MEMORY: Final = "nvidia.com/gpu.memory"
_REPLICAS: Final = "nvidia.com/gpu.replicas"
#: Taints of the cluster's own come and go with what they tell of.
_OF_A_MOMENT: Final = "node.kubernetes.io/"


def resource_names(place: PlaceSpec | None = None) -> dict[str, str]:
    """Return what a cluster calls our resources, slices of GPUs under names of its own among them.

    Examples
    --------
    >>> resource_names(PlaceSpec(name="k", kind="kubernetes", in_cluster=True, resources={"mig-1g.10gb": "example.com/small"}))
    {'cpu': 'cpu', 'memory': 'memory', 'ephemeral-storage': 'disk', 'nvidia.com/gpu': 'gpu', 'example.com/small': 'mig-1g.10gb'}
    """
    gpu = "nvidia.com/gpu" if place is None else place.gpu_resource
    own = {} if place is None else {theirs: ours for ours, theirs in place.resources.items()}
    return {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "disk", gpu: "gpu", **own}


def our_amounts(theirs: Amounts, names: Mapping[str, str]) -> dict[str, float]:
    """Return amounts by our names and in our units; what jobs cannot ask for is left out.

    Parameters
    ----------
    theirs : mapping
        By the cluster's names, in its units; less than nothing counts for nothing.
    names : mapping
        Of `resource_names`.

    Examples
    --------
    >>> our_amounts({"cpu": 1.5, "memory": 2.0**31, "nvidia.com/mig-1g.10gb": 2.0, "pods": 110.0}, resource_names())
    {'cpu': 1.5, 'memory': 2.0, 'mig-1g.10gb': 2.0}
    """
    found: dict[str, float] = {}
    for name, amount in theirs.items():
        ours = names.get(name) or _slice(name)
        if ours:
            found[ours] = found.get(ours, 0.0) + max(0, math.floor(amount / _UNITS.get(ours, 1) * _GRAIN)) / _GRAIN
    return found


def _slice(name: str) -> str:
    """Return our name of NVIDIA's slices, empty for anything else; a cluster cannot write the plus of ``1g.10gb+me``."""
    found = name.removeprefix("nvidia.com/").replace(".me", "+me") if name.startswith(_MIG) else ""
    return found if mig_profile(found) else ""


def capacity_of(node: Document, held: Amounts, names: Mapping[str, str]) -> dict[str, float]:
    """Return what a node has left beside what is held of it."""
    where = f"node {node['metadata']['name']!r}: allocatable"
    there = quantities(node.get("status", {}).get("allocatable"), where)
    left = our_amounts({name: amount - held.get(name, 0.0) for name, amount in there.items()}, names)
    labels = node["metadata"].get("labels") or {}
    if left.get("gpu") and _MEMORY in labels and labels.get(_REPLICAS, "1") in {"0", "1"}:
        left["gpu_memory"] = left["gpu"] * quantities({"MiB": labels[_MEMORY]}, where)["MiB"] / 1024
    return left


def gpu_labels(node: Document) -> dict[str, str]:
    """Return the label of the type of a node's GPUs, where it tells.

    Examples
    --------
    >>> gpu_labels({"metadata": {"labels": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"}}})
    {'gpu_type': 'a100'}
    >>> gpu_labels({"metadata": {"labels": {"nvidia.com/gpu.product": "Tesla-T4-SHARED"}}}), gpu_labels({"metadata": {}})
    ({'gpu_type': 't4'}, {})
    """
    product = (node["metadata"].get("labels") or {}).get(_PRODUCT)
    return {"gpu_type": gpu_type(product.removesuffix("-SHARED").replace("-", " "))} if product else {}


def nodes_of(
    nodes: Iterable[Document],
    pods: Sequence[Document],
    place: PlaceSpec,
    *,
    workspace: str,
    labels: Mapping[str, str],
    whole: bool = False,
) -> tuple[Node, ...]:
    """Return a cluster's nodes that belong to a place, by name.

    A node that takes nothing new (cordoned, not ready, or with a taint that the place does not
    tolerate) is left out; where jobs of ours run there still, it has nothing to grant.

    Parameters
    ----------
    nodes, pods : documents
        All that the cluster has.
    place : `PlaceSpec`
    workspace : str
        Identity of the workspace; what its pods were granted is not taken off, only what they hold besides.
    labels : mapping of str
        What each node is known by besides the cluster's and the place's own labels.
    whole : bool
        As they are when nobody but us has pods there, all are ready and none is cordoned.
    """
    ours = {pod["spec"].get("nodeName") for pod in pods if is_ours(pod, workspace)}
    held = {} if whole else held_on_nodes((pod, _beside_grants(pod, workspace)) for pod in pods)
    found = [node for node in nodes if _selected(node, place) and (takes_pods(node, place.tolerations, whole=whole) or _name(node) in ours)]
    names = resource_names(place)
    return tuple(
        Node(
            name=node_name(place.name, _name(node)),
            place=place.name,
            capacity=_offered(node, held.get(_name(node), {}), names, closed=not takes_pods(node, place.tolerations, whole=whole)),
            labels={**(node["metadata"].get("labels") or {}), **gpu_labels(node), **place.labels, **labels},
        )
        for node in sorted(found, key=_name)
    )


def is_ours(pod: Document, workspace: str) -> bool:
    """Whether a pod is an attempt of the workspace."""
    return (pod["metadata"].get("labels") or {}).get(WORKSPACE) == label(workspace)


def _beside_grants(pod: Document, workspace: str) -> dict[str, float]:
    held = held_by_pod(pod)
    if not is_ours(pod, workspace):
        return held
    granted = of_container(pod, MAIN)
    return {name: max(0.0, amount - granted.get(name, 0.0)) for name, amount in held.items()}


def _offered(node: Document, held: Amounts, names: Mapping[str, str], *, closed: bool) -> dict[str, float]:
    left = capacity_of(node, held, names)
    return dict.fromkeys(left, 0.0) if closed else left


def _name(node: Document) -> str:
    return str(node["metadata"]["name"])


def _selected(node: Document, place: PlaceSpec) -> bool:
    return place.node_selector.items() <= (node["metadata"].get("labels") or {}).items()


def takes_pods(node: Document, tolerations: Collection[Mapping[str, Any]], *, whole: bool = False) -> bool:
    """Whether the scheduler would bind a pod of ours to a node.

    Parameters
    ----------
    node : mapping
    tolerations : collection of mapping
        In Kubernetes' own words.
    whole : bool
        Whether to look past what may be over in a moment: a cordon, a kubelet that is silent.
    """
    spec, taints = node.get("spec") or {}, (node.get("spec") or {}).get("taints") or ()
    lasting = [taint for taint in taints if not (whole and taint["key"].startswith(_OF_A_MOMENT))]
    if any(taint.get("effect") != "PreferNoSchedule" and not any(tolerates(one, taint) for one in tolerations) for taint in lasting):
        return False
    if whole:
        return True
    conditions = {found["type"]: found["status"] for found in node.get("status", {}).get("conditions") or ()}
    return not spec.get("unschedulable") and conditions.get("Ready") == "True" and "deletionTimestamp" not in node["metadata"]


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether a toleration is one of a taint.

    Examples
    --------
    >>> gpus = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    >>> tolerates({"key": "nvidia.com/gpu", "operator": "Exists"}, gpus), tolerates({"key": "nvidia.com/gpu", "value": "none"}, gpus)
    (True, False)
    """
    if toleration.get("effect") not in {None, "", taint.get("effect")} or toleration.get("key") not in {None, "", taint["key"]}:
        return False
    return toleration.get("operator") == "Exists" or (bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", ""))
