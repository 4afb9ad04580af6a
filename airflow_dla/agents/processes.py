"""Processes by their number, told apart from later ones that got the same number."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, NamedTuple, Set

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Finds the processes that must end.
Find = Callable[[], Set[int]]


class Stat(NamedTuple):
    """A line of ``/proc/PID/stat``."""

    state: str
    parent: int
    session: int
    start_ticks: int
    rss_bytes: int


def boot_id() -> str:
    """Return what names this boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def stat(pid: int) -> Stat | None:
    """Read a process's line; None when there is no such process."""
    try:
        with Path(f"/proc/{pid}/stat").open("rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]), int(fields[21]) * _PAGE)


def everybody() -> dict[int, Stat]:
    """Read the line of every process there is."""
    found: Dict[int, Stat] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are all we want of some hundred entries
        line = stat(int(name)) if name.isdigit() else None
        if line is not None:
            found[int(name)] = line
    return found


def descendants(root: int) -> dict[int, Stat]:
    """Return the living processes below one, at any depth; zombies hold nothing and do not count."""
    known = everybody()
    below: Dict[int, Stat] = {}
    fresh: Set[int] = {root}
    while fresh:
        fresh = {pid for pid, line in known.items() if line.parent in fresh and pid not in below}
        below.update({pid: known[pid] for pid in fresh})
    return {pid: line for pid, line in below.items() if line.state not in "ZX"}


def proportional_bytes(pids: Iterable[int]) -> int:
    """Return the memory of processes with shared pages counted once."""
    return sum(map(_proportional, pids))


def _proportional(pid: int) -> int:
    try:
        with Path(f"/proc/{pid}/smaps_rollup").open("rb") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), 0)
    except OSError:
        return 0


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, however it detached itself."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """End by SIGKILL when the parent ends, also when it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(137)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) was refused")


def kill_all(find: Find, reap: Callable[[], None], *, patience_s: float = 5.0) -> bool:
    """Kill what `find` finds until it finds nothing; return whether that was reached."""
    deadline = time.monotonic() + patience_s
    while True:
        found = find()
        if not found:
            return True
        for pid in found:
            send(pid, signal.SIGKILL)
        reap()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def send_group(group: int, number: int) -> None:
    """Send a signal to a process group that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
