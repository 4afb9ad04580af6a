"""Limits of a pod that change while it runs: the request, and what its node makes of it.

A node takes a request and answers later, in the pod's status: it is in force when the
container's own ``resources`` say so. One that waits or failed there goes on being wanted
until it is taken back, so it must be: a grant is in force whole or not at all.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.runtime.kubernetes.facts import MAIN, Condition, Document, Pod
from airflow_dla.runtime.kubernetes.limits import compute
from airflow_dla.runtime.kubernetes.quantities import quantity
from airflow_dla.runtime.limits import differ_in_compute
from airflow_dla.specs import Grant

_ERRORS: Final = frozenset({"ResizeError", "ResizeDeferred", "ResizeInfeasible"})
#: Of a thousandth of a CPU, or a byte.
_CLOSE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a resize.

    Parameters
    ----------
    in_force : bool
        Whether the node holds the pod to it.
    refused : bool
        Whether it will not, for now at least: take it back.
    text : str
        The node's words.
    """

    in_force: bool
    refused: bool = False
    text: str = ""


def can_resize(old: Grant, new: Grant) -> bool:
    """Return whether a running pod can be changed from one grant to another: only what it has, of CPUs and memory.

    A limit that is added or taken away would make the pod one of another class of service.

    Examples
    --------
    >>> old = Grant(id="a.1", node="n", amounts={"cpu": 1.0, "memory": 1.0, "gpu": 1.0})
    >>> can_resize(old, Grant(id="a.1", node="n", amounts={"cpu": 2.0, "memory": 0.5, "gpu": 1.0}))
    True
    >>> can_resize(old, Grant(id="a.1", node="n", amounts={"cpu": 2.0, "gpu": 1.0}))
    False
    """
    return old.amounts.keys() == new.amounts.keys() and differ_in_compute(old, new)


def patch(grant: Grant) -> list[dict[str, Any]]:
    """Return the JSON patch of a pod's ``resize`` that puts a grant in force.

    Examples
    --------
    >>> patch(Grant(id="a.1", node="n", amounts={"cpu": 2.0}))[1:]
    [{'op': 'replace', 'path': '/spec/containers/0/resources/requests/cpu', 'value': '2000m'},
     {'op': 'replace', 'path': '/spec/containers/0/resources/limits/cpu', 'value': '2000m'}]
    """
    at = "/spec/containers/0"
    changes = [
        {"op": "replace", "path": f"{at}/resources/{kind}/{resource}", "value": value}
        for resource, value in compute(grant).items()
        for kind in ("requests", "limits")
    ]
    return [{"op": "test", "path": f"{at}/name", "value": MAIN}, *changes]


def outcome(pod: Pod, grant: Grant, events: Sequence[Document] = ()) -> Outcome:
    """Return what became of a resize.

    Parameters
    ----------
    pod : `Pod`
        As it is after the request: it must be newer than that.
    grant : `Grant`
        What was asked for.
    events : sequence of mapping
        Of the pod, as far as somebody looked: they tell of an error before its status does.
    """
    error = next((found for found in map(functools.partial(_error, pod), events) if found), "")
    if error:
        return Outcome(in_force=False, refused=True, text=error)
    pending, going = pod.conditions.get("PodResizePending"), pod.conditions.get("PodResizeInProgress")
    if pending is not None and pending.true:
        # It waits for room, which nobody may ever make.
        return Outcome(in_force=False, refused=True, text=_words(pending))
    if going is not None and going.true:
        return Outcome(in_force=False, refused=going.reason == "Error", text=_words(going))
    return Outcome(in_force=is_in_force(pod, grant))


def _error(pod: Pod, event: Document) -> str:
    """Return what went wrong with the newest resize, as an event says it."""
    if event.get("reason") not in _ERRORS:
        return ""
    head, _, written = str(event.get("message") or "").partition(": ")
    try:
        said = json.loads(written)
    except ValueError:
        return ""
    return f"{head}: {said.get('error', '')}" if said.get("generation") == pod.generation else ""


def is_in_force(pod: Pod, grant: Grant) -> bool:
    """Return whether a pod's node says that it holds the job to a grant, no more and no less."""
    told = pod.main.resources
    return all(
        _same(told.get(kind) or {}, resource, value) for resource, value in compute(grant).items() for kind in ("requests", "limits")
    )


def _same(told: Mapping[str, Any], resource: str, value: str) -> bool:
    if resource not in told:
        return False
    return abs(quantity(told[resource], resource) - quantity(value, resource)) <= _CLOSE


def _words(condition: Condition) -> str:
    return ": ".join(word for word in (condition.reason, condition.message) if word)
