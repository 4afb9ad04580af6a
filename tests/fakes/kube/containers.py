"""The request that makes an engine's container of a pod's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fakes.kube.amounts import quantity
from fakes.kube.store import Document, Store
from fakes.kube.volumes import content, field_of

_VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)")
_PERIOD_US = 100_000


class Unmakeable(Exception):
    """Raised when a container lacks what it needs; a kubelet tries again."""


def request_of(
    store: Store, pod: Document, container: Mapping[str, Any], *, binds: list[str], sandbox: str, address: str
) -> dict[str, Any]:  # fmt: skip
    """Return the body of ``POST /containers/create``.

    Raises
    ------
    Unmakeable
        Where its environment comes from something that is not there.
    """
    env = environment(store, {**pod, "status": {**pod["status"], "podIP": address}}, container)
    given = {"Entrypoint": container.get("command"), "Cmd": container.get("args"), "WorkingDir": container.get("workingDir")}
    body: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    for key in ("Entrypoint", "Cmd"):
        if key in body:
            body[key] = [expanded(word, env) for word in body[key]]
    if "Entrypoint" in body:
        body.setdefault("Cmd", [])
    if user := _user(pod, container):
        body["User"] = user
    return {
        "Image": container["image"],
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {"dla-fake-kubelet": pod["metadata"]["uid"], "io.kubernetes.container.name": container["name"]},
        "HostConfig": _host(pod, container, binds, sandbox),
        **body,
    }


def limits_of(container: Mapping[str, Any]) -> dict[str, int]:
    """Return what the engine is to hold a container to."""
    limits = (container.get("resources") or {}).get("limits") or {}
    found: dict[str, int] = {}
    if "cpu" in limits:
        found |= {"CpuPeriod": _PERIOD_US, "CpuQuota": max(1000, int(quantity(limits["cpu"]) * _PERIOD_US))}
    if "memory" in limits:
        found |= {"Memory": int(quantity(limits["memory"])), "MemorySwap": int(quantity(limits["memory"]))}
    return found


def environment(store: Store, pod: Document, container: Mapping[str, Any]) -> dict[str, str]:
    """Return a container's variables, each with what stands for others in it.

    Raises
    ------
    Unmakeable
    """
    found: dict[str, str] = {}
    for variable in container.get("env") or []:
        source = variable.get("valueFrom")
        value = expanded(variable.get("value") or "", found) if source is None else _value(store, pod, container, source)
        if value is not None:
            found[variable["name"]] = value
    return {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", **found}


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return a text with ``$(NAME)`` replaced where the name is known, and ``$$`` by one.

    Examples
    --------
    >>> expanded("$(A) $(B) $$(A) $A", {"A": "1"})
    '1 $(B) $(A) $A'
    """

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return _VARIABLE.sub(one, text)


def _value(store: Store, pod: Document, container: Mapping[str, Any], source: Mapping[str, Any]) -> str | None:
    namespace = pod["metadata"]["namespace"]
    for key, plural, kind in (("secretKeyRef", "secrets", "secret"), ("configMapKeyRef", "configmaps", "configmap")):
        if reference := source.get(key):
            document = store.get(plural, namespace, reference["name"])
            data = content(document) if document is not None else {}
            if reference["key"] in data:
                return data[reference["key"]].decode()
            if reference.get("optional"):
                return None
            if document is None:
                raise Unmakeable(f'{kind} "{reference["name"]}" not found')
            raise Unmakeable(f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}")
    if reference := source.get("fieldRef"):
        return field_of(pod, reference["fieldPath"])
    which, _, name = source["resourceFieldRef"]["resource"].partition(".")
    return str(int(quantity(((container.get("resources") or {}).get(which) or {}).get(name, 0))))


def _user(pod: Document, container: Mapping[str, Any]) -> str:
    own, shared = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    user, group = (own.get(name, shared.get(name)) for name in ("runAsUser", "runAsGroup"))
    if user is None:
        if own.get("runAsNonRoot", shared.get("runAsNonRoot")):
            raise Unmakeable("container has runAsNonRoot and image will run as root")
        return ""
    return f"{user}:{group if group is not None else 0}"


def _host(pod: Document, container: Mapping[str, Any], binds: list[str], sandbox: str) -> dict[str, Any]:
    own, shared = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    groups = [*(shared.get("supplementalGroups") or []), *([shared["fsGroup"]] if "fsGroup" in shared else [])]
    return {
        "Binds": binds,
        "NetworkMode": f"container:{sandbox}",
        "IpcMode": f"container:{sandbox}",
        **({"PidMode": f"container:{sandbox}"} if pod["spec"].get("shareProcessNamespace") else {}),
        "ReadonlyRootfs": bool(own.get("readOnlyRootFilesystem")),
        "CapDrop": capabilities.get("drop") or [],
        "CapAdd": capabilities.get("add") or [],
        "SecurityOpt": ["no-new-privileges"] if own.get("allowPrivilegeEscalation") is False else [],
        "GroupAdd": [str(group) for group in groups],
        "Privileged": bool(own.get("privileged")),
        "OomScoreAdj": 0,
        "LogConfig": {"Type": "local"},  # the other one keeps text alone
        **limits_of(container),
    }
