"""Amounts as Kubernetes writes them, and what a pod sets aside on its node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import InvalidSpec

#: Amounts by the cluster's own names of resources, in cores, bytes and pieces.
Amounts = Mapping[str, float]

_WRITTEN: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([A-Za-z]{0,2})")
_SUFFIXES: Final = {
    "": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def quantity(raw: object, where: str) -> float:
    """Read an amount.

    Raises
    ------
    InvalidSpec
        If it is none.

    Examples
    --------
    >>> quantity("250m", "cpu"), quantity("1.5Gi", "memory"), quantity("2e3", "memory"), quantity(4, "cpu")
    (0.25, 1610612736.0, 2000.0, 4.0)
    >>> quantity("4 cores", "cpu")
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: cpu must be an amount as Kubernetes writes it, such as 500m or 4Gi, got '4 cores'
    """
    match = _WRITTEN.fullmatch(str(raw).strip())
    if match is None or match[2] not in _SUFFIXES:
        raise InvalidSpec(f"{where} must be an amount as Kubernetes writes it, such as 500m or 4Gi, got {str(raw)[:80]!r}")
    return float(match[1]) * _SUFFIXES[match[2]]


def quantities(raw: Mapping[str, Any] | None, where: str) -> dict[str, float]:
    """Read amounts by resource.

    Examples
    --------
    >>> quantities({"cpu": "2", "nvidia.com/gpu": 1}, "allocatable")
    {'cpu': 2.0, 'nvidia.com/gpu': 1.0}
    """
    return {name: quantity(amount, f"{where}.{name}") for name, amount in (raw or {}).items()}


def held_by_pod(pod: Mapping[str, Any]) -> dict[str, float]:
    """Return what a pod sets aside on its node, as the scheduler counts.

    All its containers and sidecars run at once; a container that initialises runs before them,
    beside the sidecars that were started before it. What a container keeps while it is made
    smaller counts until the kubelet has taken it away.

    Examples
    --------
    >>> fetch, main = {"name": "f", "resources": {"requests": {"cpu": "2"}}}, {"name": "m", "resources": {"requests": {"cpu": "1"}}}
    >>> held_by_pod({"metadata": {"name": "p"}, "spec": {"initContainers": [fetch], "containers": [main]}})
    {'cpu': 2.0}
    """
    spec, where = pod.get("spec", {}), f"pod {pod['metadata']['name']!r}"
    allocated: dict[str, Mapping[str, Any]] = {
        found["name"]: found.get("allocatedResources") or {}
        for kind in ("containerStatuses", "initContainerStatuses")
        for found in pod.get("status", {}).get(kind) or ()
    }

    def asks(container: Mapping[str, Any]) -> Amounts:
        wanted = quantities((container.get("resources") or {}).get("requests"), where)
        return _larger(wanted, quantities(allocated.get(container.get("name", "")), where))

    running = _sum(map(asks, spec.get("containers") or ()))
    first: Amounts = {}
    sidecars: Amounts = {}
    for container in spec.get("initContainers") or ():
        beside = _sum((sidecars, asks(container)))
        if container.get("restartPolicy") == "Always":
            sidecars = beside
        first = _larger(first, beside)
    together = _larger(first, _sum((running, sidecars)))
    together |= quantities((spec.get("resources") or {}).get("requests"), where)
    return _sum((together, quantities(spec.get("overhead"), where)))


def of_container(pod: Mapping[str, Any], name: str) -> dict[str, float]:
    """Return what one container of a pod asks for; nothing where there is no such container."""
    containers: Sequence[Mapping[str, Any]] = pod.get("spec", {}).get("containers") or ()
    found = next((one for one in containers if one.get("name") == name), {})
    return quantities((found.get("resources") or {}).get("requests"), f"pod {pod['metadata']['name']!r}")


def held_on_nodes(held: Iterable[tuple[Mapping[str, Any], Amounts]]) -> dict[str, dict[str, float]]:
    """Return what pods hold of each node, of those that are bound to one and have not ended.

    Parameters
    ----------
    held : iterable of (pod, amounts)
    """
    found: dict[str, list[Amounts]] = {}
    for pod, amounts in held:
        node = pod.get("spec", {}).get("nodeName")
        if node and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}:
            found.setdefault(node, []).append(amounts)
    return {node: _sum(parts) for node, parts in found.items()}


def _sum(parts: Iterable[Amounts]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def _larger(one: Amounts, other: Amounts) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}
