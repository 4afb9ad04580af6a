"""How much a container uses, read from its control group: on its host, or inside it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable, Dict, Optional, Set

from . import limits

_ROOT = Path("/sys/fs/cgroup")
_GIB = 2**30
_DEEPEST = 8
_LOOK_S = 0.2
_LONGEST_PAUSE_S = 60.0


#: Control groups of one container, by what they tell: ``memory`` and ``cpu``.
Groups = Dict[str, Path]


class Usage:
    """The most memory that a container held and the CPU time it took, as far as can be told here.

    Parameters
    ----------
    find : callable
        Returns its control groups, none where they are not to be found; None while there is no container.
    clock : callable
        Returns seconds that only grow.
    """

    def __init__(self, find: Callable[[], Optional[Groups]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._search = find
        self._clock = clock
        self._groups: Groups = {}
        self._pause_s = _LOOK_S
        self._next_at = -1.0
        self._peaks: Dict[str, float] = {}

    @property
    def peaks(self) -> Dict[str, float]:
        """``memory`` in GiB and ``cpu_s``; what could not be read is left out."""
        return dict(self._peaks)

    def members(self) -> Set[int]:
        """Return the container's processes as this host numbers them, none before its group was found."""
        folders = {str(parent) for top in self._groups.values() for parent in (top, *(path for path in top.rglob("*") if path.is_dir()))}
        return limits.members(sorted(folders))

    def look(self) -> None:
        """Look, at most five times a second; the container's group is searched for ever more seldom."""
        now = self._clock()
        if now < self._next_at:
            return
        if not self._groups:
            self._find()
        self._next_at = now + self._pause_s
        if self._groups:
            self._sample()

    def _find(self) -> None:
        found = self._search()
        if found is None:
            return
        self._groups = found
        # The engine may be on another host, where nothing is to be found here.
        self._pause_s = _LOOK_S if found else min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _sample(self) -> None:
        """Remember the most; the page cache, which can be given back, does not count."""
        held = limits.memory_held([str(self._groups["memory"])]) if "memory" in self._groups else 0
        spent = cpu_seconds(self._groups["cpu"]) if "cpu" in self._groups else 0.0
        if held:
            self._peaks["memory"] = max(self._peaks.get("memory", 0.0), round(held / _GIB, 6))
        if spent:
            self._peaks["cpu_s"] = max(self._peaks.get("cpu_s", 0.0), round(spent, 3))


def own_groups(root: Path = _ROOT) -> Groups:
    """Return the control groups of the container that this process is in, which its runtime shows it as if they were the topmost."""
    return {"memory": root / "memory", "cpu": root / "cpuacct"} if (root / "memory").is_dir() else {"memory": root, "cpu": root}


def container_groups(container: str, root: Path = _ROOT) -> Groups:
    """Return the control groups of a container of this host, none where it is not here."""
    found = {what: _find(top, container) for what, top in own_groups(root).items()}
    return {what: folder for what, folder in found.items() if folder is not None}


def _find(top: Path, container: str) -> Optional[Path]:
    """Find a folder named after a container: ``docker/ID``, ``docker-ID.scope``, wherever its engine lives."""
    depth = len(top.parts)
    for folder, names, _ in os.walk(top):
        hit = next((name for name in names if container in name), None)
        if hit is not None:
            return Path(folder, hit)
        if len(Path(folder).parts) - depth >= _DEEPEST:
            names.clear()
    return None


def cpu_seconds(group: Path) -> float:
    """Return the CPU time that a control group took, in seconds, 0 when it cannot be read."""
    try:
        if (group / "cpuacct.usage").exists():
            return int((group / "cpuacct.usage").read_text(encoding="ascii")) / 1e9
        words = (group / "cpu.stat").read_text(encoding="ascii").split()
        return int(words[words.index("usage_usec") + 1]) / 1e6
    except (OSError, ValueError):
        return 0.0
