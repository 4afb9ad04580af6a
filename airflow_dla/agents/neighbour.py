"""The job's own container, as the helper beside it sees it where a pod's containers share their processes.

A job's first process has its attempt's id in its environment; all of its container are in
the same control group. The helper is in another, and shares no file of the kernel's with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Set

from . import processes
from .usage import Groups, own_groups

_PROC = Path("/proc")


class Neighbour:
    """The container of one attempt, beside ours.

    Parameters
    ----------
    attempt : str
    proc : path
        Where processes are seen.
    """

    def __init__(self, attempt: str, proc: Path = _PROC) -> None:
        self._mark = f"DLA_ATTEMPT={attempt}".encode()
        self._proc = proc

    def members(self) -> Set[int]:
        """Return its processes; none where it does not run, or its processes are its own."""
        pids = [int(path.name) for path in self._proc.iterdir() if path.name.isdigit()]
        marked = [self._group(pid) for pid in pids if self._mark in self._read(pid, "environ").split(b"\0")]
        return {pid for pid in pids if self._group(pid) in marked} if marked else set()

    def groups(self) -> Optional[Groups]:
        """Return its control groups, as it sees them itself; None while there is no process of it, none where we may not look."""
        started = {pid: line.start_ticks for pid in self.members() for line in [processes.stat(pid)] if line is not None}
        if not started:
            return None
        try:
            # As long as its first process lives, it does.
            return own_groups(self._proc / str(min(started, key=started.__getitem__)) / "root" / "sys" / "fs" / "cgroup")
        except OSError:
            return {}

    def kill(self) -> bool:
        """Kill all of it; return whether nothing is left."""
        return processes.kill_all(self.members, lambda: None)

    def _group(self, pid: int) -> bytes:
        return self._read(pid, "cgroup")

    def _read(self, pid: int, name: str) -> bytes:
        """Read what the kernel tells of a process: nothing of one that has gone, or is not ours to look at."""
        try:
            return (self._proc / str(pid) / name).read_bytes()
        except OSError:
            return b""
