"""What the API server says of itself."""

from __future__ import annotations

import functools
from typing import Any

from fakes.kube import metrics
from fakes.kube.resources import RESOURCES, Resource

_ALL = (*RESOURCES.values(), metrics.PODS)


@functools.cache
def discovered(path: str, minor: int, groups: frozenset[str]) -> dict[str, Any] | None:
    """Return the document of a discovery address, or None where it is none."""
    served = {(resource.group, resource.version) for resource in _ALL if resource.group in groups}
    found: dict[str, dict[str, Any]] = {
        "/version": {"major": "1", "minor": str(minor), "gitVersion": f"v1.{minor}.2", "platform": "linux/amd64"},
        "/readyz": {"status": "ok"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": _resources("", "v1", minor),
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*pair) for pair in sorted(served)]},
    }
    for group, version in served:
        found[f"/apis/{group}"] = {"kind": "APIGroup", "apiVersion": "v1", **_group(group, version)}
        found[f"/apis/{group}/{version}"] = _resources(group, version, minor)
    return found.get(path)


def _group(group: str, version: str) -> dict[str, Any]:
    one = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [one], "preferredVersion": one}


def _resources(group: str, version: str, minor: int) -> dict[str, Any]:
    found = [resource for resource in _ALL if (resource.group, resource.version) == (group, version)]
    entries = [_entry(resource, "") for resource in found]
    entries += [_entry(resource, f"/{name}") for resource in found for name in resource.subresources if name != "resize" or minor >= 33]
    return {"kind": "APIResourceList", "groupVersion": f"{group}/{version}".lstrip("/"), "resources": entries}


def _entry(resource: Resource, subresource: str) -> dict[str, Any]:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    return {
        "name": resource.plural + subresource, "singularName": "", "namespaced": resource.namespaced, "kind": resource.kind, "verbs": verbs,
    }  # fmt: skip
