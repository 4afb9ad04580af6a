"""The folder that is published: which files it holds, and what may not be among them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from airflow_dla.artifacts.manifest import inner_path
from airflow_dla.errors import InvalidSpec, NotFound


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A regular file below the folder that is published.

    Parameters
    ----------
    path : str
        Relative, ``/`` between names.
    file : Path
        Where its bytes are.
    executable : bool
    """

    path: str
    file: Path
    executable: bool

    def open(self) -> BinaryIO:
        """Open it for reading, unbuffered.

        Raises
        ------
        InvalidSpec
            If it cannot be read; says why.
        """
        try:
            return self.file.open("rb", buffering=0)
        except OSError as error:
            raise InvalidSpec(f"cannot publish {self.file}: {error.strerror}; the job must leave files that it can read") from error


def scan(folder: Path) -> tuple[SourceFile, ...]:
    """Return the files below a folder, sorted by path; empty folders are left out.

    A symbolic link to a file inside the folder (``last.ckpt -> step9.ckpt``) stands for
    that file; every other link is refused.

    Raises
    ------
    NotFound
        If there is no such folder.
    InvalidSpec
        If it is no folder, holds no file, or holds what cannot be published.
    """
    if not folder.exists():
        raise NotFound(f"cannot publish {folder}: there is no such folder; the job must write its files there")
    if not folder.is_dir():
        raise InvalidSpec(f"cannot publish {folder}: it is a file, and an artifact is a folder; put the file into one")
    found = tuple(sorted(_walk(folder), key=lambda file: file.path))
    if not found:
        raise InvalidSpec(f"cannot publish {folder}: it holds no file; the job must write at least one there")
    return found


def _walk(folder: Path) -> Iterator[SourceFile]:
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        for entry in _entries(folder / prefix):
            path = inner_path(prefix + entry.name, f"file in {folder}")
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{path}/")
            else:
                yield _regular(entry, path, folder)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InvalidSpec(f"cannot publish {folder}: {error.strerror}; the job must leave folders that it can read") from error


def _regular(entry: os.DirEntry[str], path: str, folder: Path) -> SourceFile:
    file = _followed(Path(entry.path), folder) if entry.is_symlink() else Path(entry.path)
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode):
        raise InvalidSpec(f"cannot publish {entry.path}: it is no regular file; remove sockets, pipes and devices from the output")
    return SourceFile(path, file, bool(mode & stat.S_IXUSR))


def _followed(link: Path, folder: Path) -> Path:
    target = Path(os.path.realpath(link))
    if not (target.is_relative_to(folder.resolve()) and target.is_file()):
        raise InvalidSpec(
            f"cannot publish {link}: it is a symbolic link to {str(link.readlink())!r}, which is no file inside the published folder; "
            "copy what it points at"
        )
    return target
