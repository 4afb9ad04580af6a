"""A queue of Kueue as tests use it: what waits in it, what Kueue counts, and how somebody else meddles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from cluster_runtime import small
from clusters import Document, Refused, Site
from contracts.runtime import wait_until

from airflow_dla.errors import NotReady
from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes import names
from airflow_dla.runtime.kubernetes.facts import conditions, is_over
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime

KUEUE: Final = "kueue.x-k8s.io/v1beta2"
#: Takes being stopped for a good end, as a program does that has saved what it had.
POLITE: Final = ("sh", "-c", "trap 'exit 0' TERM; echo on; while :; do sleep 0.1; done")
SHORT: Final = ("sh", "-c", "echo done")


@dataclass(frozen=True)
class Queue:
    """A queue of its own: half a CPU, for whoever has the highest priority.

    Parameters
    ----------
    name : str
        Of the LocalQueue.
    cluster : str
        Of the ClusterQueue.
    low, high : str
        Classes of priority.
    """

    name: str
    cluster: str
    low: str
    high: str

    def place(self, **more: Any) -> dict[str, Any]:
        """Return the fields of a place that uses it."""
        return {"allocator": "kueue", "queue": self.name, "workload_priorities": {self.low: 0, self.high: 100}, **more}


def large(attempt: str, command: tuple[str, ...] = POLITE, *, priority: int = 0, **fields: Any) -> Launch:
    """Return a launch that takes most of the queue."""
    return replace(small(command, attempt, cpu=0.4, memory=0.125, grace_s=2.0, **fields), priority=priority)


def waiting(runtime: KubernetesRuntime, launch: Launch, words: str) -> str:
    """Launch until a wait says what it should; return it."""
    said = ""

    def told() -> bool:
        nonlocal said
        try:
            runtime.submit(launch)
        except NotReady as wait:
            said = str(wait)
        return words in said

    wait_until(told, 30)
    return said


def job_at(site: Site, runtime: KubernetesRuntime, attempt: str) -> Document:
    """Return an attempt's Job."""
    return dict(site.ask("GET", site.at("batch/v1", "jobs", names.name(runtime._workspace, attempt))))


def workload_at(site: Site, runtime: KubernetesRuntime, attempt: str) -> Document:
    """Return what Kueue made of an attempt's Job."""
    uid = job_at(site, runtime, attempt)["metadata"]["uid"]
    return dict(site.ask("GET", f"{site.at(KUEUE, 'workloads')}?labelSelector=kueue.x-k8s.io/job-uid={uid}")["items"][0])


def is_free(site: Site, runtime: KubernetesRuntime, attempt: str) -> bool:
    """Return whether an attempt's Job is over, and Kueue counts nothing for it any more."""
    if not is_over(job_at(site, runtime, attempt)):
        return False
    found = made_of(site, runtime, attempt)
    told = {} if found is None else conditions(found.get("status") or {})
    return found is None or ("Finished" in told and told["Finished"].true)


def pods_of(site: Site, attempt: str) -> list[Document]:
    """Return the pods that an attempt's Job has now."""
    return [pod for pod in site.pods() if names.attempt_of(pod) == attempt]


def made_of(site: Site, runtime: KubernetesRuntime, attempt: str) -> Document | None:
    """Return what Kueue made of an attempt's Job; None where there is none just now."""
    try:
        return workload_at(site, runtime, attempt)
    except (IndexError, Refused):
        return None
