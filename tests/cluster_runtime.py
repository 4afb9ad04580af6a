"""The runtime of a cluster as any process makes it, and what of it a test ends."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clusters import Site
from contracts.runtime import job_file, wait_until

from airflow_dla.artifacts import Store
from airflow_dla.artifacts.exchange import Exchange
from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes import names
from airflow_dla.runtime.kubernetes.cargo import Cargo
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.freight import Freight
from airflow_dla.runtime.kubernetes.logs import Logs
from airflow_dla.runtime.kubernetes.mirror import Mirror
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.runtime.kubernetes.shelf import Shelf
from airflow_dla.specs import Grant, PlaceSpec

#: Fields of a launch that are none of its job.
_BESIDE = frozenset({"image", "labels", "overrides", "secrets", "volumes"})


def runtime_at(
    site: Site, workspace: str, goods: Store, *, logs: Path | None = None, options: Mapping[str, Any] | None = None,
    quick_s: float = 10.0, slow_s: float = 30.0, silent_s: float = 60.0, blind: bool = False, **place: Any,
) -> KubernetesRuntime:  # fmt: skip
    """Return a runtime on a site; the place's fields, and how long it waits, may be others; a blind one's watch shows no pods."""
    named = {"name": "cluster", "kind": "kubernetes", "kubeconfig": "/given/here", "namespace": site.namespace, "image": site.image}
    spec = PlaceSpec.from_mapping({**named, **place})
    cluster = Cluster(site.connect, name="cluster", namespace=site.namespace, quick_s=quick_s, slow_s=slow_s)
    seen = {"jobs": names.selector(workspace), "pods": "nobody=has" if blind else names.selector(workspace)}
    jobs, pods = (Mirror(cluster, kind, labels, patience_s=silent_s) for kind, labels in seen.items())
    cargo = Cargo(Freight(cluster, Exchange(goods.url, options=options), direct=spec.store != "relay"))
    folder = logs or Path(tempfile.gettempdir(), "dla-no-logs")  # made when something is kept there
    kept = Logs(cluster, lambda attempt: folder / f"{attempt}.log")
    return KubernetesRuntime(cluster, spec, workspace=workspace, shelf=Shelf(cluster, jobs, pods, workspace), cargo=cargo, logs=kept)


def small(command: Sequence[str], attempt: str = "job.1", *, cpu: float = 0.1, memory: float = 0.25, **fields: Any) -> Launch:
    """Return a launch of a command that asks for little: nodes are shared with other tests."""
    beside = {name: fields.pop(name) for name in list(fields) if name in _BESIDE}
    grant = Grant(id=attempt, node="cluster", amounts={"cpu": cpu, "memory": memory})
    return Launch(job=job_file(attempt, list(command), **{"grant": grant, **fields}), **beside)


def touch(runtime: KubernetesRuntime, attempt: str, path: str) -> None:
    """Make a file in a running job's container."""
    pod = wait_until(
        lambda: [
            one for one in runtime.cluster.list("pods", labels=names.selector(runtime._workspace))[0] if names.attempt_of(one) == attempt
        ]
    )[0]
    done = runtime.cluster.run(pod["metadata"]["name"], "main", ["touch", path])
    assert done.code == 0, done


def closed(runtime: KubernetesRuntime) -> None:
    """End what a process would take with it."""
    for mirror in (runtime._shelf._jobs, runtime._shelf._pods):
        mirror.close()
