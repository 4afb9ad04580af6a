"""The store: publish, fetch, verify, checkpoints, collection."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from fsspec.implementations.local import LocalFileSystem

from airflow_dla.artifacts.backend import Backend, artifact_key, file_key, manifest_key
from airflow_dla.artifacts.checkpoints import Checkpoints
from airflow_dla.artifacts.faults import explained
from airflow_dla.artifacts.folder import FolderBackend
from airflow_dla.artifacts.garbage import Collected, Stored, mark
from airflow_dla.artifacts.manifest import FileEntry, Manifest, digest_of, unlisted
from airflow_dla.artifacts.objects import ObjectBackend
from airflow_dla.artifacts.places import opened, secrets_of
from airflow_dla.artifacts.streams import Measured, measure
from airflow_dla.artifacts.tree import scan
from airflow_dla.errors import CorruptArtifact, InvalidSpec, NotFound, StoreUnavailable
from airflow_dla.specs import ArtifactRef
from airflow_dla.specs.references import digest as parse_digest

_NO_META: Final[Mapping[str, Any]] = MappingProxyType({})


class Store:
    """Where artifacts lie: a folder by default, or any URL that fsspec opens.

    Parameters
    ----------
    url : str
        A folder's path, ``file:///folder``, ``s3://bucket/prefix`` and so on, without a password.
    options : mapping, optional
        Keyword arguments of the fsspec file system, credentials among them; never shown.

    Attributes
    ----------
    url : str
        Password-free, the same for every spelling of a local folder (``file:///…``).

    Raises
    ------
    SecretExposed, InvalidSpec, MissingExtra
        If the URL carries a password, is unknown, or its package is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     out = pathlib.Path(folder, "out")
    ...     out.mkdir()
    ...     _ = (out / "weights.bin").write_bytes(b"0123")
    ...     store = Store(f"{folder}/store")
    ...     reference = store.publish(out, kind="model")
    ...     store.fetch(reference.digest, pathlib.Path(folder, "in"))
    ...     print(reference.size, pathlib.Path(folder, "in", "weights.bin").read_bytes())
    4 b'0123'
    """

    def __init__(self, url: str, *, options: Mapping[str, Any] | None = None) -> None:
        self._secrets = secrets_of(options or {})
        fs, path = opened(url, options or {}, where="store")
        local = isinstance(fs, LocalFileSystem)
        folder = Path(os.path.normpath(Path(path).absolute()))
        self.url: str = f"file://{folder}" if local else url.rstrip("/")
        self._backend: Backend = FolderBackend(folder) if local else ObjectBackend(fs, path)
        self._checkpoints = Checkpoints(self._backend)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    # Artifacts

    def publish(self, folder: Path, *, kind: str, meta: Mapping[str, Any] = _NO_META) -> ArtifactRef:
        """Publish the files of a folder; nothing is visible before everything is.

        Publishing the same bytes again gives the same digest and keeps the first copy, or
        repairs it when it is damaged. Empty folders are left out.

        Parameters
        ----------
        folder : Path
            Left as it is.
        kind : str
            ``dataset``, ``model``, ``report``, ``code``, ``checkpoint`` or another word.
        meta : mapping
            Plain JSON that belongs to the bytes and becomes part of the digest.

        Raises
        ------
        NotFound, InvalidSpec
            If there is no such folder, it is empty, or it holds what cannot be published.
        StoreUnavailable
            If the store is full, read-only or out of reach.
        """
        files = scan(folder)

        def seal(entries: Sequence[FileEntry]) -> Manifest:
            return Manifest.from_mapping({"kind": kind, "files": entries, "meta": meta})

        seal([FileEntry(path="probe", size=0, sha256="0" * 64)])  # refuse kind and meta before gigabytes are copied
        with self._explained(f"publish {folder} to {self.url}"):
            return self._backend.put(files, seal).reference

    def manifest(self, digest: str) -> Manifest:
        """Return what an artifact holds.

        Raises
        ------
        NotFound
            If there is no such artifact.
        CorruptArtifact
            If the manifest is not the one that was published.
        """
        key = manifest_key(parse_digest(digest, "digest"))
        with self._explained(f"read {self.url}/{key}"):
            try:
                data = self._backend.read(key)
            except FileNotFoundError:
                raise NotFound(
                    f"there is no artifact {digest} in {self.url}; it was collected or never published there: "
                    "clear the task that made it, or name the store it is in"
                ) from None
        if digest_of(data) != digest:
            raise self._corrupt(digest, f"manifest.json has digest {digest_of(data)}")
        return Manifest.from_mapping(json.loads(data), f"manifest of {digest}")

    def exists(self, digest: str) -> bool:
        """Return whether an artifact is published and its manifest is whole."""
        try:
            self.manifest(digest)
        except (NotFound, CorruptArtifact):
            return False
        return True

    def fetch(self, digest: str, target: Path) -> None:
        """Make `target` a folder that holds an artifact's files, every byte verified.

        From a folder store they are links to the store's read-only files: nothing is
        copied, whatever the size. `target` appears complete or not at all.

        Parameters
        ----------
        digest : str
        target : Path
            Must not exist, or be an empty folder.

        Raises
        ------
        NotFound
            If there is no such artifact.
        CorruptArtifact
            If a file is missing or is not the one that was published; names it.
        InvalidSpec
            If `target` is in use.
        """
        manifest = self.manifest(digest)
        with self._explained(f"fetch {digest} from {self.url} to {target}"), _whole_folder(target) as folder:
            for entry in manifest.files:
                self._deliver(digest, entry, folder / entry.path)

    def verify(self, digest: str) -> Manifest:
        """Read every byte of an artifact and return its manifest.

        Raises
        ------
        NotFound, CorruptArtifact
            As `fetch`; also if a file is there that the manifest does not name.
        """
        manifest = self.manifest(digest)
        with self._explained(f"verify {digest} in {self.url}"):
            for entry in manifest.files:
                self._check(digest, entry, self._measure(digest, entry))
            added = unlisted(manifest, list(self._backend.sizes(f"{artifact_key(digest)}/files")))
        if added:
            raise self._corrupt(digest, f"files/{added[0]} is there and was never published")
        return manifest

    def folder(self, digest: str) -> Path | None:
        """Return the folder of an artifact's plain files, None unless the store is local; nothing is checked."""
        return self._backend.folder(f"{artifact_key(parse_digest(digest, 'digest'))}/files")

    def digests(self) -> Iterator[Stored]:
        """Return every artifact of the store, in no order."""
        with self._explained(f"list {self.url}"):
            found = list(self._backend.published())
        for digest, published_at in found:
            with contextlib.suppress(NotFound):
                yield self._stored(digest, published_at)

    # Checkpoints

    def save_checkpoint(self, job: str, folder: Path) -> ArtifactRef:
        """Publish a folder as the newest checkpoint of a job; the one before it is kept.

        Parameters
        ----------
        job : str
            ``JobKey.id``: a later attempt of the same job finds it.
        folder : Path
        """
        reference = self.publish(folder, kind="checkpoint")
        with self._explained(f"save a checkpoint of job {job} in {self.url}"):
            self._checkpoints.add(job, reference)
        return reference

    def checkpoint(self, job: str) -> ArtifactRef | None:
        """Return the newest checkpoint of a job, None when there is none; its bytes are not read."""
        return next(iter(self.checkpoints(job)), None)

    def checkpoints(self, job: str) -> tuple[ArtifactRef, ...]:
        """Return the checkpoints of a job that are kept, newest first."""
        with self._explained(f"read the checkpoints of job {job} in {self.url}"):
            return self._checkpoints.of(job)

    def fetch_checkpoint(self, job: str, target: Path) -> ArtifactRef | None:
        """Fetch the newest checkpoint of a job that is whole; None when there is none."""
        for reference in self.checkpoints(job):
            with contextlib.suppress(NotFound, CorruptArtifact):
                self.fetch(reference.digest, target)
                return reference
        return None

    def drop_checkpoints(self, job: str) -> None:
        """Forget the checkpoints of a job; collection takes their bytes."""
        with self._explained(f"drop the checkpoints of job {job} in {self.url}"):
            self._checkpoints.drop(job)

    # The store itself

    def collect(
        self, roots: Mapping[str, str], checkpoints: Collection[str], *, grace_s: float = 3600.0, dry_run: bool = False
    ) -> Collected:
        """Delete what no root names and nobody published lately.

        Safe beside publishers: what is published, or published again, within the grace
        stays, also when that happens during the collection.

        Parameters
        ----------
        roots : mapping of digest to str
            Why each is kept.
        checkpoints : collection of str
            Jobs whose checkpoints are kept; those of others go when older than the grace.
        grace_s : float
            Seconds, by the store's clock.
        dry_run : bool
            Only say what would be deleted.

        Raises
        ------
        InvalidSpec
            If a root is no digest or the grace is negative: nothing is deleted then.
        """
        named = {parse_digest(digest, f"root {why!r}"): why for digest, why in roots.items()}
        if grace_s < 0:
            raise InvalidSpec(f"grace_s must be >= 0 seconds, got {grace_s}")
        with self._explained(f"collect garbage in {self.url}"):
            before = self._backend.clock() - grace_s
            held = self._held_by_checkpoints(checkpoints, before=before, dry_run=dry_run)
            gone, kept = mark(self._backend.published(), {**held, **named}, before=before)
            freed = {digest: size for digest in gone if (size := self._unpublish(digest, before=before, dry_run=dry_run)) is not None}
            return Collected(tuple(freed), kept, sum(freed.values()) + self._sweep(before=before, dry_run=dry_run))

    def check(self) -> None:
        """Write, read and delete a probe.

        Raises
        ------
        StoreUnavailable
            If any of that fails; says why and what to do.
        """
        key, data = f".probe-{uuid.uuid4().hex}", os.urandom(4096)
        with self._explained(f"write, read and delete a probe in {self.url}"):
            try:
                self._backend.write(key, data)
                if self._backend.read(key) != data:
                    raise StoreUnavailable(f"{self.url} does not return the bytes that were written to it; check its disks and caches")
            finally:
                self._backend.delete(key)

    def _explained(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return explained(doing, secrets=self._secrets)

    def _deliver(self, digest: str, entry: FileEntry, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            measured = self._backend.deliver(file_key(digest, entry.path), target, executable=entry.executable)
        except FileNotFoundError:
            measured = None
        self._check(digest, entry, measured)

    def _measure(self, digest: str, entry: FileEntry) -> Measured | None:
        try:
            with self._backend.open(file_key(digest, entry.path)) as source:
                return measure(source)
        except FileNotFoundError:
            return None

    def _check(self, digest: str, entry: FileEntry, found: Measured | None) -> None:
        if found is None:
            raise self._corrupt(digest, f"files/{entry.path} is missing")
        if found.size != entry.size:
            raise self._corrupt(digest, f"files/{entry.path} has {found.size} bytes, expected {entry.size}")
        if found.sha256 != entry.sha256:
            raise self._corrupt(digest, f"files/{entry.path} has sha256 {found.sha256}, expected {entry.sha256}")

    def _corrupt(self, digest: str, what: str) -> CorruptArtifact:
        return CorruptArtifact(
            f"artifact {digest} in {self.url} is damaged: {what}; put the file back from a copy, "
            "or clear the task that made it: publishing the same bytes again repairs it"
        )

    def _stored(self, digest: str, published_at: float) -> Stored:
        try:
            manifest = self.manifest(digest)
        except (CorruptArtifact, InvalidSpec):
            return Stored(digest, "unreadable", 0, published_at)
        return Stored(digest, manifest.kind, manifest.size, published_at)

    def _held_by_checkpoints(self, wanted: Collection[str], *, before: float, dry_run: bool) -> dict[str, str]:
        held: dict[str, str] = {}
        for job in self._checkpoints.jobs():
            if job in wanted or self._checkpoints.newest_at(job) >= before:
                held |= {reference.digest: f"checkpoint of job {job}" for reference in self._checkpoints.of(job)}
            elif not dry_run:
                self._checkpoints.drop(job)
        return held

    def _unpublish(self, digest: str, *, before: float, dry_run: bool) -> int | None:
        size = sum(self._backend.sizes(artifact_key(digest)).values())
        return size if dry_run or self._backend.unpublish(digest, before=before) else None

    def _sweep(self, *, before: float, dry_run: bool) -> int:
        freed = 0
        for key in self._backend.leftovers(before=before):
            freed += sum(self._backend.sizes(key).values())
            if not dry_run:
                self._backend.delete(key)
        return freed


@contextlib.contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes `target` when all went well, and is gone otherwise."""
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise InvalidSpec(f"cannot fetch to {target}: something is there; name a folder that does not exist or is empty")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name[:100]}-{uuid.uuid4().hex}.partial")
    partial.mkdir()
    try:
        yield partial
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
