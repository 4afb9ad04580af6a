"""A store whose artifacts go through the hands of others: a job that may not open it, and whoever follows that job.

Inputs are read as bytes, or by addresses that are good for one file and some minutes.
Outputs are published from a manifest: whoever has the files writes them to such addresses,
or hands over their bytes, and the manifest comes last, as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from airflow_dla.artifacts.backend import artifact_key, file_key
from airflow_dla.artifacts.manifest import FileEntry, Manifest
from airflow_dla.artifacts.outside import Outside
from airflow_dla.artifacts.signed import EXPIRES_S, LARGEST_WRITE
from airflow_dla.artifacts.store import Store
from airflow_dla.artifacts.streams import CHUNK, Measuring
from airflow_dla.specs import ArtifactRef, UriRef


class Exchange(Store):
    """A `Store` that gives and takes single files.

    Examples
    --------
    >>> import hashlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Exchange(folder)
    ...     sha256 = hashlib.sha256(b"0123").hexdigest()
    ...     manifest = store.draft(kind="model", files=[{"path": "w", "size": 4, "sha256": sha256}])
    ...     reference = store.receive(manifest, [("w", [b"01", b"23"])])
    ...     print(b"".join(store.pieces(reference.digest, manifest.files[0])), store.missing(manifest))
    b'0123' ()
    """

    def pieces(self, digest: str, entry: FileEntry) -> Iterator[bytes]:
        """Yield the bytes of one file of an artifact, verified when the last has been taken.

        Raises
        ------
        CorruptArtifact
            If they are not those that were published.
        StoreUnavailable
            If the store breaks off.
        """
        found, key = Measuring(), file_key(digest, entry.path)
        with self._explained(f"read {self.url}/{key}"):
            source = self._opened(key)
        if source is None:
            self._check(digest, entry, None)
            return
        with source:
            while piece := self._read(source, key):
                found.add(piece)
                yield piece
        self._check(digest, entry, found.measured)

    def signed_reads(self, digest: str, *, expires_s: int = EXPIRES_S) -> dict[str, dict[str, Any]]:
        """Return an address for each file of an artifact, by path; none where the store cannot sign."""
        paths = [entry.path for entry in self.manifest(digest).files]
        return self._signed(digest, paths, write=False, expires_s=expires_s)

    def outside(self, ref: UriRef) -> Outside:
        """Return the files at an outside address, as they are now."""
        return Outside(ref)

    def draft(self, *, kind: str, files: Sequence[Mapping[str, Any]]) -> Manifest:
        """Return the manifest of what is to be published.

        Raises
        ------
        InvalidSpec
            If it cannot be.
        """
        return Manifest.from_mapping({"kind": kind, "files": list(files), "meta": {}})

    def published(self, manifest: Manifest) -> ArtifactRef | None:
        """Return an artifact's reference if it is there, whole; it counts as published now."""
        with self._explained(f"publish {manifest.digest} to {self.url}"):
            return manifest.reference if self._backend.refresh(manifest) else None

    def missing(self, manifest: Manifest) -> tuple[FileEntry, ...]:
        """Return the files that `receive` needs: those not written before, going by size."""
        with self._explained(f"list {manifest.digest} in {self.url}"):
            sizes = self._backend.sizes(f"{artifact_key(manifest.digest)}/files")
        return tuple(entry for entry in manifest.files if sizes.get(entry.path) != entry.size)

    def signed_writes(self, manifest: Manifest, *, expires_s: int = EXPIRES_S) -> dict[str, dict[str, Any]]:
        """Return an address for each file that is missing, by path; none where the store cannot sign, or for what is too large."""
        paths = [entry.path for entry in self.missing(manifest) if entry.size <= LARGEST_WRITE]
        return self._signed(manifest.digest, paths, write=True, expires_s=expires_s)

    def receive(self, manifest: Manifest, arriving: Iterable[tuple[str, Iterable[bytes]]] = ()) -> ArtifactRef:
        """Publish: take the files that come, see that all are there, write the manifest last.

        Parameters
        ----------
        manifest : `Manifest`
        arriving : iterable of path and bytes
            At least those that are `missing`, each whole before the next.

        Raises
        ------
        CorruptArtifact
            If bytes that come are not those of the manifest.
        StoreUnavailable
            If files are missing, or the store is full, read-only or out of reach.
        """
        with self._explained(f"publish {manifest.digest} to {self.url}"):
            self._backend.receive(manifest, arriving)
        return manifest.reference

    def keep_checkpoint(self, job: str, reference: ArtifactRef) -> None:
        """Make an artifact that is published the newest checkpoint of a job."""
        with self._explained(f"save a checkpoint of job {job} in {self.url}"):
            self._checkpoints.add(job, reference)

    def _signed(self, digest: str, paths: Sequence[str], *, write: bool, expires_s: int) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for path in paths:
            link = self._backend.sign(file_key(digest, path), write=write, expires_s=expires_s)
            if link is None:
                return {}  # none can be signed, then
            found[path] = link
        return found

    def _opened(self, key: str) -> BinaryIO | None:
        try:
            return self._backend.open(key)
        except FileNotFoundError:
            return None

    def _read(self, source: BinaryIO, key: str) -> bytes:
        with self._explained(f"read {self.url}/{key}"):
            return source.read(CHUNK)
