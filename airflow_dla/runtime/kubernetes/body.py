"""The objects of an attempt: its Job, its Secret, the ConfigMap of our runner; and the patches that change them.

Names are those of ``batch/v1`` and ``v1``. No value of a secret is anywhere but in the
Secret: a Job that needs one is created suspended, and goes on when its Secret is there.
"""

from __future__ import annotations

import base64
import json
import math
import posixpath
from collections.abc import Mapping
from typing import Any, Final

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.facts import Stop
from airflow_dla.runtime.kubernetes import kueue, names, pods
from airflow_dla.runtime.kubernetes.bundle import ARCHIVE, Bundle
from airflow_dla.runtime.kubernetes.facts import MAIN, gates_of
from airflow_dla.runtime.kubernetes.overrides import asked
from airflow_dla.runtime.kubernetes.template import merged
from airflow_dla.runtime.kubernetes.volumes import volumes
from airflow_dla.runtime.policy import image_of
from airflow_dla.specs import Exit, Grant, JobFile, PlaceSpec
from airflow_dla.specs.places import NOBODY

#: We collect ourselves; an object that nobody collects is removed so long after, s.
_BACKSTOP_S: Final = 86_400
#: The API takes annotations of at most 256 KiB together.
_MOST_ANNOTATED: Final = 200 * 1024

#: What a Job says when its pod ended badly: it never makes another.
_RULES: Final = (
    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    {"action": "FailJob", "onExitCodes": {"containerName": MAIN, "operator": "NotIn", "values": [0]}},
)


def job(launch: Launch, place: PlaceSpec, *, workspace: str, runner: str, cpus: int = 1) -> dict[str, Any]:
    """Return the Job of an attempt.

    Parameters
    ----------
    launch : `Launch`
        As `policy.refuse` let it through.
    place : `PlaceSpec`
    workspace : str
        The ledger's identity.
    runner : str
        Name of the ConfigMap with our runner, see `runner`.
    cpus : int
        For ``{threads}`` of a job that was granted no CPUs.

    Returns
    -------
    dict
        Suspended if a Secret must come first, or Kueue admits it.

    Raises
    ------
    LaunchRefused
        If the cluster cannot hold it: shares of a GPU, arguments too large for an annotation.
    """
    image, attempt = image_of(launch, place), launch.job.attempt
    name, labels = names.name(workspace, attempt), names.labels(workspace, attempt)
    noted = names.notes(launch, image)
    _refuse_large(noted, attempt)
    settings = asked(launch.overrides)
    own = pods.template(
        launch, place, image=image, name=name, runner=runner, node=node_of(launch.job.grant, place), user=settings.get("user"), cpus=cpus
    )
    template = merged(own, settings, volumes(launch.volumes), place)
    told = {names.JOB: noted[names.JOB]} if pods.Needs.of(launch.job).ours else {}
    more = template.get("metadata", {})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {**labels, **kueue.labels(place, launch.priority)}, "annotations": noted},
        "spec": {
            **_once(place),
            "suspend": bool(launch.secrets) or place.allocator == "kueue",
            "template": {
                "metadata": {
                    "labels": {**more.get("labels", {}), **labels, **_members(launch.job)},
                    "annotations": {**more.get("annotations", {}), names.ATTEMPT: attempt, **told},
                },
                "spec": {**template["spec"], **_held(place)},
            },
        },
    }


def marker(attempt: str, place: PlaceSpec, stop: Stop, *, workspace: str) -> dict[str, Any]:
    """Return the Job of an attempt that was stopped before it was launched: it holds the name, and never makes a pod.

    It is over at once, so that the cluster removes it some day if we do not.

    Parameters
    ----------
    attempt : str
    place : `PlaceSpec`
    stop : `Stop`
    workspace : str
    """
    labels = names.labels(workspace, attempt)
    container = {"name": MAIN, "image": place.image or place.helper or "none", "securityContext": pods.rights(place)}
    security = {**pods.as_user(place.user or NOBODY), "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": security, "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.name(workspace, attempt),
            "labels": labels,
            "annotations": {names.ATTEMPT: attempt, names.STOP: json.dumps(stop.to_mapping())},
        },
        "spec": {**_once(place), "parallelism": 0, "activeDeadlineSeconds": 1, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def secret(launch: Launch, owner: Mapping[str, Any], *, workspace: str) -> dict[str, Any]:
    """Return the Secret of an attempt, which goes when its Job goes.

    Parameters
    ----------
    launch : `Launch`
    owner : mapping
        The Job as the API returned it.
    workspace : str
    """
    attempt = launch.job.attempt
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.name(workspace, attempt),
            "labels": names.labels(workspace, attempt),
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
            ],
        },
        "type": "Opaque",
        "immutable": True,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in launch.secrets.items()},
    }


def runner(bundle: Bundle, *, workspace: str) -> dict[str, Any]:
    """Return the ConfigMap of our runner, made once for each namespace and version of it.

    Parameters
    ----------
    bundle : `Bundle`
    workspace : str
        Whoever made it; others use it too.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": bundle.name, "labels": {names.WORKSPACE: names.label(workspace)}},
        "immutable": True,
        "binaryData": {posixpath.basename(ARCHIVE): base64.b64encode(bundle.data).decode()},
    }


# --- patches -------------------------------------------------------------------------


def unsuspend() -> dict[str, Any]:
    """Return the merge patch that lets a Job run, once its Secret is there."""
    return {"spec": {"suspend": False}}


def never(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the JSON patch that keeps a Job from making a pod.

    Kueue goes on holding a place in its queue, and then quota, for a Job that is suspended by
    others: one of a queue asks for no pod instead, and is over as soon as it is admitted.
    """
    if names.QUEUE not in (document["metadata"].get("labels") or {}):
        return [{"op": "add", "path": "/spec/suspend", "value": True}]
    return [{"op": "add", "path": "/spec/parallelism", "value": 0}, {"op": "add", "path": "/spec/activeDeadlineSeconds", "value": 1}]


def bound(document: Mapping[str, Any], pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the JSON patch that says which pod of a Job runs; refused if the Job has changed since, so that there is one."""
    found = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    return _annotated(document, names.POD, json.dumps(found, separators=(",", ":")))


def let_go(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the JSON patch that takes our gate off a pod; refused if that is not there any more."""
    gate = f"/spec/schedulingGates/{gates_of(pod).index(names.GATE)}"
    return [
        {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]},
        {"op": "test", "path": f"{gate}/name", "value": names.GATE},
        {"op": "remove", "path": gate},
    ]


def stopped(document: Mapping[str, Any], stop: Stop) -> list[dict[str, Any]]:
    """Return the JSON patch that wants a stop; refused if the Job has changed since, so that the first stop counts.

    Parameters
    ----------
    document : mapping
        The Job, in which no stop is wanted yet.
    stop : `Stop`
    """
    return _annotated(document, names.STOP, json.dumps(stop.to_mapping()))


def concluded(document: Mapping[str, Any], found: Exit) -> list[dict[str, Any]]:
    """Return the JSON patch that says how an attempt ended; refused if the Job has changed since, so that the first word counts."""
    return _annotated(document, names.EXIT, json.dumps(found.to_mapping(), separators=(",", ":")))


def regranted(grant: Grant) -> dict[str, Any]:
    """Return the merge patch that says which grant holds."""
    return {"metadata": {"annotations": {names.GRANT: json.dumps(grant.to_mapping(), separators=(",", ":"))}}}


def _annotated(document: Mapping[str, Any], name: str, value: str) -> list[dict[str, Any]]:
    metadata = document["metadata"]
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
    if metadata.get("annotations") is None:
        return [test, {"op": "add", "path": "/metadata/annotations", "value": {name: value}}]
    return [test, {"op": "add", "path": f"/metadata/annotations/{name.replace('/', '~1')}", "value": value}]


# --- parts ---------------------------------------------------------------------------


def node_of(grant: Grant, place: PlaceSpec) -> str | None:
    """Return the cluster's name of the node that was granted; None where the cluster decides.

    Examples
    --------
    >>> place = PlaceSpec.from_mapping({"name": "k8s", "kind": "kubernetes", "in_cluster": True})
    >>> node_of(Grant(id="a.1", node="k8s.gpu-7"), place), node_of(Grant(id="a.1", node="k8s"), place)
    ('gpu-7', None)
    """
    prefix = f"{place.name}."
    return grant.node.removeprefix(prefix) if grant.node.startswith(prefix) else None


def _once(place: PlaceSpec) -> dict[str, Any]:
    """Return what keeps a Job to one pod, whatever becomes of it."""
    return {
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [dict(rule) for rule in _RULES]},
        "ttlSecondsAfterFinished": math.ceil(place.keep_s) + _BACKSTOP_S,
    }


def _held(place: PlaceSpec) -> dict[str, Any]:
    """Return what keeps a pod from its node until it is known to be the only one: Kueue starts a Job as often as it takes it back."""
    return {"schedulingGates": [{"name": names.GATE}]} if place.allocator == "kueue" else {}


def _members(job: JobFile) -> dict[str, str]:
    return {names.MEMBERS: names.label(job.part.run_id)} if job.part is not None else {}


def _refuse_large(noted: Mapping[str, str], attempt: str) -> None:
    held = sum(len(key) + len(value.encode()) for key, value in noted.items())
    if held > _MOST_ANNOTATED:
        raise LaunchRefused(
            f"attempt {attempt}: its arguments, inputs and environment take {held} bytes, and a Job's annotations hold "
            f"{_MOST_ANNOTATED}; hand over what is large as an input"
        )
