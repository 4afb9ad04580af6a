"""Changing the limits of an attempt of this host while it runs: all of a grant, or nothing.

CPUs change in the control group that holds the quota, and by number in a cpuset and by
the affinity of every thread; memory in its control group, or in the file that the keeper
watches by. A GPU, or anything that nobody here can enforce, cannot change while a
program runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from airflow_dla.runtime.files import read_json, write_whole
from airflow_dla.runtime.processes import affinity, descendants, members, proportional_bytes, set_affinity, threads
from airflow_dla.specs import Grant, JobFile
from airflow_dla.specs.resources import GIB

_CFS_PERIOD_US: Final = 100_000
#: A memory limit stays so far above what is in use: a part of that, and at least so many bytes.
_MARGIN: Final = 0.125
_LEAST_MARGIN: Final = 32 * 2**20
#: Fields of ``memory.stat`` that the kernel cannot take back, by the file that holds the limit.
_HELD: Final = {
    "memory.max": frozenset({"anon", "shmem", "slab_unreclaimable", "kernel_stack", "pagetables"}),
    "memory.limit_in_bytes": frozenset({"total_rss", "total_shmem"}),
}
_BIND_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Running:
    """An attempt that runs, and what guards its limits."""

    folder: Path
    keeper: int
    groups: tuple[str, ...]
    controls: Mapping[str, list[str]]
    watched: bool
    ids: tuple[int, ...]

    def processes(self) -> set[int]:
        return members(self.groups) | descendants(self.keeper)

    def cpus(self, grant: Grant) -> tuple[int, ...]:
        """Return the CPUs of a grant that exist here, as the keeper picked them at the start."""
        return tuple(sorted(set(grant.cpu_ids) & affinity(self.keeper)))


def resize(folder: Path, keeper: int, target: Grant) -> bool:
    """Put a grant in force for what an attempt runs.

    Parameters
    ----------
    folder : Path
        The attempt's.
    keeper : int
        Process number of its keeper, which lives.
    target : `Grant`

    Returns
    -------
    bool
        Whether it is in force; if not, what was in force before still is, or is again.
    """
    with _alone(folder):
        running, now = _running(folder, keeper), _granted(folder)
        # A group or a file that goes meanwhile goes because the attempt ends.
        with contextlib.suppress(OSError):
            if _possible(running, now, target) and _applied(running, target):
                return True
        # Also where nothing was tried: whoever tried it before may have died in the middle of it.
        with contextlib.suppress(OSError):
            _applied(running, now)
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one follower at a time change an attempt."""
    with (folder / "resize.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _running(folder: Path, keeper: int) -> _Running:
    found: Mapping[str, Any] = read_json(folder / "cgroups.json") or {}
    ids = tuple(found.get("cpu_ids", ()))
    return _Running(folder, keeper, tuple(found.get("folders", ())), found.get("controls", {}), bool(found.get("watched")), ids)


def _granted(folder: Path) -> Grant:
    """Return what an attempt may use now: what it was started with, or resized to since."""
    resized = read_json(folder / "grant.json")
    return JobFile.from_mapping(read_json(folder / "job.json")).grant if resized is None else Grant.from_mapping(resized)


def _possible(running: _Running, now: Grant, target: Grant) -> bool:
    """Whether whatever differs is guarded here, and the memory that would be taken is not in use."""
    if (now.node, now.gpu_ids) != (target.node, target.gpu_ids):
        return False
    if target.cpu_ids and running.cpus(now) and not running.cpus(target):
        return False
    named = {**now.amounts, **target.amounts}
    differ = {resource for resource in named if now.amounts.get(resource) != target.amounts.get(resource)}
    if not all(_guarded(running, resource, target) and target.amounts.get(resource) for resource in differ):
        return False
    return "memory" not in differ or target.amounts["memory"] > now.amounts.get("memory", 0.0) or _fits(running, target)


def _guarded(running: _Running, resource: str, target: Grant) -> bool:
    if resource == "cpu":
        return "cpu" in running.controls or bool(running.cpus(target))
    return resource == "memory" and ("memory" in running.controls or running.watched)


def _fits(running: _Running, target: Grant) -> bool:
    """Whether a smaller memory limit leaves room: a kernel that finds more in use than the limit kills."""
    held = _held(running)
    return round(target.amounts["memory"] * GIB) >= held + max(_LEAST_MARGIN, _MARGIN * held)


def _held(running: _Running) -> int:
    """Return the bytes of memory in use; the page cache, which can be given back, does not count."""
    if "memory" not in running.controls:
        return proportional_bytes(running.processes())
    limit = Path(running.controls["memory"][0])
    lines = (limit.parent / "memory.stat").read_text(encoding="ascii").splitlines()
    return sum(int(value) for name, _, value in (line.partition(" ") for line in lines) if name in _HELD[limit.name])


def _applied(running: _Running, grant: Grant) -> bool:
    """Put a grant in force; safe to repeat. False, and perhaps in part in force, when the kernel refused some of it."""
    known = {resource: files for resource, files in running.controls.items() if resource in grant.amounts}
    if not all(_set_control(resource, files, grant.amounts[resource]) for resource, files in known.items()):
        return False
    ids = running.cpus(grant) or tuple(sorted(affinity(running.keeper)))
    bound = bool(running.ids or running.cpus(grant) or running.cpus(_granted(running.folder)))
    if bound:
        _set_cpusets(running.groups, ids)
    # Before the processes are looked through: one that joins its limits after that reads the new ones.
    write_whole(running.folder / "grant.json", grant.to_mapping())
    return not bound or _bound(running, frozenset(ids))


def _set_control(resource: str, files: list[str], amount: float) -> bool:
    """Write a limit into the files that hold it; the two of memory in the order that the kernel takes."""
    for order in (files, files[::-1]):
        with contextlib.suppress(OSError):
            for file in order:
                Path(file).write_text(_control(resource, file, amount), encoding="ascii")
            return True
    return False


def _control(resource: str, file: str, amount: float) -> str:
    if resource == "memory":
        return str(round(amount * GIB))
    quota = max(1_000, round(amount * _CFS_PERIOD_US))
    return f"{quota} {_CFS_PERIOD_US}" if file.endswith("cpu.max") else str(quota)


def _set_cpusets(groups: tuple[str, ...], ids: tuple[int, ...]) -> None:
    """Change the CPUs of those groups that hold any by number."""
    for file in (Path(group) / "cpuset.cpus" for group in groups):
        if file.exists() and file.read_text(encoding="ascii").strip():
            file.write_text(",".join(map(str, ids)), encoding="ascii")


def _bound(running: _Running, ids: frozenset[int]) -> bool:
    """Hold every thread to some CPUs; True once nobody was found outside of them, twice in a row."""
    for thread in threads(running.processes()):
        set_affinity(thread, ids)
    deadline, clean = time.monotonic() + _BIND_S, 0
    while clean < 2 and time.monotonic() < deadline:  # noqa: PLR2004 - one that starts while we look is found by the second look
        outside = [thread for thread in threads(running.processes()) if not affinity(thread) <= ids]
        for thread in outside:
            set_affinity(thread, ids)
        clean = 0 if outside else clean + 1
    return clean == 2  # noqa: PLR2004
