"""Nodes and pods as ``kubectl get … -o json`` prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.kubernetes.nodes import capacity_of, gpu_labels, resource_names
from airflow_dla.runtime.kubernetes.quantities import held_by_pod, held_on_nodes
from airflow_dla.specs import Node
from airflow_dla.specs.values import mapping

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
    others = [] if pods is None else [pod for pod in _items(pods, where) if _AIRFLOW not in (pod["metadata"].get("labels") or {})]
    held, names = held_on_nodes((pod, held_by_pod(pod)) for pod in others), resource_names()
    return tuple(
        Node(
            name=row["metadata"]["name"],
            place="kubernetes",
            capacity=capacity_of(row, held.get(row["metadata"]["name"], {}), names),
            labels=gpu_labels(row),
        )
        for row in _items(raw, where)
    )


def _items(raw: object, where: str) -> Sequence[Mapping[str, Any]]:
    items = mapping(raw, where).get("items")
    if not isinstance(items, list):
        raise InvalidSpec(f"{where} must be what `kubectl get ... -o json` prints, a mapping with items")
    return items
