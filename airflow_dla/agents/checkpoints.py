"""Checkpoints on their way from the job's folder to the store, and when they go."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from . import trees
from .protocol import JobFolder

_LOOK_S = 1.0
_QUIET_S = 0.3
_QUIET_AT_DEATH_S = 0.1

#: Tells what is in a folder: path to size and time of the last change (ns).
Listed = Callable[[Path], Dict[str, Tuple[int, int]]]
#: Copies a folder.
Copy = Callable[[Path, Path], None]


class CheckpointSaver:
    """Saves the newest checkpoint of a job soon after it was written.

    One saved whole by ``job.checkpoint.save`` at once; without any, the plain folder
    when it has been quiet for a moment, since its files may be half-written before.

    Parameters
    ----------
    folder : `JobFolder`
    save : callable
        Keeps a folder in the store.
    apart : path, optional
        Where all is taken before it is saved, out of reach of a program whose links are
        not to be followed; None where the program may read no less than we.
    resumed : bool
        Another saver was here before and may not have saved what lies there.
    """

    def __init__(self, folder: JobFolder, save: Callable[[Path], None], *, apart: Optional[Path] = None, resumed: bool = False) -> None:
        self._folder = folder
        self._keep = save
        self._apart = apart
        self._listing, self._copy = (listing, _copy_followed) if apart is None else (trees.listing, _copy_apart)
        self._saved_version = 0
        self._saved_listing = {} if resumed else self._listing(folder.checkpoint)
        self._looked_at = 0.0
        self._thread: Optional[threading.Thread] = None

    def look(self) -> None:
        """Save what is new, in a thread; at most one at a time, at most once a second."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_S or (self._thread is not None and self._thread.is_alive()):
            return
        self._looked_at = now
        if self._is_new():
            self._thread = threading.Thread(target=self._save_quietly, args=(_QUIET_S,), daemon=True)
            self._thread.start()

    def finish(self, *, hard: bool) -> None:
        """Save what is new after the work's end; a killed work's plain folder only if it was quiet before."""
        if self._thread is not None:
            self._thread.join()
        if self._is_new():
            self._save_quietly(_QUIET_AT_DEATH_S if hard else 0.0)

    def _is_new(self) -> bool:
        versions = self._versions()
        if versions:
            return versions[-1] > self._saved_version
        now = self._listing(self._folder.checkpoint)
        return bool(now) and now != self._saved_listing

    def _save_quietly(self, quiet_s: float) -> None:
        """Save; a store that is out of reach must not end a job that runs well."""
        try:
            self._save(quiet_s)
        except Exception as error:  # noqa: BLE001 - told in keeper.log, tried again at the next look
            print(f"checkpoint not saved: {error}", flush=True)  # noqa: T201

    def _save(self, quiet_s: float) -> None:
        versions = self._versions()
        if versions:
            self._keep(self._taken(str(versions[-1])))
            self._saved_version = versions[-1]
            return
        aside = self._apart or Path(self._folder.path) / ".checkpoint"
        copied = quiet_copy(self._folder.checkpoint, aside, quiet_s, listed=self._listing, copy=self._copy)
        if copied is not None:
            self._keep(aside)
            self._saved_listing = copied

    def _versions(self) -> List[int]:
        if self._apart is None:
            return complete_versions(self._folder.versions)
        return _numbers(trees.names(self._folder.versions))

    def _taken(self, version: str) -> Path:
        """Return where the files of a whole checkpoint cannot become others any more."""
        if self._apart is None:
            return self._folder.versions / version
        trees.remove(self._apart)
        trees.copy(self._folder.path, (self._folder.versions.name, version), self._apart, link=True)
        return self._apart


def complete_versions(folder: Path) -> List[int]:
    """Return the numbers of the checkpoints that were saved whole, oldest first."""
    if not folder.is_dir():
        return []
    return _numbers(path.name for path in folder.iterdir())


def _numbers(names: Iterable[str]) -> List[int]:
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def quiet_copy(
    source: Path, target: Path, quiet_s: float, *, listed: Optional[Listed] = None, copy: Optional[Copy] = None
) -> Optional[Dict[str, Tuple[int, int]]]:
    """Copy a folder that a program writes, if nothing in it changed for a while, nor while it was copied.

    Parameters
    ----------
    source, target : path
    quiet_s : float
    listed, copy : callable, optional
        How it is read; by default links are followed.

    Returns
    -------
    dict or None
        What was copied, path to size and time; None when it is in motion or empty.
    """
    listed, copy = listed or listing, copy or _copy_followed
    before = listed(source)
    if not before or time.time() - max(entry[1] for entry in before.values()) / 1e9 < quiet_s:
        return None
    trees.remove(target)
    try:
        copy(source, target)
    except (OSError, shutil.Error):
        return None
    return before if listed(source) == before else None


def _copy_followed(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def _copy_apart(source: Path, target: Path) -> None:
    trees.copy(source, (), target)


def listing(folder: Path) -> Dict[str, Tuple[int, int]]:
    """Return the size and the time of the last change (ns) of every file below a folder."""
    found: Dict[str, Any] = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = Path(top, name)
            try:
                line = path.stat()
            except OSError:
                continue  # gone while we looked: a program renames its finished file
            found[str(path.relative_to(folder))] = (line.st_size, line.st_mtime_ns)
    return found
