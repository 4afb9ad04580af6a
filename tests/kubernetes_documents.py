"""Nodes, pods and quotas as an API server returns them, in as few words as the tests need."""

from __future__ import annotations

from typing import Any

WORKSPACE = "0123456789abcdef"


def node(name: str = "n1", *, cpu: str = "8", memory: str = "32Gi", labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Return a node that is ready; `more` are extended resources, ``taints``, ``unschedulable`` and ``ready``."""
    spec = {key: more.pop(key) for key in ("taints", "unschedulable") if key in more}
    ready = more.pop("ready", "True")
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": "110", "hugepages-2Mi": "0", **more},
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
        },
    }


def asking(name: str = "main", **requests: str) -> dict[str, Any]:
    """Return a container with such requests; ``gpu`` stands for NVIDIA's name of them."""
    named = {"nvidia.com/gpu" if key == "gpu" else key: amount for key, amount in requests.items()}
    return {"name": name, "resources": {"requests": named}}


def pod(*containers: dict[str, Any], on: str | None = "n1", phase: str = "Running", ours: bool = False, **spec: Any) -> dict[str, Any]:
    """Return a pod that is bound to a node; `spec` is what else it says."""
    bound = {"nodeName": on} if on else {}
    labels = {"airflow-dla/workspace": WORKSPACE} if ours else {"app": "other"}
    return {
        "metadata": {"name": "p", "labels": labels},
        "spec": {"containers": list(containers), **bound, **spec},
        "status": {"phase": phase},
    }


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a quota of a namespace."""
    return {"metadata": {"name": "team"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used or {}}}
