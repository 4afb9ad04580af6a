"""What is offered to the store: a folder's files by path, size and hash, by the rules of ``airflow_dla.artifacts``.

They are written again here because this package imports nothing of the other; one test
holds both together.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from .frames import PIECE
from .protocol import ControlFolder, JobError, JobFolder, read_json, write_json

_KINDS = ("model", "report", "dataset", "code")
_DATASETS = ("train", "test", "validation", "data", "predictions")

#: A file of a manifest: ``path``, ``size``, ``sha256``, and ``executable`` where it is.
Entry = Dict[str, Any]


class Offer:
    """What is offered to the store, and what the follower answers; of each kind one at a time.

    An offer is ``{"number": n, "items": {name: {"kind", "folder", "files"}}}``. An answer to it
    says of each item ``{"put": {path: address}}`` first, where there are any, ``{"reference": …}``
    when it is published, or ``{"error": [reason, message]}``.

    Parameters
    ----------
    control : `ControlFolder`
    what : {"outputs", "checkpoint"}

    Attributes
    ----------
    number : int
        Of the last offer, 0 before any.
    """

    def __init__(self, control: ControlFolder, what: str) -> None:
        self.what = what
        self._offer = control.path / f"offer-{what}.json"
        self._answer = control.path / f"answer-{what}.json"
        self._seen = 0
        self.number = int(self._read()["number"])

    @property
    def items(self) -> Dict[str, Any]:
        """What is offered; nothing while nothing is."""
        found: Dict[str, Any] = self._read()["items"]
        return found

    def news(self) -> Optional[Dict[str, Any]]:
        """Return what has been answered to this very offer since the last look."""
        try:
            stamp = self._answer.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        found = read_json(self._answer) if stamp != self._seen else None
        self._seen = stamp
        return found["items"] if found is not None and found["number"] == self.number else None

    def make(self, items: Mapping[str, Any]) -> None:
        """Offer; what was offered before is void."""
        self.number += 1
        write_json(self._offer, {"number": self.number, "items": items})

    def reply(self, number: int, items: Mapping[str, Any]) -> bool:
        """Answer; return whether that offer still stands."""
        found = self._read()
        if number != found["number"] or not found["items"]:
            return False
        write_json(self._answer, {"number": number, "items": items})
        return True

    def close(self) -> None:
        """Offer nothing; the number stays, so that no late answer is taken for another's."""
        write_json(self._offer, {"number": self.number, "items": {}})

    def _read(self) -> Dict[str, Any]:
        return read_json(self._offer) or {"number": 0, "items": {}}


def kind_of(output: str) -> str:
    """Return an output's kind from its name.

    Examples
    --------
    >>> kind_of("model"), kind_of("train"), kind_of("figures")
    ('model', 'dataset', 'artifact')
    """
    if output in _KINDS:
        return output
    return "dataset" if output in _DATASETS else "artifact"


def settle(folder: JobFolder, name: str) -> None:
    """Make an output the folder of what was written; a script may have put one file in its place."""
    path = folder.output(name)
    aside = path.with_name(f".{name}.file")
    if path.is_file():
        path.rename(aside)
    if aside.exists():  # also when we were killed here before
        path.mkdir(exist_ok=True)
        aside.rename(path / name)


def measured(folder: Path) -> List[Entry]:
    """Return the files below a folder, sorted by path; empty folders are left out.

    Raises
    ------
    JobError
        If it holds no file, or what cannot be published.
    """
    try:
        found = [_measured(path, file) for path, file in sorted(_files(folder, ""))]
    except OSError as error:
        raise JobError(f"cannot publish {error.filename or folder}: {error.strerror}; the job must leave files that it can read") from error
    if not found:
        raise JobError(f"cannot publish {folder}: it holds no file; the job must write at least one there")
    return found


def source(folder: Path, path: str) -> Path:
    """Return where the bytes of a file of `measured` are: a link stands for the file that it leads to.

    Raises
    ------
    JobError
        If it is no regular file inside the folder.
    """
    file = folder / path
    found = Path(os.path.realpath(str(file)))
    top = Path(os.path.realpath(str(folder)))
    if file.is_symlink() and not (top in found.parents and found.is_file()):
        raise JobError(
            f"cannot publish {file}: it is a symbolic link to {os.readlink(str(file))!r}, which is no file inside the published folder; "  # noqa: PTH115
            "copy what it points at"
        )
    if not stat.S_ISREG(found.stat().st_mode):
        raise JobError(f"cannot publish {file}: it is no regular file; remove sockets, pipes and devices from the output")
    return found


def _files(folder: Path, prefix: str) -> Iterator[Tuple[str, Path]]:
    with os.scandir(str(folder / prefix)) as entries:
        found = list(entries)
    for entry in found:
        path = prefix + entry.name
        try:
            path.encode()
        except UnicodeEncodeError:
            raise JobError(f"file in {folder}: a file's name must be UTF-8, got {path!r}; rename the file") from None
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder, f"{path}/")
        else:
            yield path, source(folder, path)


def _measured(path: str, file: Path) -> Entry:
    hasher, size = hashlib.sha256(), 0
    with file.open("rb", buffering=0) as stream:
        executable = bool(os.fstat(stream.fileno()).st_mode & stat.S_IXUSR)
        while True:
            piece = stream.read(PIECE)
            if not piece:
                break
            hasher.update(piece)
            size += len(piece)
    found: Entry = {"path": path, "size": size, "sha256": hasher.hexdigest()}
    return {**found, "executable": True} if executable else found
