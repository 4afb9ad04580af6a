"""Kubernetes places: what a cluster lacks of what their jobs need, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final, Protocol

from airflow_dla.cli.checks.check import Check, guarded
from airflow_dla.errors import DlaError, PlaceUnavailable
from airflow_dla.hooks.connections import ClusterAccess
from airflow_dla.hooks.kubernetes import cluster_of
from airflow_dla.runtime.kubernetes.discovery import ClusterLike, ClusterNodes
from airflow_dla.runtime.kubernetes.permissions import Permission, needed
from airflow_dla.specs import PlaceSpec, describe_amounts
from airflow_dla.specs.clusters import CLAIM

#: The oldest version whose sidecars end with their pod, and the oldest that changes a running pod without a switch.
_OLDEST: Final = (1, 29)
_RESIZES: Final = (1, 33)
_ENFORCED: Final = "pod-security.kubernetes.io/enforce"
_HOW: Final = "`airflow dla deploy FOLDER` writes the Role and ClusterRole that give it"
_HIDDEN: Final = "is not shown to this user"


class ClusterToCheck(ClusterLike, Protocol):
    """The part of a cluster that the doctor looks at."""

    namespace: str

    def at(self, namespace: str) -> ClusterToCheck:
        """Return another namespace; the empty one stands for all."""

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None where there is none."""

    def version(self) -> tuple[int, int]:
        """Return the version of the server."""

    def serves(self, kind: str, subresource: str = "") -> bool:
        """Whether the cluster has a kind of object."""


def check_cluster(place: PlaceSpec, access: ClusterAccess) -> Iterator[Check]:
    """Look at a place's cluster, as this process reaches it."""
    return cluster_found(place, cluster_of(place, access))


def cluster_found(place: PlaceSpec, cluster: ClusterToCheck) -> Iterator[Check]:
    """Look at everything that jobs of a place need; only at whether it answers where it does not.

    Parameters
    ----------
    place : `PlaceSpec`
    cluster : `ClusterToCheck`
        In the place's namespace.
    """
    name = f"place {place.name}"
    answers = guarded(name, partial(_version, name, cluster), "start the API server, or correct the place's connection or kubeconfig")
    yield answers
    if answers.state == "fail":
        return
    looks = {
        "rights": check_rights,
        "namespace": check_namespace,
        "nodes": check_offered,
        "quota": check_quota,
        "names": check_names,
        "resize": check_resize,
        "metrics": check_metrics,
        **({"kueue": check_kueue} if place.allocator == "kueue" else {}),
    }
    for what, look in looks.items():
        yield guarded(f"{place.name}: {what}", partial(look, place, cluster))


def _version(name: str, cluster: ClusterToCheck) -> Check:
    version = cluster.version()
    said = f"Kubernetes {_dotted(version)}, namespace {cluster.namespace!r}"
    if version < _OLDEST:
        return Check(name, "fail", f"{said}: a sidecar would keep its job from ending", f"bring the cluster to {_dotted(_OLDEST)} or later")
    return Check(name, "ok", said)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def check_rights(place: PlaceSpec, cluster: ClusterToCheck) -> Check:
    """Whether this user has every right that is used; says what is not had without one."""
    missing: dict[str, list[str]] = {}
    vital = False
    for permission in needed(place.allocator):
        if verbs := _missing(permission, cluster):
            where = " in every namespace" if permission.cluster_wide else ""
            missing.setdefault(permission.without or permission.why, []).append(f"{'/'.join(verbs)} {permission.words}{where}")
            vital = vital or not permission.without
    name = f"{place.name}: rights"
    if not missing:
        return Check(name, "ok", "this user has every right that jobs need")
    told = "; ".join(f"{' and '.join(rights)} ({why})" for why, rights in missing.items())
    return Check(name, "fail" if vital else "warn", f"this user may not {told}", _HOW)


def _missing(permission: Permission, cluster: ClusterToCheck) -> list[str]:
    where = cluster.at("") if permission.cluster_wide else cluster
    return [verb for verb in permission.verbs if not where.allowed(verb, permission.kind, permission.part)]


def check_namespace(place: PlaceSpec, cluster: ClusterToCheck) -> Check:
    """Whether the namespace is there, and whether its pod security admits what the place's policy does."""
    name = f"{place.name}: namespace"
    try:
        found = cluster.get("namespaces", cluster.namespace)
    except PlaceUnavailable:
        return Check(name, "ok", f"{cluster.namespace!r} {_HIDDEN}, so nor is what pod security it enforces")
    if found is None:
        return Check(name, "fail", f"there is no namespace {cluster.namespace!r}", f"kubectl create namespace {cluster.namespace}")
    level = (found["metadata"].get("labels") or {}).get(_ENFORCED, "privileged")
    refused = _refused(place, level)
    if refused:
        fix = "close that in the place's policy, or label the namespace pod-security.kubernetes.io/enforce=privileged"
        return Check(name, "warn", f"{cluster.namespace!r} enforces pod security {level!r}, which refuses {', '.join(refused)}", fix)
    return Check(name, "ok", f"{cluster.namespace!r} enforces pod security {level!r}")


def _refused(place: PlaceSpec, level: str) -> list[str]:
    """Return what a place's policy allows and a level of pod security does not."""
    policy = place.policy
    allowed = {"folders of nodes": policy.mounts, "privileged jobs": policy.privileged, "the host's network": policy.host_network}
    if level == "restricted":
        allowed["capabilities"] = tuple(one for one in policy.capabilities if one != "NET_BIND_SERVICE")
        allowed["root"] = (place.user or "").startswith("0:")
    return [] if level == "privileged" else [what for what, open_ in allowed.items() if open_]


def check_offered(place: PlaceSpec, cluster: ClusterToCheck) -> Check:
    """Whether there is anything to grant."""
    name = f"{place.name}: nodes"
    if place.allocator == "kueue":
        return Check(name, "ok", "are Kueue's to choose; everything is granted, and jobs wait for its admission")
    nodes = ClusterNodes(cluster, place=place, workspace="", labels={}).whole()
    if not nodes:
        fix = "correct the place's node_selector, or tolerate the nodes' taints in its tolerations"
        return Check(name, "fail", "none takes pods of this place", fix)
    resources = dict.fromkeys(resource for node in nodes for resource in node.capacity)
    total = {resource: sum(node.capacity.get(resource, 0.0) for node in nodes) for resource in resources}
    return Check(name, "ok", f"{', '.join(node.name for node in nodes[:5])}{', …' if len(nodes) > 5 else ''}: {describe_amounts(total)}")  # noqa: PLR2004 - enough to recognise them by


def check_quota(place: PlaceSpec, cluster: ClusterToCheck) -> Check:
    """Which quotas of the namespace jobs count to."""
    name = f"{place.name}: quota"
    if not cluster.allowed("list", "resourcequotas"):
        return Check(name, "ok", f"of {cluster.namespace!r} {_HIDDEN}")
    quotas, _ = cluster.list("resourcequotas")
    told = [f"{quota['metadata']['name']}: {_used(quota)}" for quota in quotas if quota.get("status", {}).get("hard")]
    full = [quota["metadata"]["name"] for quota in quotas if _is_full(quota)]
    if full:
        fix = "wait until others have ended, or have it raised; jobs that are granted more than it leaves do not start before"
        return Check(name, "warn", f"{', '.join(full)} is used up: {'; '.join(told)}", fix)
    return Check(name, "ok", "; ".join(told) or f"none in {cluster.namespace!r}")


def _used(quota: Mapping[str, Any]) -> str:
    used = quota["status"].get("used") or {}
    return ", ".join(f"{resource} {used.get(resource, '0')} of {hard}" for resource, hard in quota["status"]["hard"].items())


def _is_full(quota: Mapping[str, Any]) -> bool:
    used = quota.get("status", {}).get("used") or {}
    return any(hard != "0" and used.get(resource) == hard for resource, hard in (quota.get("status", {}).get("hard") or {}).items())


def check_names(place: PlaceSpec, cluster: ClusterToCheck) -> Check:
    """Whether what the place names is there."""
    scratch = place.scratch
    named = {
        "runtimeclasses": place.runtime_class,
        "priorityclasses": place.priority_class,
        "serviceaccounts": place.service_account,
        "persistentvolumeclaims": scratch.removeprefix(CLAIM) if isinstance(scratch, str) and scratch.startswith(CLAIM) else None,
        "storageclasses": None if isinstance(scratch, str) else scratch.get("storage_class"),
    }
    states = {f"{kind} {wanted!r}": _state_of(cluster, kind, wanted) for kind, wanted in named.items() if wanted}
    name, told = f"{place.name}: names", ", ".join(f"{what} {state}" for what, state in states.items())
    if "is missing" in states.values():
        return Check(name, "fail", told, "have it made, or correct the place: pods that name it are not made, or wait for it for ever")
    return Check(name, "ok", told or "the place names nothing that would have to be there")


def _state_of(cluster: ClusterToCheck, kind: str, wanted: str) -> str:
    try:
        return "is missing" if cluster.get(kind, wanted) is None else "is there"
    except DlaError:
        return _HIDDEN


def check_resize(place: PlaceSpec, cluster: ClusterToCheck) -> Check:
    """Whether CPUs and memory of a running job can be changed."""
    name = f"{place.name}: resize"
    if cluster.serves("pods", "resize"):
        return Check(name, "ok", "CPUs and memory of a running job can be changed")
    fix = f"bring the cluster to {_dotted(_RESIZES)} or later, or switch its feature gate InPlacePodVerticalScaling on"
    return Check(name, "warn", "a running pod cannot be changed: a job whose grant should shrink is stopped at a checkpoint instead", fix)


def check_metrics(place: PlaceSpec, cluster: ClusterToCheck) -> Check:
    """Whether the cluster measures pods by itself: we measure all but those that have nothing of ours in them."""
    name = f"{place.name}: metrics"
    if cluster.serves("podmetrics"):
        return Check(name, "ok", "the cluster measures pods")
    lacking = "no metrics API: of plain commands, with neither inputs nor outputs, it is not known what they use"
    return Check(name, "warn", lacking, "install metrics-server, or what serves the same API, if their grants should follow that")


def check_kueue(place: PlaceSpec, cluster: ClusterToCheck) -> Check:
    """Whether Kueue is there, with the place's queue and classes of priority."""
    name = f"{place.name}: kueue"
    if not cluster.serves("workloads"):
        fix = "install Kueue, or say allocator: dla and drop queue"
        return Check(name, "fail", "is not installed (no kind 'workloads' of kueue.x-k8s.io): jobs would wait for ever", fix)
    queue = str(place.queue)
    try:
        found = cluster.get("localqueues", queue)
    except PlaceUnavailable:
        return Check(name, "ok", f"is installed; queue {queue!r} {_HIDDEN}")
    if found is None:
        return Check(name, "fail", f"has no LocalQueue {queue!r} in {cluster.namespace!r}", "have it made, or correct the place's queue")
    return _of_queue(name, found, cluster) or _of_classes(name, place, cluster) or Check(name, "ok", _filled(queue, found))


def _of_queue(name: str, queue: Mapping[str, Any], cluster: ClusterToCheck) -> Check | None:
    """Return why a LocalQueue admits nothing; None where it does."""
    conditions = (queue.get("status") or {}).get("conditions") or ()
    active: Mapping[str, Any] = next((one for one in conditions if one["type"] == "Active"), {})
    if not active:
        fix = "start Kueue's manager: look into its log, and at its Deployment in kueue-system"
        return Check(name, "fail", f"nobody has looked at queue {queue['metadata']['name']!r}: Kueue's manager does not run", fix)
    if active.get("status") == "True":
        return None
    of = str((queue.get("spec") or {}).get("clusterQueue"))
    why = f"{active.get('message') or active.get('reason')} ({active.get('reason')})"
    fix = _INACTIVE.get(str(active.get("reason")), "have whoever runs the cluster look at ClusterQueue {of!r}{said}")
    told = f"queue {queue['metadata']['name']!r} admits nothing: {why}"
    return Check(name, "fail", told, fix.format(of=of, said=_said_of(of, cluster)))


#: What would do about a LocalQueue, by the reason why it is not active.
_INACTIVE: Final[Mapping[str, str]] = {
    "ClusterQueueDoesNotExist": "have ClusterQueue {of!r} made, or have the LocalQueue point to another",
    "Stopped": "have its stopPolicy set back to None",
}


def _said_of(name: str, cluster: ClusterToCheck) -> str:
    """Return what a ClusterQueue says of itself, to follow its name; nothing where it is not shown."""
    try:
        found = cluster.get("clusterqueues", name) or {}
    except DlaError:
        return ""
    said = next((one.get("message") for one in (found.get("status") or {}).get("conditions") or () if one["type"] == "Active"), None)
    return f": {said}" if said else ""


def _of_classes(name: str, place: PlaceSpec, cluster: ClusterToCheck) -> Check | None:
    """Return which classes of priority are missing: Kueue takes no job that names such a one."""
    missing = [each for each in place.workload_priorities if _state_of(cluster, "workloadpriorityclasses", each) == "is missing"]
    if not missing:
        return None
    told = f"has no WorkloadPriorityClass {', '.join(missing)}: jobs of that priority are never taken into the queue"
    return Check(name, "fail", told, "have it made, or correct the place's workload_priorities")


def _filled(name: str, queue: Mapping[str, Any]) -> str:
    status = queue.get("status") or {}
    return f"queue {name!r} has {status.get('admittedWorkloads', 0)} admitted and {status.get('pendingWorkloads', 0)} waiting"
