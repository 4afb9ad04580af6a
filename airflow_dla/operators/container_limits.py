"""What a grant means to an operator that is not ours: a container's limits, or the GPUs that its process may see."""

from __future__ import annotations

import os
from typing import Any

from airflow_dla.specs import Grant

_MIB_IN_GIB = 1024


def runs_in_container(operator: Any) -> bool:
    """Whether an operator's work runs in a container of its own: it has the fields for one's limits."""
    return hasattr(operator, "container_resources") or hasattr(operator, "device_requests")


def apply_grant(operator: Any, grant: Grant) -> str:
    """Make a grant the limit of an operator's work where it can be; what its author named stays.

    Returns
    -------
    str
        What was set, for the task log.
    """
    if hasattr(operator, "container_resources"):
        return _kubernetes(operator, grant)
    if hasattr(operator, "device_requests"):
        return _docker(operator, grant)
    return _this_process(grant)


def _kubernetes(operator: Any, grant: Grant) -> str:
    """Set requests and limits of a pod's container (``KubernetesPodOperator``)."""
    if operator.container_resources is not None:
        return "container_resources is the author's, and stays"
    from kubernetes.client import models

    limits = kubernetes_quantities(grant)
    operator.container_resources = models.V1ResourceRequirements(requests=dict(limits), limits=limits)
    return f"container_resources {limits}"


def kubernetes_quantities(grant: Grant) -> dict[str, str]:
    """Write a grant as Kubernetes quantities; a part of a GPU, which no device plugin has, is left out.

    Examples
    --------
    >>> kubernetes_quantities(Grant(id="g", node="n", amounts={"cpu": 0.5, "memory": 1.5, "gpu": 2}))
    {'cpu': '500m', 'memory': '1536Mi', 'nvidia.com/gpu': '2'}
    """
    amounts = grant.amounts
    written = {"cpu": f"{round(1000 * amounts.get('cpu', 0))}m", "memory": f"{round(_MIB_IN_GIB * amounts.get('memory', 0))}Mi"}
    found = {resource: text for resource, text in written.items() if amounts.get(resource)}
    gpus = amounts.get("gpu", 0.0)
    return {**found, "nvidia.com/gpu": f"{gpus:.0f}"} if gpus >= 1 else found


def _docker(operator: Any, grant: Grant) -> str:
    """Set CPUs, memory and devices of a container (``DockerOperator``)."""
    said = []
    if "cpu" in grant.amounts:
        operator.cpus = grant.amounts["cpu"]
        said.append(f"cpus {operator.cpus:g}")
    if "memory" in grant.amounts and operator.mem_limit is None:
        operator.mem_limit = f"{round(_MIB_IN_GIB * grant.amounts['memory'])}m"
        said.append(f"mem_limit {operator.mem_limit}")
    if grant.gpu_ids and operator.device_requests is None:
        from docker.types import DeviceRequest  # noqa: PLC0415 - there where the operator is

        operator.device_requests = [DeviceRequest(device_ids=list(grant.gpu_ids), capabilities=[["gpu"]])]
        said.append(f"GPUs {', '.join(grant.gpu_ids)}")
    return ", ".join(said) or "the author's limits stay"


def _this_process(grant: Grant) -> str:
    """Show this process, which Airflow made for this task alone, the GPUs it was handed and no others."""
    if not grant.amounts.get("gpu"):
        return "accounted for, not enforced"
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(grant.gpu_ids)
    return f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}"
