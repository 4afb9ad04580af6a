"""A store in an object store, or anything else that fsspec opens: files first, manifest last.

There is no rename here, so an artifact is published by its manifest and unpublished by
taking that away first. An interrupted writer leaves files that no manifest names.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from airflow_dla.artifacts.backend import Seal, artifact_key, checked, file_key, is_artifact, manifest_key
from airflow_dla.artifacts.infos import modified_at
from airflow_dla.artifacts.manifest import FileEntry, Manifest, same_files
from airflow_dla.artifacts.signed import sign
from airflow_dla.artifacts.streams import Measured, copy, measure
from airflow_dla.artifacts.tree import SourceFile
from airflow_dla.errors import InvalidSpec, StoreUnavailable

#: Seconds that files without a manifest are left alone: nothing shows how far a writer is with a large one.
_UPLOAD_S: Final = 86_400.0


class ObjectBackend:
    """A `Backend` on an fsspec file system.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
    root : str
        Where the store lies in it, without protocol.
    """

    def __init__(self, fs: Any, root: str) -> None:
        self._fs = fs
        self._root = root.rstrip("/")

    def folder(self, key: str) -> Path | None:
        """Return None: nothing here is a local folder."""
        del key
        return None

    def put(self, files: Sequence[SourceFile], seal: Seal) -> Manifest:
        """Hash, then upload what is not there yet, then write the manifest."""
        entries = [_entry(file) for file in files]
        manifest = seal(entries)
        if not self._whole(manifest):
            for file, entry in zip(files, entries, strict=True):
                self._upload(file, entry, file_key(manifest.digest, entry.path))
            if not self._complete(manifest):
                raise StoreUnavailable(
                    f"cannot publish {manifest.digest}: uploaded files are not there; somebody deletes below {self._root}"
                )
        self.write(manifest_key(manifest.digest), manifest.to_bytes())
        return manifest

    def receive(self, manifest: Manifest, arriving: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        """Write files where they belong, then the manifest if all are there."""
        entries = {entry.path: entry for entry in manifest.files}
        for path, pieces in arriving:
            with self._writer(file_key(manifest.digest, path)) as target:
                target.writelines(checked(entries[path], pieces))
        if not self._complete(manifest):
            raise StoreUnavailable(f"cannot publish {manifest.digest}: files of it are not in {self._root}; have them sent again")
        self.write(manifest_key(manifest.digest), manifest.to_bytes())

    def refresh(self, manifest: Manifest) -> bool:
        """Write the manifest again if all is there."""
        whole = self._whole(manifest)
        if whole:
            self.write(manifest_key(manifest.digest), manifest.to_bytes())
        return whole

    def sign(self, key: str, *, write: bool, expires_s: int) -> dict[str, Any] | None:
        """Have the store sign an address."""
        return sign(self._fs, self._at(key), write=write, expires_s=expires_s)

    def open(self, key: str) -> BinaryIO:
        """Open for reading."""
        stream: BinaryIO = self._fs.open(self._at(key), "rb")
        return stream

    def read(self, key: str) -> bytes:
        """Return all bytes of a small file."""
        return bytes(self._fs.cat_file(self._at(key)))

    def write(self, key: str, data: bytes) -> None:
        """Write a small file."""
        with self._writer(key) as target:
            target.write(data)

    def deliver(self, key: str, target: Path, *, executable: bool) -> Measured:
        """Download a file."""
        with self.open(key) as source, target.open("xb") as written:
            measured = copy(source, written)
        target.chmod(0o555 if executable else 0o444)
        return measured

    def names(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix."""
        self._fs.invalidate_cache()
        try:
            return sorted(str(path).rstrip("/").rpartition("/")[2] for path in self._fs.ls(self._at(prefix), detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Return the bytes of every file below a prefix."""
        return {path: int(info["size"]) for path, info in self._found(prefix).items()}

    def modified(self, key: str) -> float:
        """Return when a file was last written."""
        self._fs.invalidate_cache()
        return self._stamp(self._at(key), self._fs.info(self._at(key)))

    def clock(self) -> float:
        """Return the object store's time."""
        probe = f".probe-{uuid.uuid4().hex}"
        try:
            self.write(probe, b"")
            return self.modified(probe)
        finally:
            self.delete(probe)

    def delete(self, prefix: str) -> None:
        """Delete a file or everything below a prefix."""
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._at(prefix), recursive=True)

    def published(self) -> Iterator[tuple[str, float]]:
        """Return digest and time of publication of every artifact."""
        for name, below in self._homes().items():
            if "manifest.json" in below:
                yield f"sha256:{name}", self._stamp(manifest_key(name), below["manifest.json"])

    def unpublish(self, digest: str, *, before: float) -> bool:
        """Take the manifest away, then the files."""
        try:
            if self.modified(manifest_key(digest)) >= before:
                return False
        except FileNotFoundError:
            return True
        self.delete(manifest_key(digest))
        self.delete(artifact_key(digest))
        return True

    def leftovers(self, *, before: float) -> Iterator[str]:
        """Return artifacts without a manifest; they get a day longer than everything else."""
        for name, below in self._homes().items():
            newest = max(self._stamp(f"{artifact_key(name)}/{path}", info) for path, info in below.items())
            if "manifest.json" not in below and newest < before - _UPLOAD_S:
                yield artifact_key(name)

    def _homes(self) -> dict[str, dict[str, Any]]:
        homes: dict[str, dict[str, Any]] = {}
        for path, info in self._found("artifacts").items():
            shelf, _, rest = path.partition("/")
            name, _, inner = rest.partition("/")
            if is_artifact(shelf, name):
                homes.setdefault(name, {})[inner] = info
        return homes

    def _found(self, prefix: str) -> dict[str, Any]:
        self._fs.invalidate_cache()
        top = f"{self._at(prefix)}/"
        with contextlib.suppress(FileNotFoundError):
            return {str(path).removeprefix(top): info for path, info in self._fs.find(top.rstrip("/"), detail=True).items()}
        return {}

    def _stamp(self, key: str, info: Mapping[str, Any]) -> float:
        found = modified_at(info)
        if found is None:
            raise InvalidSpec(f"{self._root} cannot be a store: {type(self._fs).__name__} does not say when {key} was written")
        return found

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _writer(self, key: str) -> Any:
        try:
            return self._fs.open(self._at(key), "wb")
        except FileNotFoundError:  # only what has real folders, such as sftp, wants them made
            self._fs.makedirs(self._at(key).rpartition("/")[0], exist_ok=True)
            return self._fs.open(self._at(key), "wb")

    def _upload(self, file: SourceFile, entry: FileEntry, key: str) -> None:
        with file.open() as source, self._writer(key) as target:
            measured = copy(source, target)
        if measured != Measured(entry.size, entry.sha256):
            raise InvalidSpec(f"cannot publish {file.file}: it changed meanwhile; publish when the job has closed its files")

    def _complete(self, manifest: Manifest) -> bool:
        return same_files(manifest, self.sizes(f"{artifact_key(manifest.digest)}/files"))

    def _whole(self, manifest: Manifest) -> bool:
        """Return whether it is there already, going by sizes: object stores check bytes themselves."""
        try:
            return self.read(manifest_key(manifest.digest)) == manifest.to_bytes() and self._complete(manifest)
        except FileNotFoundError:
            return False


def _entry(file: SourceFile) -> FileEntry:
    with file.open() as source:
        measured = measure(source)
    return FileEntry(path=file.path, size=measured.size, sha256=measured.sha256, executable=file.executable)
