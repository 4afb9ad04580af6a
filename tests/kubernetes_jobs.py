"""Jobs for clusters, fake or real, and what tests wait for there."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from fixtures_kubernetes import ClusterAccess

from airflow_dla.runtime.kubernetes.cluster import Cluster


def connected(access: ClusterAccess) -> Any:
    """Return a client of a real cluster."""
    client, config = importlib.import_module("kubernetes.client"), importlib.import_module("kubernetes.config")
    configuration = client.Configuration()
    config.load_kube_config(str(access.kubeconfig), client_configuration=configuration)
    return client.ApiClient(configuration)


def job_of(name: str, image: str = "dla:1", argv: Sequence[str] = ("true",), **spec: Any) -> dict[str, Any]:
    """Return a Job of one container."""
    limits = {"cpu": "10m", "memory": "64Mi"}
    main = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": list(argv), "resources": {"limits": limits}}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main]}
    return {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": pod}, **spec}}


def pod_of(cluster: Cluster, job: str, *phases: str) -> str:
    """Wait for the pod of a Job, in one of some phases, and return its name."""

    def found() -> list[dict[str, Any]]:
        pods = cluster.list("pods", labels=f"job-name={job}")[0]
        return [pod for pod in pods if not phases or pod["status"]["phase"] in phases]

    return str(until(found)[0]["metadata"]["name"])


def until(true: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found
