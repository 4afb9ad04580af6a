"""What a place on Kubernetes says of its cluster: names, tolerations, scratch space."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.resources import RESOURCES, Range, profile
from airflow_dla.specs.values import mapping, natural, refuse_unknown, text, written

#: Scratch space on the node's own disk, which ends with the pod.
EMPTY_DIR: Final = "emptydir"
#: Before the name of a persistent volume claim.
CLAIM: Final = "pvc:"

_SUBDOMAIN: Final = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_NAME: Final = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_TOLERATION: Final = ("key", "operator", "value", "effect", "tolerationSeconds")
_LONGEST: Final = 253

namespace = written(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a namespace: at most 63 of a-z 0-9 -, not at its ends")
label_key = written(rf"({_SUBDOMAIN}/)?{_NAME}", "a label's key such as 'topology.kubernetes.io/zone'")
label_value = written(rf"({_NAME})?", "a label's value: at most 63 of A-Z a-z 0-9 . _ -", empty=True)
extended = written(rf"{_SUBDOMAIN}/{_NAME}", "the cluster's name of a device, such as 'nvidia.com/gpu'")


def object_name(raw: object, where: str) -> str:
    """Parse the name of an object of a cluster: lower-case letters, digits, ``-`` and ``.``, at most 253.

    Examples
    --------
    >>> object_name("train-cache", "place.queue")
    'train-cache'
    >>> object_name("Train", "place.queue")
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: place.queue must be the name of an object of the cluster: a-z 0-9 - . and at most 253, got 'Train'
    """
    found = text(raw, where)
    if len(found) > _LONGEST or not re.fullmatch(_SUBDOMAIN, found):
        raise InvalidSpec(f"{where} must be the name of an object of the cluster: a-z 0-9 - . and at most {_LONGEST}, got {found!r:.80}")
    return found


def toleration(raw: object, where: str) -> dict[str, Any]:
    """Parse a toleration, in Kubernetes' own words.

    Examples
    --------
    >>> toleration({"key": "nvidia.com/gpu", "operator": "Exists"}, "place.tolerations[0]")
    {'key': 'nvidia.com/gpu', 'operator': 'Exists'}
    >>> toleration({"operator": "Exists", "value": "a100"}, "place.tolerations[0]")
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: place.tolerations[0]: operator Exists takes no value, got 'a100'; drop it, or say operator Equal
    """
    given = mapping(raw, where)
    refuse_unknown(given, _TOLERATION, where)
    words = {key: text(given[key], f"{where}.{key}") for key in ("key", "operator", "value", "effect") if given.get(key) not in (None, "")}
    _check_operator(words, where)
    if "effect" in words and words["effect"] not in _EFFECTS:
        raise InvalidSpec(f"{where}.effect must be one of {', '.join(_EFFECTS)}, got {words['effect']!r:.80}")
    if given.get("tolerationSeconds") is None:
        return dict(words)
    return {**words, "tolerationSeconds": natural(given["tolerationSeconds"], f"{where}.tolerationSeconds")}


def _check_operator(words: Mapping[str, str], where: str) -> None:
    operator = words.get("operator", "Equal")
    if operator not in {"Exists", "Equal"}:
        raise InvalidSpec(f"{where}.operator must be Exists or Equal, got {operator!r:.80}")
    if operator == "Exists" and "value" in words:
        raise InvalidSpec(f"{where}: operator Exists takes no value, got {words['value']!r:.80}; drop it, or say operator Equal")
    if operator == "Equal" and "key" not in words:
        raise InvalidSpec(f"{where} lacks a key; name one, or say operator Exists to tolerate every taint")
    if "key" in words:
        label_key(words["key"], f"{where}.key")


def scratch(raw: object, where: str) -> str | dict[str, str]:
    """Parse where the files of jobs lie: ``emptydir``, ``pvc:NAME``, or ``{"storage_class": …, "size": …}``.

    Examples
    --------
    >>> scratch({"size": "100GiB"}, "place.scratch")
    {'size': '100GiB'}
    >>> scratch("ssd", "place.scratch")
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: place.scratch must be 'emptydir', 'pvc:NAME', or {"storage_class": …, "size": …}, got 'ssd'
    """
    if isinstance(raw, Mapping):
        return _ephemeral(mapping(raw, where), where)
    found = text(raw, where)
    if found == EMPTY_DIR:
        return found
    if not found.startswith(CLAIM):
        raise InvalidSpec(f"{where} must be '{EMPTY_DIR}', '{CLAIM}NAME', or {{\"storage_class\": …, \"size\": …}}, got {found!r:.80}")
    return CLAIM + object_name(found.removeprefix(CLAIM) or found, where)


def _ephemeral(given: Mapping[str, Any], where: str) -> dict[str, str]:
    refuse_unknown(given, ("storage_class", "size"), where)
    if "size" not in given:
        raise InvalidSpec(f"{where} lacks size, for example '100GiB': a volume is made for each job, and must be so large")
    named = {"storage_class": object_name(given["storage_class"], f"{where}.storage_class")} if given.get("storage_class") else {}
    size = Range.parse("disk", given["size"], f"{where}.size")
    if size.minimum <= 0 or size.minimum != size.wanted or size.per_gpu:
        raise InvalidSpec(f"{where}.size must be one amount > 0 such as '100GiB', got {given['size']!r:.80}")
    return {**named, "size": str(given["size"]).strip()}


def slices(raw: object, where: str) -> str:
    """Parse the name of a resource that a cluster may call otherwise than we expect: slices of GPUs.

    Examples
    --------
    >>> slices("mig-1g.10gb", "place.resources key")
    'mig-1g.10gb'
    >>> slices("gpu", "place.resources key")
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: place.resources key must be slices of GPUs such as mig-1g.10gb, got 'gpu'; that is gpu_resource
    """
    found = text(raw, where)
    if found in RESOURCES:
        instead = "that is gpu_resource" if found == "gpu" else "every cluster calls it the same"
        raise InvalidSpec(f"{where} must be slices of GPUs such as mig-1g.10gb, got {found!r}; {instead}")
    profile(found.removeprefix("mig-"), where)
    return found if found.startswith("mig-") else f"mig-{found}"
