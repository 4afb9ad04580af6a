"""Processes of attempts on this host: told apart for ever, signalled without mistakes."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterable
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
