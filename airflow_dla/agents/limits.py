"""Limits of a job, by whatever this machine offers.

Control groups version 2 where ``cpu`` and ``memory`` are among the own group's
controllers and may be handed down; else version 1, each controller by itself, below
the own path (a version 2 hierarchy beside it that has neither is common); else the
CPUs granted by number, threads to match, and a watch on the memory held. Never
``RLIMIT_AS``: a torch process maps a gigabyte and holds a tenth of it.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

_PERIOD_US = 100_000
_GIB = 2**30
_UNIFIED = "unified"

#: Fields of ``memory.stat`` in version 2 and in version 1; no name is in both.
_HELD = ("anon", "total_rss", "total_shmem")


@dataclass(frozen=True)
class Limits:
    """What is in force for one attempt.

    Parameters
    ----------
    text : str
        For the task log: ``cgroup v1: 1 cpu, 512 MiB``.
    folders : tuple of str
        Control groups made for it.
    controls : mapping of resource to list of str
        Files that hold its limit, the memory limit before memory and swap.
    memory_bytes : int or None
        What the keeper must watch, because no control group does; a resize changes it (``grant.json``).
    """

    text: str = ""
    folders: Tuple[str, ...] = ()
    controls: Dict[str, List[str]] = field(default_factory=dict)
    cpu_ids: Tuple[int, ...] = ()
    memory_bytes: "int | None" = None

    def to_mapping(self) -> dict[str, Any]:
        """Write what others need: the runner to join, the runtime to resize and to clean up."""
        watched = self.memory_bytes is not None
        return {"folders": list(self.folders), "controls": self.controls, "cpu_ids": list(self.cpu_ids), "watched": watched}


def own_groups(cgroups: str, mounts: str) -> dict[str, Path]:
    r"""Find this process's control group in every hierarchy.

    Parameters
    ----------
    cgroups, mounts : str
        ``/proc/self/cgroup`` and ``/proc/self/mountinfo``.

    Returns
    -------
    dict
        Controller (``unified`` for version 2) to the group's folder.

    Examples
    --------
    >>> own_groups("4:memory:/a\n0::/b", "1 2 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
    {'memory': PosixPath('/sys/fs/cgroup/memory/a')}
    """
    paths = {name: path for line in cgroups.splitlines() for name, path in _hierarchy(line)}
    found: Dict[str, Path] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        names = [_UNIFIED] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        found.update({name: _below(Path(point), root, paths[name]) for name in names if name in paths})
    return found


def _hierarchy(line: str) -> list[tuple[str, str]]:
    _, names, path = line.split(":", 2)
    return [(name, path) for name in (names or _UNIFIED).split(",")]


def _below(point: Path, root: str, path: str) -> Path:
    """Return where a path of the hierarchy is seen; a container sees a part of it as its root."""
    inside = path[len(root) :] if root != "/" and path.startswith(root) else path
    return point / inside.lstrip("/")


def group_name(folder: Path) -> str:
    """Return the name of an attempt's control groups: one for each job folder on this machine."""
    return f"dla-{zlib.crc32(str(folder.parent).encode()):08x}-{folder.name}"


def set_limits(name: str, amounts: dict[str, float], cpu_ids: Sequence[int], groups: dict[str, Path]) -> Limits:
    """Put the limits of an attempt in force and say which.

    Parameters
    ----------
    name : str
        Of the control groups to make.
    amounts : mapping of resource to float
        ``cpu`` in cores, ``memory`` in GiB; others are not enforced here.
    cpu_ids : sequence of int
        CPUs granted by number.
    groups : mapping of controller to path
        See `own_groups`.
    """
    ids = tuple(sorted(set(cpu_ids) & os.sched_getaffinity(0)))
    unified = groups.get(_UNIFIED)
    folder = _made_unified(unified / name) if unified is not None and amounts else None
    try:
        if folder is not None:
            return _unified_limits(folder, amounts, ids)
    except OSError:
        remove([str(folder)])  # the kernel took the group and not its limits: it guards nothing
    return _separate_limits(name, amounts, ids, groups)


def _made_unified(folder: Path) -> Path | None:
    """Make a group below the own one; None where that cannot limit CPU and memory."""
    try:
        if not {"cpu", "memory"} <= set((folder.parent / "cgroup.controllers").read_text(encoding="ascii").split()):
            return None
        given = folder.parent / "cgroup.subtree_control"
        if not {"cpu", "memory"} <= set(given.read_text(encoding="ascii").split()):
            given.write_text("+cpu +memory", encoding="ascii")
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder


def _unified_limits(folder: Path, amounts: dict[str, float], ids: tuple[int, ...]) -> Limits:
    controls: Dict[str, List[str]] = {}
    if "cpu" in amounts:
        controls["cpu"] = [str(folder / "cpu.max")]
        write_control("cpu", folder / "cpu.max", amounts["cpu"])
    if "memory" in amounts:
        controls["memory"] = [str(folder / "memory.max")]
        write_control("memory", folder / "memory.max", amounts["memory"])
        _try_write(folder / "memory.swap.max", "0")
        _try_write(folder / "memory.oom.group", "1")
    return Limits(f"cgroup v2: {_said(amounts, ids)}", (str(folder),), controls, ids)


def _separate_limits(name: str, amounts: dict[str, float], ids: tuple[int, ...], groups: dict[str, Path]) -> Limits:
    """Make a group in each version 1 hierarchy that this process may write."""
    folders: List[str] = []
    controls: Dict[str, List[str]] = {}
    files = {"cpu": ("cpu.cfs_quota_us",), "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")}
    for resource, names in files.items():
        if resource in amounts and resource in groups:
            made = _made_separate(groups[resource] / name, resource, names, amounts[resource])
            folders += [str(groups[resource] / name)] if made else []
            controls.update({resource: made} if made else {})
    if ids and "cpuset" in groups and _made_cpuset(groups["cpuset"] / name, ids):
        folders.append(str(groups["cpuset"] / name))
    inside = {resource: amounts[resource] for resource in controls}
    rest = {resource: amounts[resource] for resource in files if resource in amounts and resource not in controls}
    watched = in_bytes(rest["memory"]) if "memory" in rest else None
    return Limits(_separate_text(inside, rest, ids), tuple(folders), controls, ids, watched)


def _made_separate(folder: Path, resource: str, names: Sequence[str], amount: float) -> list[str]:
    """Make one group; return the files that hold its limit, none where it could not be made."""
    try:
        folder.mkdir(exist_ok=True)
        files = [folder / name for name in names if (folder / name).exists()]
        for file in files:
            write_control(resource, file, amount)
    except OSError:
        remove([str(folder)])
        return []
    return [str(file) for file in files]


def _made_cpuset(folder: Path, ids: Sequence[int]) -> bool:
    """Make a group that may use the CPUs granted by number and the memory nodes of its parent."""
    try:
        folder.mkdir(exist_ok=True)
        (folder / "cpuset.mems").write_text((folder.parent / "cpuset.effective_mems").read_text(encoding="ascii"), encoding="ascii")
        (folder / "cpuset.cpus").write_text(",".join(map(str, ids)), encoding="ascii")
    except OSError:
        remove([str(folder)])
        return False
    return True


def write_control(resource: str, file: Path, amount: float) -> None:
    """Write one limit in the form its file wants: a quota in each period, or bytes."""
    if resource == "memory":
        file.write_text(str(in_bytes(amount)), encoding="ascii")
        return
    quota = max(1_000, round(amount * _PERIOD_US))
    file.write_text(f"{quota} {_PERIOD_US}" if file.name == "cpu.max" else str(quota), encoding="ascii")


def in_bytes(amount: float) -> int:
    """Return an amount of memory, GiB, in bytes."""
    return round(amount * _GIB)


def _try_write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="ascii")
    except OSError:
        return  # an older kernel lacks the file; the limit itself is in force


def _said(amounts: dict[str, float], ids: Sequence[int]) -> str:
    parts = [f"{amounts['cpu']:g} cpu"] if "cpu" in amounts else []
    parts += [f"{amounts['memory'] * 1024:g} MiB"] if "memory" in amounts else []
    parts += [f"CPUs {','.join(map(str, ids))}"] if ids else []
    return ", ".join(parts) or "no limit asked for"


def _separate_text(inside: dict[str, float], rest: dict[str, float], ids: tuple[int, ...]) -> str:
    if inside and not rest:
        return f"cgroup v1: {_said(inside, ids)}"
    if not rest and not ids:
        return "no limit asked for"
    parts = [f"cgroup v1: {_said(inside, ())}"] if inside else ["no cgroup may be made here"] if rest else []
    parts += [f"CPUs {','.join(map(str, ids))} by affinity"] if ids else []
    parts += ["cpu by the number of threads only"] if "cpu" in rest and not ids else []
    parts += [f"memory of {rest['memory'] * 1024:g} MiB watched"] if "memory" in rest else []
    return "; ".join(parts)


def join(folders: Sequence[str], granted_cpus: Callable[[], Sequence[int]]) -> None:
    """Put the calling process, and so all that it starts, under the limits.

    Parameters
    ----------
    folders : sequence of str
        Control groups.
    granted_cpus : callable
        Returns the CPUs that are granted by number now; asked again after they are taken,
        since a resize may not have seen this process.
    """
    mine = os.sched_getaffinity(0)
    for folder in folders:
        (Path(folder) / "cgroup.procs").write_text("0", encoding="ascii")
    joined: Optional[Sequence[int]] = None
    granted = granted_cpus()
    while granted != joined:
        if mine.intersection(granted):
            os.sched_setaffinity(0, mine.intersection(granted))
        joined, granted = granted, granted_cpus()


def members(folders: Sequence[str]) -> set[int]:
    """Return the processes in control groups."""
    return {int(pid) for folder in folders for pid in _read(Path(folder) / "cgroup.procs").split()}


def oom_kills(folders: Sequence[str]) -> int:
    """Return how many processes the kernel killed for memory in control groups."""
    texts = [_read(Path(folder) / name) for folder in folders for name in ("memory.events", "memory.oom_control")]
    return sum(_field(text, "oom_kill") for text in texts)


def memory_held(folders: Sequence[str]) -> int:
    """Return the bytes that control groups hold; the page cache, which can be given back, does not count."""
    texts = [_read(Path(folder) / "memory.stat") for folder in folders]
    return max((sum(_field(text, name) for name in _HELD) for text in texts), default=0)


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def remove(folders: Sequence[str]) -> None:
    """Remove control groups that nobody is in."""
    for folder in folders:
        try:
            Path(folder).rmdir()
        except OSError:
            continue  # somebody is in it still, or it is gone: the next keeper looks again


def leftovers(own: str, groups: dict[str, Path]) -> dict[str, list[str]]:
    """Return the other control groups of this job root, by attempt."""
    prefix = own[: len("dla-00000000-")]
    found: Dict[str, List[str]] = {}
    for parent in {groups[name] for name in (_UNIFIED, "cpu", "memory", "cpuset") if name in groups}:
        for folder in parent.glob(f"{prefix}*"):
            if folder.name != own:
                found.setdefault(folder.name[len(prefix) :], []).append(str(folder))
    return found
