"""The pod of an attempt: its containers, what they may use and see, and where it may run.

A plain command that needs nothing of ours gets one container and nothing of ours. All others
get two more of our own: ``fetch``, which ends before the job begins, and ``mate`` beside it.
The job sees of their folder only what is its own:

========== ==================================== ==================== ============
volume     job                                  fetch                mate
========== ==================================== ==================== ============
``dla``    ``/dla``, ``/opt/dla/agents``        ``/control``         ``/control``
``runner`` only ranks that stage nothing        ``/opt/dla/boot``
``job``    the same, as ``/dla/job.json``       ``/opt/dla/job``
========== ==================================== ==================== ============
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.runtime import command
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.kubernetes import bundle, limits, names
from airflow_dla.runtime.kubernetes.facts import FETCH, MAIN, MATE
from airflow_dla.runtime.limits import devices, tmp
from airflow_dla.runtime.policy import kept_capabilities
from airflow_dla.specs import JobFile, PlaceSpec
from airflow_dla.specs.clusters import CLAIM, EMPTY_DIR
from airflow_dla.specs.places import NOBODY, user_ids
from airflow_dla.specs.resources import amounts

#: Time that ours get beyond the job's own, to keep its last checkpoint or publish, s. They end when they have, and wait
#: as long for somebody who follows them.
PUBLISH_S: Final = 86_400

#: Word by which our runner is told that nobody outside measures the job, or ends it in time: see ``agents.inside``.
ALONE: Final = "alone"

_FILES: Final = "dla"
_RUNNER: Final = "runner"
_JOB: Final = "job"
_TMP: Final = "/tmp"  # noqa: S108 - in the container, which is private
_SHM: Final = "/dev/shm"  # noqa: S108 - as above
#: Where `bundle` looks for the archive of our runner, and for what the job is.
_BOOT: Final = posixpath.dirname(bundle.ARCHIVE)
_DESCRIBED: Final = posixpath.dirname(bundle.JOB)
#: Nothing is taken from what was granted to the job; what ours hold is bounded.
_BESIDE: Final = {"requests": {"cpu": "0", "memory": "0"}, "limits": {"cpu": "1", "memory": "512Mi"}}


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job needs of ours in its pod.

    Parameters
    ----------
    runner : bool
        Whether our runner starts its work: a function, or ranks.
    mate : bool
        Whether anything is fetched, kept or published.
    """

    runner: bool
    mate: bool

    @classmethod
    def of(cls, job: JobFile) -> Needs:
        """Return what a job needs: secrets are variables here, and metrics are read from the log."""
        return cls(runner=job.entrypoint.function is not None or job.part is not None, mate=command.needs_mate(job, ()))

    @property
    def ours(self) -> bool:
        """Whether the pod needs our runner's sources."""
        return self.runner or self.mate


def template(
    launch: Launch, place: PlaceSpec, *, image: str, name: str, runner: str, node: str | None, user: str | None = None, cpus: int = 1
) -> dict[str, Any]:
    """Return the pod template of a Job, before what the job asks for besides.

    Parameters
    ----------
    launch : `Launch`
    place : `PlaceSpec`
    image : str
        Of the job's own container.
    name : str
        Of the Job.
    runner : str
        Name of the ConfigMap with our runner.
    node : str or None
        The cluster's node that was granted; None where the cluster decides.
    user : str or None
        ``uid:gid`` that the job asks for; the place's own by default.
    cpus : int
        For ``{threads}`` of a job that was granted no CPUs.
    """
    job, needs = launch.job, Needs.of(launch.job)
    owner = user or place.user or NOBODY
    beside = [_fetch(job, place, image, name, owner), _mate(place, image, name, owner)] if needs.mate else []
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # As the first process of its own a program would get no signal that it has no handler for. And the mate sees what it
        # uses, and can end it: a node that was told a long grace, as for a drain, does not take a shorter one.
        "shareProcessNamespace": not needs.runner,
        "terminationGracePeriodSeconds": math.ceil(job.grace_s) + (PUBLISH_S if needs.mate else 0),
        "securityContext": _security(owner),
        "initContainers": beside,
        "containers": [_main(launch, place, needs, image=image, name=name, cpus=cpus)],
        "volumes": _volumes(job, place, needs, runner),
        "nodeSelector": dict(place.node_selector),
        "tolerations": [dict(found) for found in place.tolerations],
        "affinity": on_node(node) if node is not None else {},
        "imagePullSecrets": [{"name": found} for found in place.image_pull_secrets],
        "serviceAccountName": place.service_account,
        "priorityClassName": place.priority_class,
        "runtimeClassName": place.runtime_class,
    }
    return {"spec": {key: value for key, value in spec.items() if value not in (None, [], {})}}


def on_node(node: str) -> dict[str, Any]:
    """Return the affinity to one node by its name, past which the scheduler still sees taints and what is free."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


# --- containers ----------------------------------------------------------------------


def _main(launch: Launch, place: PlaceSpec, needs: Needs, *, image: str, name: str, cpus: int) -> dict[str, Any]:
    argv = command.argv(launch.job, "python3" if needs.runner else None, runner=needs.runner, cpus=cpus)
    if needs.runner:
        # Without a mate it unpacks the runner itself.
        argv = (*(argv if needs.mate else ("python3", bundle.ARCHIVE, command.JOB_DIR, "inside")), ALONE)
    granted = limits.limits(launch.job.grant, place)
    return {
        "name": MAIN,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [literal(argv[0])],
        "args": [literal(word) for word in argv[1:]],
        "workingDir": f"{command.JOB_DIR}/code",
        "env": environment(launch, name),
        "resources": {"requests": granted, "limits": dict(granted)} if granted else {},
        "securityContext": rights(place),
        "volumeMounts": [*_mounts(place, needs, name), *_memory(launch.job, place)],
    }


def _fetch(job: JobFile, place: PlaceSpec, image: str, name: str, owner: str) -> dict[str, Any]:
    granted = limits.compute(job.grant)
    return {
        **_ours(FETCH, place, image, bundle.fetch_command(user_ids(owner))),
        # It may use what the job will. What it sets aside would count for as long as the pod lives, also once that is made smaller.
        "resources": {"requests": dict.fromkeys(granted, "0"), "limits": granted} if granted else {},
        "volumeMounts": [
            {"name": _FILES, "mountPath": bundle.CONTROL, **_within(place, name, "")},
            {"name": _RUNNER, "mountPath": _BOOT, "readOnly": True},
            {"name": _JOB, "mountPath": _DESCRIBED, "readOnly": True},
        ],
    }


def _mate(place: PlaceSpec, image: str, name: str, owner: str) -> dict[str, Any]:
    return {
        **_ours(MATE, place, image, bundle.stay_command(user_ids(owner))),
        "restartPolicy": "Always",
        "resources": {key: dict(value) for key, value in _BESIDE.items()},
        "volumeMounts": [{"name": _FILES, "mountPath": bundle.CONTROL, **_within(place, name, "")}],
    }


def _ours(role: str, place: PlaceSpec, image: str, argv: Sequence[str]) -> dict[str, Any]:
    return {
        "name": role,
        "image": place.helper or image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(argv),
        "workingDir": bundle.CONTROL,
        "env": [{"name": "TMPDIR", "value": bundle.CONTROL}, {"name": "HOME", "value": bundle.CONTROL}],
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
    }


def environment(launch: Launch, secret: str) -> list[dict[str, Any]]:
    """Return the environment of a job's container: secrets by the name of the Secret that holds them, never by value."""
    found = command.environment(launch, {})
    if devices(launch.job.grant):
        # The device plugin says which; what a pod says would come after it.
        found.pop("NVIDIA_VISIBLE_DEVICES", None)
        found.pop("CUDA_VISIBLE_DEVICES", None)
    plain = [{"name": key, "value": literal(value)} for key, value in found.items() if key not in launch.secrets]
    return [*plain, *({"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for key in sorted(launch.secrets))]


def literal(text: str) -> str:
    """Write text so that a cluster puts nothing in place of ``$(NAME)``.

    Examples
    --------
    >>> literal("echo $HOME $(date)"), literal("$HOME")
    ('echo $$HOME $$(date)', '$HOME')
    """
    return text.replace("$", "$$") if "$(" in text or "$$" in text else text


# --- files ---------------------------------------------------------------------------


def _volumes(job: JobFile, place: PlaceSpec, needs: Needs, runner: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"name": _FILES, **_scratch(job, place)}]
    if needs.ours:
        item = {"path": "job.json", "fieldRef": {"fieldPath": f"metadata.annotations['{names.JOB}']"}}
        found += [{"name": _RUNNER, "configMap": {"name": runner}}, {"name": _JOB, "downwardAPI": {"items": [item]}}]
    if place.policy.read_only:
        found.append(_in_memory("tmp", tmp(job.grant)))
    if job.grant.amounts.get("shm"):
        found.append(_in_memory("shm", job.grant.amounts["shm"]))
    return found


def _in_memory(name: str, gib: float) -> dict[str, Any]:
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": limits.size(gib)}}


def _memory(job: JobFile, place: PlaceSpec) -> list[dict[str, Any]]:
    """Return the mounts that lie in the job's memory."""
    shm = [{"name": "shm", "mountPath": _SHM}] if job.grant.amounts.get("shm") else []
    return ([{"name": "tmp", "mountPath": _TMP}] if place.policy.read_only else []) + shm


def _scratch(job: JobFile, place: PlaceSpec) -> dict[str, Any]:
    disk = job.grant.amounts.get("disk")
    if isinstance(place.scratch, str):
        if place.scratch != EMPTY_DIR:
            return {"persistentVolumeClaim": {"claimName": place.scratch.removeprefix(CLAIM)}}
        return {"emptyDir": {"sizeLimit": limits.size(disk)} if disk else {}}
    asked = disk or amounts({"disk": place.scratch["size"]}, "place.scratch")["disk"]
    claim: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": limits.size(asked)}}}
    if "storage_class" in place.scratch:
        claim["storageClassName"] = place.scratch["storage_class"]
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def _mounts(place: PlaceSpec, needs: Needs, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"name": _FILES, "mountPath": command.JOB_DIR, **_within(place, name, "dla")}]
    if not needs.mate:
        # Nobody of ours makes these folders, so the node does.
        found += [
            {"name": _FILES, "mountPath": f"{command.JOB_DIR}/{folder}", **_within(place, name, f"dla/{folder}")}
            for folder in command.FOLDERS
        ]
    if needs.runner and needs.mate:
        found.append({"name": _FILES, "mountPath": command.AGENTS_DIR, **_within(place, name, "agents"), "readOnly": True})
    elif needs.runner:
        found.append({"name": _RUNNER, "mountPath": _BOOT, "readOnly": True})
        found.append({"name": _JOB, "mountPath": f"{command.JOB_DIR}/job.json", "subPath": "job.json", "readOnly": True})
    return found


def _within(place: PlaceSpec, name: str, folder: str) -> dict[str, str]:
    """Return which folder of the volume is mounted: a claim that others use too has one for each job."""
    shared = isinstance(place.scratch, str) and place.scratch.startswith(CLAIM)
    path = "/".join(part for part in (name if shared else "", folder) if part)
    return {"subPath": path} if path else {}


# --- rights --------------------------------------------------------------------------


def _security(user: str) -> dict[str, Any]:
    return {**as_user(user), "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}


def as_user(user: str) -> dict[str, Any]:
    """Return the part of a pod's security context that says who runs it.

    Examples
    --------
    >>> as_user("1000:100")
    {'runAsNonRoot': True, 'runAsUser': 1000, 'runAsGroup': 100, 'fsGroup': 100}
    """
    uid, gid = user_ids(user)
    return {"runAsNonRoot": uid != 0, "runAsUser": uid, "runAsGroup": gid, "fsGroup": gid}


def rights(place: PlaceSpec) -> dict[str, Any]:
    """Return the security context of a container: no rights but those that the place's policy keeps."""
    kept = kept_capabilities(place)
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": place.policy.read_only,
        "capabilities": {"drop": ["ALL"], **({"add": kept} if kept else {})},
    }
