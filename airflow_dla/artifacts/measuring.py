"""What publishing a folder would give, without a store."""

from __future__ import annotations

from pathlib import Path

from airflow_dla.artifacts.manifest import FileEntry, Manifest
from airflow_dla.artifacts.streams import measure
from airflow_dla.artifacts.tree import SourceFile, scan


def manifest_of(folder: Path, *, kind: str) -> Manifest:
    """Return the manifest of a folder's files; its digest is the one that `Store.publish` gives.

    Raises
    ------
    NotFound, InvalidSpec
        If there is no such folder, it is empty, or it holds what cannot be published.
    """
    return Manifest(kind=kind, files=tuple(map(_entry, scan(folder))))


def _entry(file: SourceFile) -> FileEntry:
    with file.open() as source:
        found = measure(source)
    return FileEntry(path=file.path, size=found.size, sha256=found.sha256, executable=file.executable)
