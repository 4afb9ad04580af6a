"""What may be granted of a machine: what was found there, overridden by what its owner names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Node, mig_profile
from airflow_dla.specs.resources import amounts, profile
from airflow_dla.specs.values import mapping_of, sequence_of, text


def overridden(found: Node, capacity: Mapping[str, Any], where: str) -> Node:
    """Return a node with what was found, except where somebody says otherwise.

    Parameters
    ----------
    found : `Node`
    capacity : mapping
        Amounts by resource, ``gpu_type``, ``labels``, and ids of slices of GPUs: ``{"mig_ids": {"1g.10gb": ["MIG-…"]}}``.
        GPUs that were not found but are named have the ids ``0``, ``1``, ….
    where : str
        Named in errors.

    Raises
    ------
    InvalidSpec
        If the capacity names what is no resource, or slices of GPUs without their ids.

    Examples
    --------
    >>> node = overridden(Node(name="n", capacity={"cpu": 8.0}, cpu_ids=(0, 1, 2, 3)), {"cpu": 2, "gpu": 1, "gpu_type": "h200"}, "capacity")
    >>> node.capacity, node.cpu_ids, node.gpu_ids, node.labels
    ({'cpu': 2.0, 'gpu': 1.0}, (0, 1), ('0',), {'gpu_type': 'h200'})
    """
    named = {key: value for key, value in capacity.items() if value is not None}
    labels = {**found.labels, **mapping_of(text)(named.pop("labels", {}), f"{where}.labels")}
    if "gpu_type" in named:
        labels["gpu_type"] = str(named.pop("gpu_type"))
    mig_ids = {**found.mig_ids, **mapping_of(sequence_of(text), key=profile)(named.pop("mig_ids", {}), f"{where}.mig_ids")}
    given = {f"mig-{name}": float(len(ids)) for name, ids in mig_ids.items()} | amounts(named, where)
    _refuse_slices_without_ids(given, mig_ids, where)
    gpus = int(given.get("gpu", len(found.gpu_ids)))
    return Node(
        name=found.name,
        place=found.place,
        capacity={**found.capacity, **given},
        labels=labels,
        cpu_ids=found.cpu_ids[: max(1, int(given.get("cpu", len(found.cpu_ids))))],
        gpu_ids=found.gpu_ids[:gpus] or tuple(str(index) for index in range(gpus)),
        mig_ids=mig_ids,
    )


def _refuse_slices_without_ids(capacity: Mapping[str, float], mig_ids: Mapping[str, Sequence[str]], where: str) -> None:
    for resource, amount in capacity.items():
        name = mig_profile(resource)
        known = len(mig_ids.get(name or "", ()))
        if name is not None and amount > known:
            raise InvalidSpec(
                f"{where}.{resource} is {amount:g}, but mig_ids names {known} of them; a job finds its slice by its id, so write "
                f'{{"mig_ids": {{"{name}": ["MIG-…"]}}}} with the ids that nvidia-smi -L shows'
            )
