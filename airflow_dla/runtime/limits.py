"""What holds a container to its grant, in the units of kernels; and what of it can change while the container runs."""

from __future__ import annotations

from typing import Final

from airflow_dla.specs import Grant
from airflow_dla.specs.resources import GIB, mig_profile

#: What kernels and runtimes take for the least: CPUs, and bytes of memory.
_LEAST_CPUS: Final = 0.01
_LEAST_MEMORY: Final = 6 * 2**20
#: The most that lies in a ``/tmp`` in memory, GiB.
_MOST_TMP: Final = 1.0
_COMPUTE: Final = frozenset({"cpu", "memory"})


def compute(grant: Grant) -> dict[str, float]:
    """Return the limits that can be changed while a container runs: CPUs, and bytes of memory; what was not granted is not limited.

    Examples
    --------
    >>> compute(Grant(id="a.1", node="n", amounts={"cpu": 1.5, "memory": 0.5, "gpu": 1.0}))
    {'cpu': 1.5, 'memory': 536870912}
    """
    found: dict[str, float] = {}
    if "cpu" in grant.amounts:
        found["cpu"] = max(_LEAST_CPUS, grant.amounts["cpu"])
    if "memory" in grant.amounts:
        found["memory"] = max(_LEAST_MEMORY, in_bytes(grant.amounts["memory"]))
    return found


def in_bytes(gib: float) -> int:
    """Return GiB in bytes: one at least, since none stands for no limit."""
    return max(1, round(gib * GIB))


def tmp(grant: Grant) -> float:
    """Return how much of a ``/tmp`` in memory may be written, GiB: it counts to the memory granted."""
    held = grant.amounts.get("memory")
    return min(_MOST_TMP, held / 2) if held else _MOST_TMP


def devices(grant: Grant) -> dict[str, float]:
    """Return the amounts of GPUs, and of slices of them, that were granted."""
    return {name: amount for name, amount in grant.amounts.items() if amount > 0 and (name == "gpu" or mig_profile(name))}


def differ_in_compute(old: Grant, new: Grant) -> bool:
    """Return whether two grants are of one node and the same devices, and differ at most in CPUs and memory."""
    changed = {name for name in {*old.amounts, *new.amounts} if old.amounts.get(name) != new.amounts.get(name)}
    return changed <= _COMPUTE and (old.gpu_ids, old.node) == (new.gpu_ids, new.node)
