"""Processes of attempts on this host: told apart for ever, signalled without mistakes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


@functools.cache
def boot_id() -> str:
    """Return what names this boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def is_alive(pid: int, *, boot: str, start_ticks: int) -> bool:
    """Return whether one certain process lives: same boot, same start, not a zombie."""
    return _state(pid, boot, start_ticks) not in {"", "Z", "X"}


def is_known(pid: int, *, boot: str, start_ticks: int) -> bool:
    """Return whether one certain process lives, or is a zombie: its parent does not know of its end yet."""
    return _state(pid, boot, start_ticks) not in {"", "X"}


def _state(pid: int, boot: str, start_ticks: int) -> str:
    """Return the letter of a process's state, empty when there is none with this start."""
    if boot != boot_id():
        return ""
    try:
        with Path(f"/proc/{pid}/stat").open("rb", buffering=0) as file:
            fields = file.read(1024).rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return fields[0].decode() if int(fields[19]) == start_ticks else ""


def signal_if(pid: int, number: signal.Signals, still: Callable[[int], bool]) -> bool:
    """Send a signal to a process if a condition holds for it; never to one that took its number meanwhile.

    Parameters
    ----------
    still : callable
        Asked after a handle to the process was taken, which a later process cannot inherit.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not still(pid):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def marked_with(mark: bytes) -> set[int]:
    """Return the processes whose environment holds a mark: whatever an attempt started, wherever it went."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit() and has_mark(int(name), mark)}  # noqa: PTH208


def has_mark(pid: int, mark: bytes) -> bool:
    """Return whether a process was started with a mark in its environment, and has not ended."""
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def members(folders: Iterable[str]) -> set[int]:
    """Return the processes in control groups; none where a group is gone."""
    found: set[int] = set()
    for folder in folders:
        try:
            found.update(map(int, (Path(folder) / "cgroup.procs").read_text(encoding="ascii").split()))
        except OSError:
            continue
    return found


def descendants(root: int) -> set[int]:
    """Return the processes below one, at any depth, that have not ended."""
    parents = {pid: line[1] for pid, line in _lines() if line[0] not in {b"Z", b"X"}}
    below: set[int] = set()
    fresh = {root}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if int(parent) in fresh and pid not in below}
        below |= fresh
    return below


def _lines() -> Iterator[tuple[int, list[bytes]]]:
    """Yield every process with its state, its parent and the rest of its line in ``/proc``."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are all we want of some hundred entries
        if name.isdigit():
            try:
                yield int(name), Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue


def threads(pids: Iterable[int]) -> list[int]:
    """Return the threads of processes, the first of each among them."""
    found: list[int] = []
    for pid in pids:
        try:
            found.extend(map(int, os.listdir(f"/proc/{pid}/task")))  # noqa: PTH208
        except OSError:
            continue
    return found


def affinity(thread: int) -> frozenset[int]:
    """Return the CPUs that a thread may use; none once it has ended."""
    try:
        return frozenset(os.sched_getaffinity(thread))
    except ProcessLookupError:
        return frozenset()


def set_affinity(thread: int, cpus: Iterable[int]) -> None:
    """Hold a thread, and what it starts, to some CPUs; nothing happens once it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cpus)


def proportional_bytes(pids: Iterable[int]) -> int:
    """Return the memory of processes with shared pages counted once."""
    return sum(map(_proportional, pids))


def _proportional(pid: int) -> int:
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open("rb") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), 0)
    except FileNotFoundError:
        return _resident(pid)
    except OSError:
        return 0


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
