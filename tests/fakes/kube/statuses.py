"""What a kubelet reports of a pod, from the states of its containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fakes.kube.conditions import condition
from fakes.kube.store import Document, now

_SPECIFIED: Final = {"initContainerStatuses": "initContainers", "containerStatuses": "containers"}


def fill(
    draft: Document, states: Mapping[str, Mapping[str, Any]], *, ending: bool = False, restarts: Mapping[str, int] | None = None,
    resources: Mapping[str, Any] | None = None, address: str = "192.0.2.77",
) -> None:  # fmt: skip
    """Write a pod's status; one that has ended stays as it is.

    Parameters
    ----------
    draft : mapping
        The pod.
    states : mapping
        Of the containers that were looked at, by name, as ``status.containerStatuses[].state``.
    ending : bool
        Whether the pod is to go.
    restarts, resources : mapping, optional
        Of containers, by name.
    address : str
        The pod's.
    """
    spec, found = draft["spec"], draft["status"]
    if found.get("phase") in ("Succeeded", "Failed"):
        return
    inits, mains = ([container["name"] for container in spec.get(which) or []] for which in ("initContainers", "containers"))
    found |= {"hostIP": "192.0.2.1", "podIP": address, "podIPs": [{"ip": address}]}
    found.setdefault("startTime", now())
    for field, which in _SPECIFIED.items():
        if spec.get(which):
            found[field] = [
                _status(container, states.get(container["name"]), bool(inits), restarts or {}, resources or {}) for container in spec[which]
            ]
    found["phase"] = _phase(spec, states, ending=ending)
    ended = [name for name in mains if "terminated" in states.get(name, {})]
    ready = found["phase"] == "Running" and not ended
    started = all(name in states and "waiting" not in states[name] for name in inits) and any(name in states for name in mains)
    condition(found, "Initialized", started)
    condition(found, "ContainersReady", ready)
    condition(found, "Ready", ready)


def _phase(spec: Document, states: Mapping[str, Mapping[str, Any]], *, ending: bool) -> str:
    mains = [states.get(container["name"], {}) for container in spec["containers"]]
    once = [states.get(one["name"], {}) for one in spec.get("initContainers") or [] if one.get("restartPolicy") != "Always"]
    running = any("running" in state for state in states.values())
    codes = [state["terminated"]["exitCode"] for state in mains if "terminated" in state]
    failed = any(state.get("terminated", {}).get("exitCode") for state in once)
    if not running and (ending or failed or len(codes) == len(mains)):
        return "Succeeded" if len(codes) == len(mains) and not any(codes) else "Failed"
    return "Running" if codes or any("running" in state for state in mains) else "Pending"


def _status(
    container: Document, state: Mapping[str, Any] | None, inits: bool, restarts: Mapping[str, int], resources: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    name = container["name"]
    state = state or {"waiting": {"reason": "PodInitializing" if inits else "ContainerCreating"}}
    asked = container.get("resources") or {}
    return {
        "name": name, "image": container["image"], "imageID": f"sha256:{container['image']}", "restartCount": restarts.get(name, 0),
        "state": dict(state), "lastState": {}, "ready": "running" in state, "started": "running" in state,
        "resources": resources.get(name, asked), "allocatedResources": asked.get("requests") or {},
    }  # fmt: skip
