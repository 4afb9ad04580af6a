"""Nodes and pods as ``kubectl get … -o json`` prints them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Node
from airflow_dla.specs.resources import amounts
from airflow_dla.specs.values import mapping

_RESOURCES: Final[Mapping[str, str]] = {"cpu": "cpu", "memory": "memory", "nvidia.com/gpu": "gpu"}
_GPU_TYPE: Final = "nvidia.com/gpu.product"
#: What Airflow labels its own pods with.
_AIRFLOW: Final = "dag_id"


def read_nodes(raw: object, where: str, pods: object = None) -> tuple[Node, ...]:
    """Read nodes, less what pods hold that are not Airflow's.

    Parameters
    ----------
    raw, pods : mapping
        What ``kubectl get nodes -o json`` and ``kubectl get pods -A -o json`` printed.
    where : str
        Named in errors.

    Raises
    ------
    InvalidSpec
        If it is no such list, or an amount cannot be read.
    """
    held = _held(pods, where) if pods is not None else {}
    return tuple(_node(row, held.get(row["metadata"]["name"], {}), where) for row in _items(raw, where))


def _items(raw: object, where: str) -> Iterable[Mapping[str, Any]]:
    items = mapping(raw, where).get("items")
    if not isinstance(items, list):
        raise InvalidSpec(f"{where} must be what `kubectl get ... -o json` prints, a mapping with items")
    return items


def _node(row: Mapping[str, Any], held: Mapping[str, float], where: str) -> Node:
    name, labels = row["metadata"]["name"], row["metadata"].get("labels", {})
    there = _amounts(row.get("status", {}).get("allocatable", {}), f"{where}: {name}")
    return Node(
        name=name,
        place="kubernetes",
        capacity={resource: max(0.0, amount - held.get(resource, 0.0)) for resource, amount in there.items()},
        labels={"gpu_type": labels[_GPU_TYPE]} if _GPU_TYPE in labels else {},
    )


def _held(pods: object, where: str) -> dict[str, dict[str, float]]:
    held: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for pod in _items(pods, where):
        node, labels = pod.get("spec", {}).get("nodeName"), pod["metadata"].get("labels", {})
        if not node or _AIRFLOW in labels or pod.get("status", {}).get("phase") not in {"Running", "Pending"}:
            continue
        for container in pod["spec"].get("containers", []):
            asked = container.get("resources", {}).get("requests", {})
            for resource, amount in _amounts(asked, f"{where}: {pod['metadata']['name']}").items():
                held[node][resource] += amount
    return held


def _amounts(raw: Mapping[str, Any], where: str) -> dict[str, float]:
    return amounts({ours: str(raw[theirs]) for theirs, ours in _RESOURCES.items() if theirs in raw}, where)
