"""What a job asks for besides, merged into the template of its pod.

Nothing that was granted, mounted or forbidden by us is changed by it: what a job asks for is
added, and where both name something only what the place's policy lets through takes its place.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_dla.runtime.kubernetes import limits, pods
from airflow_dla.runtime.kubernetes.volumes import mounted
from airflow_dla.runtime.volumes import Volume
from airflow_dla.specs import Grant, PlaceSpec

#: Settings that take the place of the pod's own, and what it calls them.
_TAKEN: Final[Mapping[str, str]] = {
    "priority_class": "priorityClassName",
    "service_account": "serviceAccountName",
    "runtime_class": "runtimeClassName",
    "scheduler": "schedulerName",
    "hostname": "hostname",
    "dns_policy": "dnsPolicy",
    "host_aliases": "hostAliases",
}
_DNS: Final[Mapping[str, str]] = {"dns": "nameservers", "dns_search": "searches", "dns_options": "options"}
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def merged(template: Mapping[str, Any], settings: Mapping[str, Any], volumes: Sequence[Volume], place: PlaceSpec) -> dict[str, Any]:
    """Return a pod template with what a job asks for.

    Parameters
    ----------
    template : mapping
        As `pods.template` made it.
    settings : mapping
        As `overrides.asked` read them, and `policy.refuse` let them through.
    volumes : sequence of `Volume`
    place : `PlaceSpec`
    """
    found: dict[str, Any] = copy.deepcopy(dict(template))
    spec = found["spec"]
    _add_volumes(spec, volumes)
    _place(spec, settings)
    _network(spec, settings)
    _rights(spec, settings)
    if settings.get("sidecars"):
        spec.setdefault("initContainers", []).extend(_sidecar(one, spec, place) for one in settings["sidecars"])
    metadata = {kind: settings[kind] for kind in ("labels", "annotations") if settings.get(kind)}
    return {**({"metadata": metadata} if metadata else {}), **found}


def _add_volumes(spec: dict[str, Any], volumes: Sequence[Volume]) -> None:
    """Mount an agent's volumes; what it mounts over a folder of ours in memory takes its place."""
    origins, mounts = mounted(volumes)
    targets = {mount["mountPath"] for mount in mounts}
    main = spec["containers"][0]
    kept = [mount for mount in main["volumeMounts"] if mount["mountPath"] not in targets]
    over = {mount["name"] for mount in main["volumeMounts"]} - {mount["name"] for mount in kept}
    main["volumeMounts"] = [*kept, *mounts]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] not in over] + origins


def _place(spec: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Say where and as what it may run: labels and taints are added to the place's own, which hold."""
    for name, called in _TAKEN.items():
        if name in settings:
            spec[called] = settings[name]
    if settings.get("node_selector"):
        spec["nodeSelector"] = {**settings["node_selector"], **spec.get("nodeSelector", {})}
    for name, called in (("tolerations", "tolerations"), ("image_pull_secrets", "imagePullSecrets")):
        more = [{"name": one} if isinstance(one, str) else dict(one) for one in settings.get(name, ())]
        if more:
            spec[called] = [*spec.get(called, ()), *(one for one in more if one not in spec.get(called, ()))]
    if settings.get("affinity"):
        spec["affinity"] = _affinity(settings["affinity"], spec.get("affinity", {}))
    if "image_pull_policy" in settings:
        spec["containers"][0]["imagePullPolicy"] = settings["image_pull_policy"]


def _affinity(asked: Mapping[str, Any], granted: Mapping[str, Any]) -> dict[str, Any]:
    """Return both: the node that was granted, and of it only what the job asks for."""
    found = copy.deepcopy(dict(asked))
    if not granted:
        return found
    pinned = granted["nodeAffinity"][_REQUIRED]["nodeSelectorTerms"][0]["matchFields"]
    node = found.setdefault("nodeAffinity", {})
    terms = (node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
    node[_REQUIRED] = {"nodeSelectorTerms": [{**term, "matchFields": [*term.get("matchFields", ()), *pinned]} for term in terms]}
    return found


def _network(spec: dict[str, Any], settings: Mapping[str, Any]) -> None:
    dns = {called: settings[name] for name, called in _DNS.items() if settings.get(name)}
    if dns:
        spec["dnsConfig"] = dns
    if settings.get("host_network"):
        spec["hostNetwork"] = True
        spec.setdefault("dnsPolicy", "ClusterFirstWithHostNet")


def _rights(spec: dict[str, Any], settings: Mapping[str, Any]) -> None:
    pod, main = spec["securityContext"], spec["containers"][0]["securityContext"]
    for name, called in (("supplemental_groups", "supplementalGroups"), ("sysctls", "sysctls")):
        if settings.get(name):
            pod[called] = settings[name]
    if settings.get("cap_add"):
        added = [*main["capabilities"].get("add", ()), *settings["cap_add"]]
        main["capabilities"]["add"] = list(dict.fromkeys(added))
    if settings.get("privileged"):
        main["privileged"] = True
        del main["allowPrivilegeEscalation"]  # a cluster refuses what contradicts itself


def _sidecar(asked: Mapping[str, Any], spec: Mapping[str, Any], place: PlaceSpec) -> dict[str, Any]:
    """Return a container that a job brings along: it sees the job's folder, and ends after the job."""
    most = limits.compute(Grant(id="sidecar", node="any", amounts=asked["limits"]))
    shared = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["mountPath"] in {"/dla", "/tmp"}]  # noqa: S108
    found = {
        "name": asked["name"],
        "image": asked["image"],
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "command": [pods.literal(word) for word in asked["command"]],
        "args": [pods.literal(word) for word in asked["args"]],
        "env": [{"name": name, "value": pods.literal(value)} for name, value in asked["env"].items()],
        # What was granted is the job's own.
        "resources": {"requests": dict.fromkeys(most, "0"), "limits": most} if most else {},
        "securityContext": pods.rights(place),
        "volumeMounts": copy.deepcopy(shared),
    }
    return {key: value for key, value in found.items() if value not in ([], {})}
