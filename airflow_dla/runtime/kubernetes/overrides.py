"""What a job may ask of its pod: names, how each is written, and what is never open.

Names are Kubernetes' own, in the spelling of Python. What each does to a pod is in `template`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.kubernetes.facts import FETCH, MAIN, MATE
from airflow_dla.runtime.overrides import ENTRY, ENV, REQUEST, VOLUMES, Parse, capability, read, user
from airflow_dla.specs.agents import setting, variable
from airflow_dla.specs.clusters import label_key, label_value, namespace, object_name, toleration
from airflow_dla.specs.resources import amounts
from airflow_dla.specs.values import (
    boolean,
    choice,
    json_value,
    mapping,
    mapping_of,
    natural,
    refuse_unknown,
    remark,
    sequence_of,
    text,
)

_AFFINITIES: Final = ("nodeAffinity", "podAffinity", "podAntiAffinity")
_SIDECAR: Final = ("name", "image", "command", "args", "env", "limits")
#: Labels and annotations that Jobs, queues and nodes are steered by; no job's to set.
_STEERING: Final = (
    "airflow-dla/", "kueue.x-k8s.io/", "batch.kubernetes.io/", "job-name", "controller-uid",
    "container.apparmor.security.beta.kubernetes.io/", "seccomp.security.alpha.kubernetes.io/", "container.seccomp.security.alpha.",
)  # fmt: skip
_TEXTS: Final = sequence_of(text)


def _free_key(raw: object, where: str) -> str:
    """Parse the key of a label or an annotation that nobody is steered by."""
    found = str(label_key(raw, where))
    if found.startswith(_STEERING):
        raise InvalidSpec(f"{where}: {found!r} is not a job's to set; Jobs, queues or nodes are steered by it, so take another key")
    return found


def _affinity(raw: object, where: str) -> dict[str, Any]:
    """Parse an affinity in Kubernetes' own words, which the cluster checks further."""
    refuse_unknown(mapping(raw, where), _AFFINITIES, where)
    return {kind: dict(mapping(json_value(value, f"{where}.{kind}"), f"{where}.{kind}")) for kind, value in mapping(raw, where).items()}


def _aliases(raw: object, where: str) -> list[dict[str, Any]]:
    """Parse ``{name: address}``."""
    return [{"ip": address, "hostnames": [name]} for name, address in mapping_of(text)(raw, where).items()]


def _sysctls(raw: object, where: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in mapping_of(setting)(raw, where).items()]


def _dns_option(raw: object, where: str) -> dict[str, str]:
    """Parse ``ndots:2`` or ``edns0``."""
    name, colon, value = text(raw, where).partition(":")
    return {"name": name, "value": value} if colon else {"name": name}


def _sidecar(raw: object, where: str) -> dict[str, Any]:
    given = mapping(raw, where)
    refuse_unknown(given, _SIDECAR, where)
    for name in ("name", "image"):
        if name not in given:
            raise InvalidSpec(f"{where} lacks {name}; it has {', '.join(given) or 'nothing'}")
    name = namespace(given["name"], f"{where}.name")
    if name in {MAIN, FETCH, MATE}:
        raise InvalidSpec(f"{where}.name: {name!r} is the name of a container of ours; take another")
    return {
        "name": name,
        "image": text(given["image"], f"{where}.image"),
        "command": list(_TEXTS(given.get("command", ()), f"{where}.command")),
        "args": list(sequence_of(remark)(given.get("args", ()), f"{where}.args")),
        "env": mapping_of(setting, key=variable)(given.get("env", {}), f"{where}.env"),
        "limits": amounts(given.get("limits", {}), f"{where}.limits"),
    }


#: Settings by name, and how each is read.
SETTINGS: Final[Mapping[str, Parse]] = MappingProxyType(
    {
        "affinity": _affinity,
        "annotations": mapping_of(remark, key=_free_key),
        "cap_add": sequence_of(capability),
        "dns": _TEXTS,
        "dns_options": sequence_of(_dns_option),
        "dns_policy": choice("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
        "dns_search": _TEXTS,
        "host_aliases": _aliases,
        "host_network": boolean,
        "hostname": namespace,
        "image_pull_policy": choice("Always", "IfNotPresent", "Never"),
        "image_pull_secrets": sequence_of(object_name),
        "labels": mapping_of(label_value, key=_free_key),
        "node_selector": mapping_of(label_value, key=label_key),
        "priority_class": object_name,
        "privileged": boolean,
        "runtime_class": object_name,
        "scheduler": object_name,
        "service_account": object_name,
        "sidecars": sequence_of(_sidecar),
        "supplemental_groups": sequence_of(natural),
        "sysctls": _sysctls,
        "tolerations": sequence_of(toleration),
        "user": user,
    }
)

_NEVER: Final = "it shows a job what is others'"
#: Settings that are never open, and what to write instead; besides those that no place opens.
_CLOSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "active_deadline_seconds": "use policy(run_timeout=…)",
        "args": ENTRY,
        "automount_service_account_token": "no token is ever mounted; hand over what is needed with agent(secrets=…)",
        "backoff_limit": "use policy(infra_retries=…), or retries= of the task",
        "containers": "use sidecars",
        "cpu": REQUEST,
        "env_from": ENV,
        "host_ipc": _NEVER,
        "host_pid": _NEVER,
        "init_containers": "use sidecars, and inputs= for what must be there first",
        "namespace": "the place says it; name another place",
        "network": "say host_network: true for the host's; all other pods have the cluster's",
        "node_name": "the grant says it: ask for labels with request={'labels': …}",
        "pod_template": "name what it should change: each setting is opened, or not, by the place's owner",
        "resources": REQUEST,
        "secrets": "use agent(secrets=…)",
        "security_context": "name what it should change: user, cap_add, privileged, supplemental_groups or sysctls",
        "termination_grace_period_seconds": "use policy(grace=…)",
        "volume_mounts": VOLUMES,
    }
)


def asked(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a job asks of its pod.

    Raises
    ------
    InvalidSpec
        As `airflow_dla.runtime.overrides.read` does, and if two sidecars have one name.

    Examples
    --------
    >>> asked({"node_selector": {"zone": "a"}, "host_aliases": {"db": "10.0.0.1"}})
    {'node_selector': {'zone': 'a'}, 'host_aliases': [{'ip': '10.0.0.1', 'hostnames': ['db']}]}
    """
    found = read(overrides, SETTINGS, _CLOSED)
    sidecars = [sidecar["name"] for sidecar in found.get("sidecars", ())]
    twice = {name for name in sidecars if sidecars.count(name) > 1}
    if twice:
        raise InvalidSpec(f"overrides.sidecars: {', '.join(sorted(twice))} is the name of two; name each otherwise")
    return found
