"""A store in a folder: written aside, made durable, renamed into place.

The rename is the publication, so a killed writer leaves a hidden folder and nothing else.
Published files are read-only (0444, their folders 0555): a job that opens a link to one
for writing is refused, and one that runs as root and writes anyway is found out by the
next reader, who hashes.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Final

from airflow_dla.artifacts.backend import Seal, artifact_key, checked, is_artifact
from airflow_dla.artifacts.manifest import FileEntry, Manifest
from airflow_dla.artifacts.streams import Measured, copy, measure
from airflow_dla.artifacts.tree import SourceFile
from airflow_dla.errors import StoreUnavailable

#: Waiting for the disk needs threads, not cores: journals commit many flushes at once.
_FLUSHERS: Final = 8

#: Turns of "somebody was faster, and then their copy was gone" before we give up.
_COMMIT_TURNS: Final = 10

_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}


class FolderBackend:
    """A `Backend` in a local folder, or one that is mounted like one.

    Parameters
    ----------
    root : Path
        Absolute; made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, key: str) -> Path | None:
        """Return the local folder of a key."""
        return self._root / key

    def put(self, files: Sequence[SourceFile], seal: Seal) -> Manifest:
        """Copy and hash in one pass into a hidden folder, flush it, rename it."""
        with self._staged() as staging:
            manifest = seal([_take(file, staging / "files") for file in files])
            self._publish(staging, manifest)
        return manifest

    def receive(self, manifest: Manifest, arriving: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        """Write what comes into a hidden folder, flush it, rename it."""
        left = {entry.path: entry for entry in manifest.files}
        with self._staged() as staging:
            for path, pieces in arriving:
                _write(left.pop(path), pieces, staging / "files")
            if left:
                raise StoreUnavailable(f"cannot publish {manifest.digest}: {len(left)} of its files did not come, among them {min(left)}")
            self._publish(staging, manifest)

    def refresh(self, manifest: Manifest) -> bool:
        """Hash an artifact that is there, and make it young again."""
        return _refreshed(self._root / artifact_key(manifest.digest), manifest)

    def sign(self, key: str, *, write: bool, expires_s: int) -> dict[str, Any] | None:
        """Return None: a folder has no addresses."""
        del key, write, expires_s
        return None

    def open(self, key: str) -> BinaryIO:
        """Open for reading."""
        return (self._root / key).open("rb", buffering=0)

    def read(self, key: str) -> bytes:
        """Return all bytes of a small file."""
        return (self._root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        """Write a small file aside, flush it, rename it."""
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = target.with_name(f".tmp-{uuid.uuid4().hex}")
        try:
            _create(staging, data)
            _flush(staging)
            staging.rename(target)
            _flush(target.parent)
        finally:
            staging.unlink(missing_ok=True)

    def deliver(self, key: str, target: Path, *, executable: bool) -> Measured:
        """Hash a file of the store and make `target` a link to it."""
        del executable  # the file in the store has the mode already
        with self.open(key) as source:
            measured = measure(source)
        target.symlink_to(self._root / key)
        return measured

    def names(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix; hidden ones belong to writers."""
        try:
            return sorted(path.name for path in (self._root / prefix).iterdir() if not path.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Return the bytes of every file below a prefix."""
        top = self._root / prefix
        sizes: dict[str, int] = {}
        for path in (Path(folder, name) for folder, _, files in os.walk(top) for name in files):
            with contextlib.suppress(FileNotFoundError):
                sizes[str(path.relative_to(top))] = path.lstat().st_size
        return sizes

    def modified(self, key: str) -> float:
        """Return when a file was last written."""
        return (self._root / key).stat().st_mtime

    def clock(self) -> float:
        """Return the file system's time: on a network share it is not this machine's."""
        probe = self._root / f".probe-{uuid.uuid4().hex}"
        self._root.mkdir(parents=True, exist_ok=True)
        try:
            _create(probe, b"")
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def delete(self, prefix: str) -> None:
        """Delete a file, or move a folder aside and delete it: never seen half deleted."""
        path = self._root / prefix
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                _remove(self._aside(path))
            else:
                path.unlink()

    def published(self) -> Iterator[tuple[str, float]]:
        """Return digest and time of publication of every artifact."""
        for name in self._homes():
            digest = f"sha256:{name}"
            with contextlib.suppress(FileNotFoundError):
                yield digest, self.modified(f"{artifact_key(digest)}/manifest.json")

    def unpublish(self, digest: str, *, before: float) -> bool:
        """Move an artifact aside, look again whether somebody published it meanwhile, delete it."""
        home = self._root / artifact_key(digest)
        if _touched(home / "manifest.json") >= before:
            return False
        try:
            aside = self._aside(home)
        except FileNotFoundError:
            return True
        if _touched(aside / "manifest.json") >= before and _renamed(aside, home):
            return False
        _remove(aside)
        return not home.exists()

    def leftovers(self, *, before: float) -> Iterator[str]:
        """Return hidden folders, probes and artifacts without a manifest."""
        hidden = [*self._root.glob(".probe-*"), *self._root.glob("artifacts/.*")]
        headless = [home for home in map(self._home, self._homes()) if not (home / "manifest.json").exists()]
        for path in [*hidden, *headless]:
            if _newest(path) < before:
                yield str(path.relative_to(self._root))

    @contextlib.contextmanager
    def _staged(self) -> Iterator[Path]:
        staging = self._hidden("tmp")
        try:
            yield staging
        finally:
            _remove(staging)

    def _publish(self, staging: Path, manifest: Manifest) -> None:
        _create(staging / "manifest.json", manifest.to_bytes())
        _settle(staging)
        self._commit(staging, manifest)

    def _homes(self) -> Iterator[str]:
        for shelf in self.names("artifacts"):
            yield from (name for name in self.names(f"artifacts/{shelf}") if is_artifact(shelf, name))

    def _home(self, name: str) -> Path:
        return self._root / artifact_key(name)

    def _hidden(self, purpose: str) -> Path:
        folder = self._root / "artifacts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f".{purpose}-{uuid.uuid4().hex}"

    def _aside(self, folder: Path) -> Path:
        return folder.rename(self._hidden("trash"))

    def _commit(self, staging: Path, manifest: Manifest) -> None:
        home = self._root / artifact_key(manifest.digest)
        home.parent.mkdir(exist_ok=True)
        for _ in range(_COMMIT_TURNS):
            if _renamed(staging, home):
                _flush(home.parent)
                _flush(home.parent.parent)
                return
            if _refreshed(home, manifest):
                return
            with contextlib.suppress(FileNotFoundError):
                _remove(self._aside(home))
        raise StoreUnavailable(f"cannot publish {home}: other writers replaced it {_COMMIT_TURNS} times meanwhile; try again")


def _take(file: SourceFile, folder: Path) -> FileEntry:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open() as source, _new(target, executable=file.executable) as written:
        measured = copy(source, written)
    return FileEntry(path=file.path, size=measured.size, sha256=measured.sha256, executable=file.executable)


def _write(entry: FileEntry, pieces: Iterable[bytes], folder: Path) -> None:
    target = folder / entry.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with _new(target, executable=entry.executable) as written:
        for piece in checked(entry, pieces):
            written.write(piece)


def _new(path: Path, *, executable: bool = False) -> BinaryIO:
    """Open a file that does not exist yet; read-only for everybody but this descriptor."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o555 if executable else 0o444), "wb", buffering=0)


def _create(path: Path, data: bytes) -> None:
    with _new(path) as written:
        written.write(data)


def _settle(staging: Path) -> None:
    """Make a folder durable, leaves before branches, and what will be ``files/`` read-only."""
    below = list(_below(staging))
    folders = [path for path in below if path.is_dir()]
    with ThreadPoolExecutor(_FLUSHERS) as pool:
        list(pool.map(_flush, set(below) - set(folders)))
    for folder in reversed(folders):
        if folder != staging:  # a folder that is moved must be writable: its '..' changes
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~0o222)
        _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _renamed(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in _OCCUPIED:
            return False
        raise
    return True


def _refreshed(home: Path, manifest: Manifest) -> bool:
    """Make an artifact young again, so that no collection takes it, and return whether it is whole."""
    try:
        os.utime(home / "manifest.json")
        return (home / "manifest.json").read_bytes() == manifest.to_bytes() and all(_whole(home, entry) for entry in manifest.files)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


def _whole(home: Path, entry: FileEntry) -> bool:
    with (home / "files" / entry.path).open("rb", buffering=0) as source:
        return measure(source) == Measured(entry.size, entry.sha256)


def _below(top: Path) -> Iterator[Path]:
    """Return a folder and everything below it, folders before what they hold."""
    for folder, _, files in os.walk(top):
        yield Path(folder)
        yield from (Path(folder, name) for name in files)


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _newest(path: Path) -> float:
    """Return when anything below was last written or the top last moved; what vanishes meanwhile has an owner who lives."""
    try:
        return max([path.lstat().st_ctime, *(found.lstat().st_mtime for found in _below(path))])
    except FileNotFoundError:
        return math.inf


def _remove(path: Path) -> None:
    """Delete a folder of ours; what cannot be deleted now is a leftover for the next collection."""
    for found in _below(path):
        with contextlib.suppress(OSError):
            if found.is_dir() and not found.is_symlink():
                found.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
