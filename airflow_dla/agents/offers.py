"""What is offered to the store: a folder's files by path, size and hash, by the rules of ``airflow_dla.artifacts``.

They are written again here because this package imports nothing of the other; one test
holds both together.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from .frames import PIECE
from .protocol import JobError, JobFolder

_KINDS = ("model", "report", "dataset", "code")
_DATASETS = ("train", "test", "validation", "data", "predictions")

#: A file of a manifest: ``path``, ``size``, ``sha256``, and ``executable`` where it is.
Entry = Dict[str, Any]


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
