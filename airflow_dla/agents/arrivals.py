"""What is on its way into a job's folder: planned by the follower, taken file by file, put in place whole.

A file is there when it lies under its name, for it gets that only when every byte was
verified; an input is there when its folder was renamed into place. So any number of
processes may bring the same, and each may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from . import trees
from .protocol import ControlFolder, JobError, read_json, write_json

#: ``{"name": for people, "target": below /dla, "key": what tells another content from it, "writable": …, "files": […]}``
Item = Mapping[str, Any]
#: ``{"path", "size", "sha256"}``, ``executable`` where it is, ``get`` where it has a signed address.
Entry = Dict[str, Any]

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Damaged(Exception):
    """Raised when the bytes that came are not those that were planned."""


class Arrivals:
    """The files of one attempt that are on their way.

    Parameters
    ----------
    control : `ControlFolder`
    """

    def __init__(self, control: ControlFolder) -> None:
        self._control = control
        self._folder = control.path / "arriving"

    @property
    def plan(self) -> Optional[Dict[str, Any]]:
        """What is to come: ``{"number": n, "items": {id: `Item`}}``; None before anybody said."""
        return read_json(self._control.path / "plan.json")

    def put_plan(self, items: Mapping[str, Item]) -> None:
        """Say what is to come; the last word counts."""
        number = (self.plan or {}).get("number", 0) + 1
        write_json(self._control.path / "plan.json", {"number": number, "items": items})

    @contextlib.contextmanager
    def only(self) -> Iterator[bool]:
        """Hold the right to bring bytes; False while another has it."""
        descriptor = os.open(str(self._control.path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield _locked(descriptor)
        finally:
            os.close(descriptor)

    def missing(self, item: Item) -> List[Entry]:
        """Return what has not come yet."""
        if self._is_there(item):
            return []
        files = self._of(item) / "files"
        return [entry for entry in item["files"] if not (files / entry["path"]).exists()]

    @property
    def arrived(self) -> int:
        """Bytes of all that is on its way."""
        return sum(size for size, _ in trees.listing(self._folder).values())

    def take(self, item: Item, entry: Entry, pieces: Iterable[bytes]) -> None:
        """Write one file.

        Parameters
        ----------
        item, entry
            Of the plan; the entry may learn its size and hash while the bytes come.
        pieces : iterable of bytes

        Raises
        ------
        Damaged
            If the bytes are not those of the entry.
        JobError
            If there is no room.
        """
        target = self._of(item) / "files" / entry["path"]
        part = self._of(item) / f"part-{os.getpid()}-{threading.get_ident()}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(part, entry, pieces)
            part.chmod((0o644 if item["writable"] else 0o444) | (0o111 if entry.get("executable") else 0))
            part.replace(target)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise JobError(self._no_room(item)) from None
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    def settle(self, item: Item) -> None:
        """Put what is all there in its place, in one step."""
        target = self._control.inside.path / item["target"]
        if self._is_there(item):
            return
        files = self._of(item) / "files"
        files.mkdir(parents=True, exist_ok=True)
        for top, _, _ in os.walk(str(files)):
            Path(top).chmod(0o755)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.rename(target)

    def forget(self) -> None:
        """Remove what is left on the way."""
        trees.remove(self._folder)

    def _of(self, item: Item) -> Path:
        return self._folder / "{}-{}".format(item["target"].replace("/", "-"), item["key"][-16:])

    def _is_there(self, item: Item) -> bool:
        target = self._control.inside.path / item["target"]
        return target.is_dir() and (not item["files"] or any(target.iterdir()))

    def _no_room(self, item: Item) -> str:
        free, wanted = shutil.disk_usage(str(self._control.path)).free, sum(entry["size"] or 0 for entry in item["files"])
        return (
            f"{item['name']}: no space left for its {wanted >> 20} MiB: {free >> 20} MiB are free on the pod's scratch volume; "
            "give the place a larger `scratch`"
        )


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(part: Path, entry: Entry, pieces: Iterable[bytes]) -> None:
    hasher, size = hashlib.sha256(), 0
    with part.open("wb", buffering=0) as file:
        for piece in pieces:
            hasher.update(piece)
            size += len(piece)
            rest = memoryview(piece)
            while rest:
                rest = rest[file.write(rest) :]
    _check(entry, size, hasher.hexdigest())


def _check(entry: Entry, size: int, sha256: str) -> None:
    if size != entry["size"]:
        raise Damaged(f"files/{entry['path']} has {size} bytes, expected {entry['size']}")
    if sha256 != entry["sha256"]:
        raise Damaged(f"files/{entry['path']} has sha256 {sha256}, expected {entry['sha256']}")


def entries_of(plan: Mapping[str, Any], arrivals: Arrivals) -> List[Tuple[Item, Entry]]:
    """Return everything of a plan that has not come yet."""
    return [(item, entry) for item in plan["items"].values() for entry in arrivals.missing(item)]
