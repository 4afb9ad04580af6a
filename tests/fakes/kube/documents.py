"""What an API server makes of a document before it keeps it: what is missing is filled in, what is wrong is named."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fakes.kube.amounts import quantity
from fakes.kube.resources import Refused, Resource, invalid

_LABEL: Final = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$")
_LABEL_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")
_POD_DEFAULTS: Final[dict[str, Any]] = {
    "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30,
    "securityContext": {}, "enableServiceLinks": True, "serviceAccountName": "default",
}  # fmt: skip
_JOB_DEFAULTS: Final[dict[str, Any]] = {
    "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False,
    "manualSelector": False, "podReplacementPolicy": "TerminatingOrFailed",
}  # fmt: skip


def check_shape(resource: Resource, document: Mapping[str, Any]) -> None:
    """Raise where a field is unknown or of another type; a real server drops the unknown ones, with a warning.

    Raises
    ------
    Refused
    """
    model = None if resource.plural == "events" else _model(f"V1{resource.kind}")
    if model is None:
        return
    for path, what in _misfits(model, document, ""):
        if what == "unknown":
            raise Refused(400, "BadRequest", f'strict decoding error: unknown field "{path}"')
        words = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: json: cannot unmarshal'
        raise Refused(400, "BadRequest", f"{words} {what} into Go struct field {resource.kind}.{path}")


def defaulted(resource: Resource, document: dict[str, Any]) -> None:
    """Fill in what a server fills in."""
    if resource.plural == "pods":
        document["spec"] = _pod_spec(document["spec"])
        document["spec"].setdefault("tolerations", []).extend(
            {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for key in ("not-ready", "unreachable")
        )
        document["status"] = {"phase": "Pending", "qosClass": _quality(document["spec"])}
    elif resource.plural == "jobs":
        template = document["spec"]["template"]
        document["spec"] = _JOB_DEFAULTS | document["spec"]
        if "podFailurePolicy" in document["spec"]:
            document["spec"]["podReplacementPolicy"] = "Failed"
        document["spec"]["template"] = template | {"spec": _pod_spec(template["spec"], alone=False)}
        document["status"] = {}


def _pod_spec(spec: Mapping[str, Any], *, alone: bool = True) -> dict[str, Any]:
    made = {name: value for name, value in _POD_DEFAULTS.items() if alone or name != "serviceAccountName"} | dict(spec)
    for name in ("containers", "initContainers"):
        if name in made:
            made[name] = [_container(container) for container in made[name]]
    return made


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    image = container.get("image", "")
    latest = ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")
    defaults: dict[str, Any] = {
        "resources": {}, "imagePullPolicy": "Always" if latest else "IfNotPresent", "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }  # fmt: skip
    made = defaults | dict(container)
    if limits := made["resources"].get("limits"):
        made["resources"] = {**made["resources"], "requests": {**limits, **(made["resources"].get("requests") or {})}}
    return made


def _quality(spec: Mapping[str, Any]) -> str:
    resources = [container["resources"] for container in spec["containers"]]
    if not any(resources):
        return "BestEffort"
    sure = all({"cpu", "memory"} <= set(found.get("limits") or {}) and found.get("requests") == found.get("limits") for found in resources)
    return "Guaranteed" if sure else "Burstable"


def check_rules(resource: Resource, document: Mapping[str, Any]) -> None:
    """Raise what breaks a rule, all of it at once.

    Raises
    ------
    Refused
    """
    metadata = document["metadata"]
    name = metadata.get("name") or metadata.get("generateName", "") + "x"
    causes = list(_metadata_faults(metadata, name))
    if resource.plural == "pods":
        causes += _pod_faults(document["spec"], "spec")
    if resource.plural == "jobs":
        causes += _job_faults(document)
    if causes:
        raise invalid(resource, name, *causes)


def check_change(resource: Resource, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise where a change touches what cannot be changed.

    Raises
    ------
    Refused
    """
    name = old["metadata"]["name"]
    begun = not (old.get("spec") or {}).get("suspend") or bool((old.get("status") or {}).get("startTime"))
    if resource.plural == "jobs" and _fixed(old, begun=begun) != _fixed(new, begun=begun):
        raise invalid(resource, name, "spec.template: Invalid value: {...}: field is immutable")
    if resource.plural == "pods" and _unchangeable(old["spec"]) != _unchangeable(new["spec"]):
        raise invalid(
            resource, name, "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
            "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        )  # fmt: skip
    if resource.plural in ("configmaps", "secrets") and old.get("immutable") and old.get("data") != new.get("data"):
        raise invalid(resource, name, "data: Forbidden: field is immutable when `immutable` is set")


def _fixed(job: Mapping[str, Any], *, begun: bool) -> Any:
    """Return what of a Job cannot be changed: until it has begun, where it runs can."""
    fixed = ["completions", "selector", "podFailurePolicy", "backoffLimitPerIndex", *(["template"] if begun else [])]
    return {key: value for key, value in job["spec"].items() if key in fixed}


def _unchangeable(spec: Mapping[str, Any]) -> Any:
    rest = {key: value for key, value in spec.items() if key not in ("activeDeadlineSeconds", "tolerations", "schedulingGates", "nodeName")}
    for which in ("containers", "initContainers"):
        rest[which] = [{key: value for key, value in one.items() if key != "image"} for one in spec.get(which) or []]
    return rest


def _metadata_faults(metadata: Mapping[str, Any], name: str) -> Iterator[str]:
    if not _NAME.match(name):
        words = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
        yield f'metadata.name: Invalid value: "{name}": {words}, and must start and end with an alphanumeric character'
    for key, value in (metadata.get("labels") or {}).items():
        if not _LABEL.match(key):
            yield f'metadata.labels: Invalid value: "{key}": name part must consist of alphanumeric characters'
        if not _VALUE.match(value):
            yield f'metadata.labels: Invalid value: "{value}": a valid label must be an empty string or consist of alphanumeric characters'
    for key in metadata.get("annotations") or {}:
        if not _LABEL.match(key):
            yield f'metadata.annotations: Invalid value: "{key}": name part must consist of alphanumeric characters'


def _job_faults(job: Mapping[str, Any]) -> Iterator[str]:
    spec, template = job["spec"], job["spec"]["template"]
    if template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
        yield 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    if "podFailurePolicy" in spec and template["spec"]["restartPolicy"] != "Never":
        yield 'spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified'
    if len(job["metadata"]["name"]) > 63:
        yield f'spec.template.labels: Invalid value: "{job["metadata"]["name"]}": must be no more than 63 characters'
    yield from _metadata_faults(template.get("metadata") or {}, "x")
    yield from _pod_faults(template["spec"], "spec.template.spec")


def _pod_faults(spec: Mapping[str, Any], path: str) -> Iterator[str]:
    volumes = {volume["name"] for volume in spec.get("volumes") or []}
    seen: set[str] = set()
    for which in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(which) or []):
            where = f"{path}.{which}[{at}]"
            if container["name"] in seen:
                yield f'{where}.name: Duplicate value: "{container["name"]}"'
            seen.add(container["name"])
            yield from _container_faults(container, where, volumes)
    for volume in volumes:
        if not _LABEL_NAME.match(volume):
            yield f'{path}.volumes[0].name: Invalid value: "{volume}": a lowercase RFC 1123 label must consist of lower case characters'
    if not spec.get("containers"):
        yield f"{path}.containers: Required value"


def _container_faults(container: Mapping[str, Any], where: str, volumes: set[str]) -> Iterator[str]:
    if not _LABEL_NAME.match(container["name"]):
        yield f'{where}.name: Invalid value: "{container["name"]}": a lowercase RFC 1123 label must consist of lower case characters'
    if not container.get("image"):
        yield f"{where}.image: Required value"
    for mount in container.get("volumeMounts") or []:
        if mount["name"] not in volumes:
            yield f'{where}.volumeMounts[0].name: Not found: "{mount["name"]}"'
    paths = [mount["mountPath"] for mount in container.get("volumeMounts") or []]
    yield from (f'{where}.volumeMounts[1].mountPath: Invalid value: "{one}": must be unique' for one in set(paths) if paths.count(one) > 1)
    resources = container.get("resources") or {}
    for name, amount in {**(resources.get("requests") or {}), **(resources.get("limits") or {})}.items():
        try:
            quantity(amount)
        except ValueError:
            yield f'{where}.resources.limits[{name}]: Invalid value: "{amount}": quantities must match the regular expression'
            return
    limits = resources.get("limits") or {}
    for name, amount in (resources.get("requests") or {}).items():
        if name in limits and quantity(amount) > quantity(limits[name]):
            yield f'{where}.resources.requests: Invalid value: "{amount}": must be less than or equal to {name} limit of {limits[name]}'
        if "/" in name and amount != limits.get(name):
            yield f'{where}.resources.requests: Invalid value: "{amount}": must be equal to {name} limit'


def _misfits(kind: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the paths that do not fit a model of the client library, and why."""
    if value is None:
        return
    if isinstance(kind, str):
        yield from _misfits_of_type(kind, value, path)
        return
    if not isinstance(value, Mapping):
        yield path, type(value).__name__
        return
    names = {json_name: attribute for attribute, json_name in kind.attribute_map.items()}
    for name, below in value.items():
        where = f"{path}.{name}".lstrip(".")
        if name not in names:
            yield where, "unknown"
        else:
            yield from _misfits(_parsed(kind.openapi_types[names[name]]), below, where)


def _misfits_of_type(kind: str, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if kind.startswith("list["):
        if not isinstance(value, list):
            yield path, type(value).__name__
            return
        for at, below in enumerate(value):
            yield from _misfits(_parsed(kind[5:-1]), below, f"{path}[{at}]")
    elif kind.startswith("dict("):
        if not isinstance(value, Mapping):
            yield path, type(value).__name__
            return
        for name, below in value.items():
            yield from _misfits(_parsed(kind[5:-1].split(",", 1)[1].strip()), below, f"{path}.{name}")
    else:
        fits: Any = {"str": str, "int": int, "bool": bool, "float": (int, float), "datetime": str}.get(kind, object)
        if not isinstance(value, fits) or (kind == "int" and isinstance(value, bool)):
            yield (
                path,
                {"str": "string", "int": "number", "dict": "object", "list": "array"}.get(type(value).__name__, type(value).__name__),
            )


def _parsed(kind: str) -> Any:
    return _model(kind) or kind


@functools.cache
def _model(name: str) -> Any:
    from kubernetes.client import models

    return getattr(models, name, None)
