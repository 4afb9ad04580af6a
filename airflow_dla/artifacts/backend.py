"""The contract between a store and the place where it lies: a folder, or an object store.

Keys are relative to the store, ``/`` between names. A missing key raises
``FileNotFoundError``; everything else the place raises is explained by `Store`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from airflow_dla.artifacts.manifest import FileEntry, Manifest
from airflow_dla.artifacts.streams import Measured, Measuring
from airflow_dla.artifacts.tree import SourceFile
from airflow_dla.errors import CorruptArtifact

#: Makes the manifest when the files have been measured.
Seal = Callable[[Sequence[FileEntry]], Manifest]

_NAME = re.compile(r"[0-9a-f]{64}")


class Backend(Protocol):
    """Where a store lies."""

    def folder(self, key: str) -> Path | None:
        """Return the local folder of a key, None where there is none."""

    def put(self, files: Sequence[SourceFile], seal: Seal) -> Manifest:
        """Publish files: all of them and their manifest, or nothing that can be seen.

        An artifact that is there already is kept, and counts as published now; one whose
        bytes are damaged is replaced.
        """

    def receive(self, manifest: Manifest, arriving: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        """Publish files that come by path, each whole before the next, with those of the manifest that came before."""

    def refresh(self, manifest: Manifest) -> bool:
        """Return whether an artifact is there, whole; then it counts as published now."""

    def sign(self, key: str, *, write: bool, expires_s: int) -> dict[str, Any] | None:
        """Return an address of one file that needs no credentials, None where there can be none."""

    def open(self, key: str) -> BinaryIO:
        """Open for reading."""

    def read(self, key: str) -> bytes:
        """Return all bytes of a small file."""

    def write(self, key: str, data: bytes) -> None:
        """Write a small file; atomic in a folder and in object stores."""

    def deliver(self, key: str, target: Path, *, executable: bool) -> Measured:
        """Make a read-only local file, or a link to one, at `target`; return what its bytes are."""

    def names(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix, sorted; none when it does not exist."""

    def sizes(self, prefix: str) -> Mapping[str, int]:
        """Return the bytes of every file below a prefix, by path relative to it."""

    def modified(self, key: str) -> float:
        """Return when a file was last written, seconds since the epoch by `clock`."""

    def clock(self) -> float:
        """Return the time by the clock that stamps files here, seconds since the epoch."""

    def delete(self, prefix: str) -> None:
        """Delete a file or everything below a prefix; nothing happens when it is not there."""

    def published(self) -> Iterator[tuple[str, float]]:
        """Return digest and time of publication of every artifact."""

    def unpublish(self, digest: str, *, before: float) -> bool:
        """Delete an artifact unless it was published again at or after `before`; return whether it is gone."""

    def leftovers(self, *, before: float) -> Iterator[str]:
        """Return keys of what interrupted writers left and nobody has touched since `before`."""


def checked(entry: FileEntry, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pass on the bytes of a file of a manifest, the last of them only if all are right: what is cut short shows by its size.

    Raises
    ------
    CorruptArtifact
        Naming the file.
    """
    passing, held = Measuring(), b""
    for piece in pieces:
        passing.add(piece)
        if piece and held:
            yield held
        held = piece or held
    found = passing.measured
    if found != Measured(entry.size, entry.sha256):
        raise CorruptArtifact(
            f"{entry.path} arrived with {found.size} bytes and sha256 {found.sha256}, expected {entry.size} and {entry.sha256}; "
            "it was damaged on its way: send it again"
        )
    yield held


def artifact_key(digest: str) -> str:
    """Return the key of an artifact's folder.

    Examples
    --------
    >>> artifact_key("sha256:" + "ab" * 32)[:20]
    'artifacts/ab/abababa'
    """
    name = digest.removeprefix("sha256:")
    return f"artifacts/{name[:2]}/{name}"


def manifest_key(digest: str) -> str:
    """Return the key of an artifact's manifest."""
    return f"{artifact_key(digest)}/manifest.json"


def file_key(digest: str, path: str) -> str:
    """Return the key of one of an artifact's files."""
    return f"{artifact_key(digest)}/files/{path}"


def is_artifact(shelf: str, name: str) -> bool:
    """Return whether ``artifacts/SHELF/NAME`` can be one of ours; anything else is left alone.

    Examples
    --------
    >>> is_artifact("ab", "ab" * 32), is_artifact("ab", "README")
    (True, False)
    """
    return bool(_NAME.fullmatch(name)) and name[:2] == shelf
