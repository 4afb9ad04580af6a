"""Where a pod fits: requests, taints, node selectors and required affinity, in the scheduler's words where it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fakes.kube.amounts import quantity, requests_of
from fakes.kube.store import Document

_ENDED = ("Succeeded", "Failed")


def place(pod: Document, nodes: Sequence[Document], pods: Sequence[Document]) -> tuple[str, str]:
    """Return the node for a pod, or nothing and why there is none."""
    refusals: Counter[str] = Counter()
    for node in nodes:
        taken = [other for other in pods if other["spec"].get("nodeName") == node["metadata"]["name"]]
        why = misfit(pod, node, [other for other in taken if (other.get("status") or {}).get("phase") not in _ENDED])
        if not why:
            return str(node["metadata"]["name"]), ""
        refusals.update(why)
    if not nodes:
        return "", "no nodes available to schedule pods"
    reasons = ", ".join(sorted(f"{count} {reason}" for reason, count in refusals.items()))
    count = len(nodes)
    asked = requests_of(pod["spec"])
    fits = any(all(amount <= _whole(node).get(name, 0.0) for name, amount in asked.items()) for node in nodes)
    helps = fits and "Insufficient" in reasons
    nobody = "No preemption victims found for incoming pod" if helps else "Preemption is not helpful for scheduling"
    words = f"no new claims to deallocate, preemption: 0/{count} nodes are available: {count} {nobody}."
    return "", f"0/{count} nodes are available: {reasons}. {words}"


def _whole(node: Document) -> dict[str, float]:
    return {name: quantity(amount) for name, amount in node["status"]["allocatable"].items()}


def misfit(pod: Document, node: Document, there: Sequence[Document]) -> list[str]:
    """Return why a pod does not fit a node, as the first filter that refuses says it."""
    spec = pod["spec"]
    if node["spec"].get("unschedulable") and not _tolerates(spec, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}):
        return ["node(s) were unschedulable"]
    if not _chosen(spec, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    for taint in node["spec"].get("taints") or []:
        if taint["effect"] != "PreferNoSchedule" and not _tolerates(spec, taint):
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"]
    room = _whole(node)
    for other in there:
        for name, amount in {**requests_of(other["spec"]), "pods": 1.0}.items():
            room[name] = room.get(name, 0.0) - amount
    if room.get("pods", 110.0) < 1:
        return ["Too many pods"]
    return [f"Insufficient {name}" for name, amount in requests_of(spec).items() if amount > room.get(name, 0.0)]


def _chosen(spec: Mapping[str, Any], node: Document) -> bool:
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(name) != value for name, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        all(_holds(one, labels) for one in term.get("matchExpressions") or [])
        and all(_holds(one, fields) for one in term.get("matchFields") or [])
        for term in required["nodeSelectorTerms"]
        if term.get("matchExpressions") or term.get("matchFields")
    )


def _holds(requirement: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    key, wanted = requirement["key"], requirement.get("values") or []
    match requirement["operator"]:
        case "In":
            return values.get(key) in wanted
        case "NotIn":
            return values.get(key) not in wanted
        case "Exists":
            return key in values
        case "DoesNotExist":
            return key not in values
        case "Gt":
            return key in values and int(values[key]) > int(wanted[0])
        case _:
            return key in values and int(values[key]) < int(wanted[0])


def _tolerates(spec: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    return any(
        (not found.get("key") or found["key"] == taint["key"])
        and found.get("effect") in (None, "", taint["effect"])
        and (found.get("operator") == "Exists" or found.get("value", "") == taint.get("value", ""))
        for found in spec.get("tolerations") or []
    )
