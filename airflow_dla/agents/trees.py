"""Trees that a program writes while we read them: no link is followed, however quickly it was put there.

Whoever reads a container's files may be root and the program is not: a link in a checkpoint
must not make us read, list or change what lies elsewhere. Folders are therefore opened one
name at a time, each from its parent's descriptor, and a link is taken as what it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

from .protocol import JobError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEEPEST = 100
_CHUNK = 1 << 20

#: Path below the top, what it is, descriptor of its folder.
Entry = Tuple[str, os.stat_result, int]


def entries(top: Path, below: Sequence[str] = ()) -> Iterator[Entry]:
    """Yield everything below a folder, folders before what they hold.

    Parameters
    ----------
    top : path
        A folder whose parents nobody else can change.
    below : sequence of str
        Folders on the way down from there that others may have replaced by links.

    Raises
    ------
    OSError
        If one of them is no folder, or the tree is deeper than any program needs.
    """
    descriptor = os.open(str(top), _FOLDER)
    for name in below:
        try:
            inner = os.open(name, _FOLDER, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    yield from _below(descriptor, "", 0)


def names(folder: Path) -> List[str]:
    """Return what lies directly in a folder, nothing where there is none."""
    try:
        descriptor = os.open(str(folder), _FOLDER)
    except OSError:
        return []
    try:
        return os.listdir(descriptor)  # noqa: PTH208 - a descriptor has no path
    finally:
        os.close(descriptor)


def _below(descriptor: int, prefix: str, depth: int) -> Iterator[Entry]:
    try:
        if depth > _DEEPEST:
            raise OSError(errno.ELOOP, f"folders lie more than {_DEEPEST} deep", prefix)
        for name in os.listdir(descriptor):
            with contextlib.suppress(FileNotFoundError):  # a program renames its finished file while we look
                line = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                inner = os.open(name, _FOLDER, dir_fd=descriptor) if stat.S_ISDIR(line.st_mode) else None
                yield prefix + name, line, descriptor
                if inner is not None:
                    yield from _below(inner, f"{prefix}{name}/", depth + 1)
    finally:
        os.close(descriptor)


def listing(folder: Path) -> Dict[str, Tuple[int, int]]:
    """Return the size and the time of the last change (ns) of every file and link below a folder."""
    found: Dict[str, Tuple[int, int]] = {}
    with contextlib.suppress(OSError):
        for path, line, _ in entries(folder):
            if not stat.S_ISDIR(line.st_mode):
                found[path] = (line.st_size, line.st_mtime_ns)
    return found


def copy(top: Path, below: Sequence[str], target: Path, *, link: bool = False) -> None:
    """Copy a tree; links are copied as links, except those to other folders in it.

    Parameters
    ----------
    top, below
        See `entries`.
    target : path
        Does not exist; nobody else can write there.
    link : bool
        Files that are finished may be shared instead of copied, where that is possible.

    Raises
    ------
    OSError
        If it cannot be read, or changed into something else meanwhile.
    JobError
        If it holds sockets, pipes or devices.
    """
    target.mkdir(mode=0o700)
    for path, line, folder in entries(top, below):
        into = target / path
        if stat.S_ISDIR(line.st_mode):
            into.mkdir(mode=0o700)
        elif stat.S_ISLNK(line.st_mode):
            into.symlink_to(os.readlink(into.name, dir_fd=folder))
        elif not (link and _linked(folder, into)):
            _copy_file(folder, into)

    _settle(target)


def _settle(target: Path) -> None:
    """Put copies in the place of links to folders of the same tree (``last -> step9``), which nobody can publish."""
    top = target.resolve()
    for link in [Path(path, name) for path, names, _ in os.walk(target) for name in names if Path(path, name).is_symlink()]:
        folder = link.resolve()
        if top in folder.parents and folder not in link.absolute().parents:
            link.unlink()
            shutil.copytree(str(folder), str(link), symlinks=True)


def _linked(folder: int, into: Path) -> bool:
    try:
        os.link(into.name, str(into), src_dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False  # another file system, or files of another user
    if stat.S_ISREG(into.lstat().st_mode):
        return True
    into.unlink()
    return False


def _copy_file(folder: int, into: Path) -> None:
    with open(os.open(into.name, _FILE, dir_fd=folder), "rb") as source:  # noqa: PTH123 - a descriptor has no path
        mode = os.fstat(source.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise JobError(f"{into.name} is no regular file; remove sockets, pipes and devices from what is to be kept")
        with into.open("xb") as written:
            shutil.copyfileobj(source, written, _CHUNK)
    into.chmod(stat.S_IMODE(mode) & 0o777 | stat.S_IRUSR)


def relink(top: Path, shown: str) -> None:
    """Make links to files of a folder relative where they name it by the path at which a container sees it."""
    for path, line, folder in entries(top):
        name, levels = path.rpartition("/")[2], path.count("/")
        target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(line.st_mode) else ""
        if target.startswith(f"{shown}/"):
            os.unlink(name, dir_fd=folder)
            os.symlink("../" * levels + target[len(shown) + 1 :], name, dir_fd=folder)


def give(top: Path, owner: Tuple[int, int]) -> None:
    """Make a user and group the owners of a folder and of all below; links stay where they point."""
    os.chown(str(top), *owner, follow_symlinks=False)
    if top.is_dir() and not top.is_symlink():
        for path, _, folder in entries(top):
            os.chown(path.rpartition("/")[2], *owner, dir_fd=folder, follow_symlinks=False)


def remove(path: Path) -> None:
    """Remove a folder and all below; of a link only the link."""
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(str(path), ignore_errors=True)
