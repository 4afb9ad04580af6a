"""How much of a disk a job's files take, watched where no file system limits it.

A look costs a walk through all of them, so it comes a little late; what is written between
two looks is not held back, and what is deleted but still open is not seen.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import AbstractSet, Callable, Collection, Iterator, Optional, Set

_GIB = 2**30
_BLOCK = 512
_LOOK_S = 1.0
#: Walking through many files may not take more than this part of the time.
_SHARE = 0.05


class DiskWatch:
    """Watches that a job's files do not outgrow its grant.

    Parameters
    ----------
    folder : path
    granted : float or None
        GiB; None where nothing is to be watched.
    shown : str
        The folder as the job sees it.
    without : collection of str
        Paths below it of what the job did not write.
    clock : callable
        Returns seconds that only grow.
    """

    def __init__(
        self,
        folder: Path,
        granted: Optional[float],
        shown: str,
        *,
        without: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._without = frozenset(str(folder / path) for path in without)
        self._granted = granted
        self._shown = shown
        self._clock = clock
        self._next_at = float("-inf")

    def look(self) -> str:
        """Return what is wrong and what would do, or an empty string; looks at most once a second."""
        began = self._clock()
        if self._granted is None or began < self._next_at:
            return ""
        limit = self._granted * _GIB
        used = taken(self._folder, self._without, limit)
        ended = self._clock()
        self._next_at = ended + max(_LOOK_S, (ended - began) / _SHARE)
        if used <= limit:
            return ""
        took = f"its files in {self._shown} took {used / _GIB:.3g} GiB and more, {self._granted:.3g} GiB of disk were granted"
        return f"{took}; remove what it needs no more, or ask for more (request disk=)"


def taken(folder: Path, without: AbstractSet[str] = frozenset(), enough: float = float("inf")) -> int:
    """Return the bytes that what a job wrote takes on its disk, a file with several names once.

    Parameters
    ----------
    folder : path
        Of the job, who may change or remove it meanwhile.
    without : set of str
        Files and folders to pass over.
    enough : float
        Bytes after which it does not matter how many more there are.
    """
    seen: Set[int] = set()
    total = 0
    for line in _lines(str(folder), without):
        if line.st_nlink > 1:
            if line.st_ino in seen:
                continue
            seen.add(line.st_ino)
        total += line.st_blocks * _BLOCK
        if total > enough:
            break
    return total


def _lines(top: str, without: AbstractSet[str]) -> Iterator[os.stat_result]:
    """Yield what is known of each file, without following a link or leaving the disk."""
    disk: Optional[int] = None
    with contextlib.suppress(FileNotFoundError):
        for path, folders, files, where in os.fwalk(top):
            here = os.fstat(where).st_dev
            disk = here if disk is None else disk
            folders[:] = [name for name in folders if here == disk and f"{path}/{name}" not in without]
            for name in files if here == disk else ():
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                    if f"{path}/{name}" not in without:
                        yield os.stat(name, dir_fd=where, follow_symlinks=False)
