"""The conditions of a status."""

from __future__ import annotations

from typing import Any

from fakes.kube.store import now


def condition(status: dict[str, Any], kind: str, holds: bool | None, reason: str = "", message: str = "") -> None:
    """Set a condition; its time changes with its truth alone."""
    value = {True: "True", False: "False", None: "Unknown"}[holds]
    found = status.setdefault("conditions", [])
    old = next((one for one in found if one["type"] == kind), None)
    said = {name: text for name, text in (("reason", reason), ("message", message)) if text}
    if old is not None and old["status"] == value and {key: old.get(key) for key in said} == said:
        return
    moment = old["lastTransitionTime"] if old is not None and old["status"] == value else now()
    new = {"type": kind, "status": value, "lastTransitionTime": moment, "lastProbeTime": None, **said}
    status["conditions"] = [one for one in found if one["type"] != kind] + [new]


def holds(status: dict[str, Any] | None, kind: str) -> dict[str, Any] | None:
    """Return a condition that is true, or None."""
    for one in (status or {}).get("conditions") or []:
        if one["type"] == kind and one["status"] == "True":
            return dict(one)
    return None
