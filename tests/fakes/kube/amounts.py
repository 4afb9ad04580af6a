"""Quantities, and what a pod asks for with all its containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_UNITS: Final = {
    "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "n": 1e-9, "u": 1e-6,
}  # fmt: skip


def quantity(text: str | float) -> float:
    """Return a quantity as a number.

    Examples
    --------
    >>> quantity("1500m"), quantity("2Gi"), quantity("1e3")
    (1.5, 2147483648.0, 1000.0)

    Raises
    ------
    ValueError
        If it is none.
    """
    text = str(text)
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * _UNITS[unit]
    return float(text)


def written(amount: float) -> str:
    """Return a number as a quantity."""
    return str(int(amount)) if amount == int(amount) else f"{round(amount * 1000)}m"


def requests_of(spec: Mapping[str, Any], which: str = "requests") -> dict[str, float]:
    """Return what a pod asks for: sidecars and main containers together, or the largest init container beside the sidecars before it."""
    total = _sum([_amounts(container, which) for container in spec["containers"]])
    sidecars: dict[str, float] = {}
    peak: dict[str, float] = {}
    for container in spec.get("initContainers") or []:
        amounts = _amounts(container, which)
        if container.get("restartPolicy") == "Always":
            sidecars = _sum([sidecars, amounts])
            peak = _largest(peak, sidecars)
        else:
            peak = _largest(peak, _sum([sidecars, amounts]))
    return _largest(_sum([total, sidecars]), peak)


def _amounts(container: Mapping[str, Any], which: str) -> dict[str, float]:
    resources = container.get("resources") or {}
    given = {**(resources.get("limits") or {}), **(resources.get(which) or {})} if which == "requests" else resources.get(which) or {}
    return {name: quantity(amount) for name, amount in given.items()}


def _sum(tables: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(table.get(name, 0.0) for table in tables) for table in tables for name in table}


def _largest(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}
