"""The machine we are on, as a node: who it is and what it can give."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from airflow_dla.runtime.processes import boot_id
from airflow_dla.specs import Node
from airflow_dla.specs.resources import GIB


def host_id() -> str:
    """Return what names this host and its process numbers: name, boot and pid namespace.

    Two processes with the same host id can see and signal each other's jobs.
    """
    return f"{socket.gethostname()}/{boot_id()}/{Path('/proc/self/ns/pid').stat().st_ino}"


def discover(name: str, place: str = "local") -> Node:
    """Return this machine as a node, with what this process may really use.

    Parameters
    ----------
    name : str
        Of the node.
    place : str

    Returns
    -------
    Node
        CPUs of the affinity mask, or less where a control group has a quota; memory of
        the machine, or less where a control group has a limit.
    """
    ids = tuple(sorted(os.sched_getaffinity(0)))
    groups = list(_groups(_text(Path("/proc/self/cgroup")), _text(Path("/proc/self/mountinfo"))))
    capacity = {"cpu": cpus(len(ids), groups), "memory": math.floor(memory_bytes(_total_memory(), groups) / GIB * 1000) / 1000}
    return Node(name=name, place=place, capacity=capacity, cpu_ids=ids)


def cpus(affinity: int, groups: list[Path]) -> float:
    """Return the CPUs that may be used: those of the mask, or the smallest quota."""
    return min([float(affinity), *(quota for group in groups if (quota := _quota(group)) is not None)])


def memory_bytes(total: int, groups: list[Path]) -> int:
    """Return the bytes that may be used: the machine's, or the smallest limit."""
    names = ("memory.max", "memory.limit_in_bytes")
    return min([total, *(int(text) for group in groups for name in names if (text := _text(group / name).strip()).isdigit())])


def _quota(group: Path) -> float | None:
    quota, _, period = _text(group / "cpu.max").strip().partition(" ")
    if not period:
        quota, period = _text(group / "cpu.cfs_quota_us").strip(), _text(group / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _groups(cgroups: str, mounts: str) -> Iterator[Path]:
    """Yield every control group that this process is in, with those above: a limit anywhere holds."""
    paths = {name: path for line in cgroups.splitlines() for name, path in _hierarchy(line)}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        names = [""] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        for path in {paths[name] for name in names if name in paths}:
            inside = Path(path.removeprefix(root) if root != "/" else path)
            yield from (Path(point, *above.parts[above.is_absolute() :]) for above in [inside, *inside.parents])


def _hierarchy(line: str) -> list[tuple[str, str]]:
    _, names, path = line.split(":", 2)
    return [(name, path) for name in names.split(",")]


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
