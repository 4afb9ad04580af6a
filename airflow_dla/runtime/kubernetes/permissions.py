"""What our part of Airflow may do in a cluster: every verb that is used, and what for.

The Role and the ClusterRole of the manifests, the doctor and the documentation say what
stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.runtime.kubernetes.kinds import KINDS

#: API groups that others bring.
KUEUE: Final = "kueue.x-k8s.io"
METRICS: Final = "metrics.k8s.io"


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs on one kind of object.

    Parameters
    ----------
    resource : str
        As a Role names it: ``pods/log``.
    verbs : tuple of str
    why : str
        What for.
    group : str
        API group; empty for the first one.
    cluster_wide : bool
        Whether a ClusterRole must give it: it is asked for outside the place's namespace.
    allocator : {"dla", "kueue"} or None
        The only one that needs it; None for both.
    without : str
        What is not had without it; empty where no job runs then.
    """

    resource: str
    verbs: tuple[str, ...]
    why: str
    group: str = ""
    cluster_wide: bool = False
    allocator: str | None = None
    without: str = ""

    @property
    def kind(self) -> str:
        """Return the kind of object without the part of it, as `kinds` has it: ``pods`` of ``pods/log``."""
        plural = self.resource.partition("/")[0]
        return next(name for name, kind in KINDS.items() if (kind.plural, kind.group) == (plural, self.group))

    @property
    def part(self) -> str:
        """Return the part of an object, empty for all of it: ``log`` of ``pods/log``."""
        return self.resource.partition("/")[2]

    @property
    def words(self) -> str:
        """Return it as people tell it from what is called the same.

        Examples
        --------
        >>> Permission("pods", ("list",), "usage", group="metrics.k8s.io").words
        'pods of metrics.k8s.io'
        """
        return f"{self.resource} of {self.group}" if self.group == METRICS else self.resource

    def rule(self) -> dict[str, Any]:
        """Return it as a rule of a Role.

        Examples
        --------
        >>> Permission("pods/log", ("get",), "logs").rule()
        {'apiGroups': [''], 'resources': ['pods/log'], 'verbs': ['get']}
        """
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}


#: All of them, in the order of a job's life.
PERMISSIONS: Final = (
    Permission(
        "jobs",
        ("create", "get", "list", "watch", "patch", "delete"),
        "an attempt is a Job: made, found again by label, followed, marked with its end or the wish for it, let go of",
        group="batch",
    ),
    Permission("secrets", ("create",), "secrets of an agent become a Secret that its Job owns, and nobody of ours reads it again"),
    Permission("configmaps", ("create",), "the runner's sources come to the pods in a ConfigMap, one for each version"),
    Permission("pods", ("get", "list", "watch", "delete"), "how a job fares is what its pod says; a pod is stopped with its grace"),
    Permission("pods/log", ("get",), "the task's log is the pod's, and metrics are in it"),
    Permission(
        "pods/exec",
        ("get", "create"),
        "inputs, outputs and checkpoints go through our own containers of the pod; `airflow dla jobs exec` (get is the verb of a "
        "websocket, create is asked for besides since 1.35)",
    ),
    Permission(
        "pods/resize",
        ("patch",),
        "a running job's CPUs and memory follow its grant",
        without="the grant of a running job cannot change; it is stopped at a checkpoint and begun again instead",
    ),
    Permission(
        "events",
        ("list",),
        "why a pod does not start stands in events",
        without="of a pod that does not start only its conditions are told",
    ),
    Permission(
        "resourcequotas",
        ("list",),
        "what the namespace may have",
        without="a quota is noticed when it refuses a pod",
    ),
    Permission(
        "pods",
        ("get", "list"),
        "what jobs use that have nothing of ours beside them, where the cluster measures it: the next ones are forecast from that",
        group=METRICS,
        without="of plain commands, with neither inputs nor outputs, it is not known what they used; all others we measure",
    ),
    Permission(
        "nodes",
        ("list",),
        "what there is to grant",
        cluster_wide=True,
        allocator="dla",
        without="the place is one node, of what its `capacity` or the namespace's ResourceQuota says",
    ),
    Permission(
        "pods",
        ("list",),
        "what pods of others hold is not granted again",
        cluster_wide=True,
        allocator="dla",
        without="the place is one node, of what its `capacity` or the namespace's ResourceQuota says",
    ),
    Permission(
        "pods",
        ("patch",),
        "Kueue may start a Job again: each pod of it is made with a gate, which is taken off one alone",
        allocator="kueue",
    ),
    Permission(
        "workloads",
        ("list", "watch"),
        "why Kueue does not admit a job stands in its Workload",
        group=KUEUE,
        allocator="kueue",
        without="of a job that waits only that it waits is told",
    ),
    Permission(
        "localqueues",
        ("get",),
        "the doctor looks whether the queue is there and takes jobs",
        group=KUEUE,
        allocator="kueue",
        without="a queue that is not there shows by jobs that wait for ever",
    ),
)


def needed(allocator: str, *, cluster_wide: bool | None = None) -> Iterator[Permission]:
    """Return what a place needs, in order.

    Parameters
    ----------
    allocator : {"dla", "kueue"}
        The place's.
    cluster_wide : bool, optional
        Only what a ClusterRole gives, or only what a Role of the namespace does.

    Examples
    --------
    >>> [permission.resource for permission in needed("dla", cluster_wide=True)]
    ['nodes', 'pods']
    """
    for permission in PERMISSIONS:
        if permission.allocator in {None, allocator} and cluster_wide in {None, permission.cluster_wide}:
            yield permission


def rules(permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    """Return the rules of the Role or ClusterRole that gives all this."""
    return [permission.rule() for permission in permissions]
