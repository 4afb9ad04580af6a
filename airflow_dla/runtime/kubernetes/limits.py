"""Grants as a cluster writes amounts."""

from __future__ import annotations

from typing import Final

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import limits as held
from airflow_dla.specs import Grant, PlaceSpec
from airflow_dla.specs.clusters import EMPTY_DIR

_SLICES: Final = "nvidia.com/"


def size(gib: float) -> str:
    """Return GiB as bytes."""
    return str(held.in_bytes(gib))


def limits(grant: Grant, place: PlaceSpec) -> dict[str, str]:
    """Return the limits of a grant, which are its requests too; what was not granted is not limited.

    Parameters
    ----------
    grant : `Grant`
    place : `PlaceSpec`
        Says what its cluster calls devices.

    Returns
    -------
    dict of str
        CPUs in thousandths, bytes, whole devices.

    Raises
    ------
    LaunchRefused
        If a share of a GPU was granted, which no device plugin hands out.

    Examples
    --------
    >>> place = PlaceSpec.from_mapping({"name": "k8s", "kind": "kubernetes", "in_cluster": True})
    >>> limits(Grant(id="a.1", node="k8s.n1", amounts={"cpu": 1.5, "memory": 0.5, "mig-1g.10gb": 1.0}), place)
    {'cpu': '1500m', 'memory': '536870912', 'nvidia.com/mig-1g.10gb': '1'}
    """
    found = compute(grant)
    if "disk" in grant.amounts and place.scratch == EMPTY_DIR:
        found["ephemeral-storage"] = size(grant.amounts["disk"])
    return found | {device(resource, place): _whole(resource, amount, place) for resource, amount in held.devices(grant).items()}


def compute(grant: Grant) -> dict[str, str]:
    """Return the limits that can be changed while a pod runs: CPUs and memory."""
    found = held.compute(grant)
    return {resource: f"{round(1000 * amount)}m" if resource == "cpu" else str(amount) for resource, amount in found.items()}


def device(resource: str, place: PlaceSpec) -> str:
    """Return what a place's cluster calls GPUs, or slices of them.

    Examples
    --------
    >>> place = PlaceSpec.from_mapping({"name": "k8s", "kind": "kubernetes", "in_cluster": True, "gpu_resource": "amd.com/gpu"})
    >>> device("gpu", place), device("mig-1g.10gb", place)
    ('amd.com/gpu', 'nvidia.com/mig-1g.10gb')
    """
    if resource == "gpu":
        return place.gpu_resource
    return place.resources.get(resource) or (_SLICES + resource).replace("+", ".")


def _whole(resource: str, amount: float, place: PlaceSpec) -> str:
    if not float(amount).is_integer():
        raise LaunchRefused(
            f"{amount:g} {resource} was granted on place {place.name!r}, whose cluster hands out whole devices only; ask for "
            "request={'gpu': 1}, or for a slice such as request={'mig-1g.10gb': 1}"
        )
    return str(int(amount))
