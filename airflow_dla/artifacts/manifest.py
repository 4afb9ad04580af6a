"""The manifest: what an artifact holds, in a form whose digest names it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import ArtifactRef, Spec
from airflow_dla.specs.spec import spec_field
from airflow_dla.specs.values import boolean, identifier, integer, json_value, mapping_of, natural, sequence_of, text

#: Version of the manifest's form. It is part of the digest, and artifacts outlive every release:
#: all versions up to this one are read for ever, so it is apart from the jobs' protocol.
MANIFEST_PROTOCOL: Final = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _protocol(raw: object, where: str) -> int:
    found = integer(raw, where)
    if not 1 <= found <= MANIFEST_PROTOCOL:
        raise InvalidSpec(f"{where}: this airflow-dla reads manifests up to protocol {MANIFEST_PROTOCOL}, got {found}; upgrade it")
    return found


def _sha256(raw: object, where: str) -> str:
    found = text(raw, where)
    if not _SHA256.fullmatch(found):
        raise InvalidSpec(f"{where} must be 64 hexadecimal digits, got {found!r}")
    return found


def inner_path(raw: object, where: str) -> str:
    """Parse a path that stays inside its folder: relative, ``/`` between names, no ``.`` or ``..``.

    Examples
    --------
    >>> inner_path("weights/part 1.bin", "path")
    'weights/part 1.bin'
    >>> inner_path("../../etc/passwd", "path")
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: path must stay inside the artifact: relative, without '.' and '..'; got '../../etc/passwd'
    """
    if not isinstance(raw, str) or "\0" in raw or {"", ".", ".."} & set(raw.split("/")):
        raise InvalidSpec(f"{where} must stay inside the artifact: relative, without '.' and '..'; got {raw!r}")
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise InvalidSpec(f"{where}: a file's name must be UTF-8, got {raw!r}; rename the file") from None
    return raw


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry(Spec):
    """One file of an artifact.

    Parameters
    ----------
    path : str
        Relative to the artifact's folder, ``/`` between names.
    size : int
        Bytes.
    sha256 : str
        64 hexadecimal digits.
    executable : bool
        Whether its owner may run it; written only when true.
    """

    called: ClassVar[str] = "manifest file"

    path: str = spec_field(inner_path)
    size: int = spec_field(natural)
    sha256: str = spec_field(_sha256)
    executable: bool = spec_field(boolean, default=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Spec):
    """What an artifact holds.

    Parameters
    ----------
    kind : str
        ``dataset``, ``model``, ``report``, ``code``, ``checkpoint`` or another word.
    files : tuple of `FileEntry`
        Sorted by path, whatever order they are given in; at least one.
    meta : mapping
        Plain JSON that belongs to the bytes, never times or places: it is part of the digest.
    protocol : int

    Examples
    --------
    >>> entry = FileEntry(path="a", size=0, sha256="0" * 64)
    >>> Manifest(kind="report", files=(entry,)).digest[:15]
    'sha256:1ffb00b9'
    """

    called: ClassVar[str] = "manifest"

    kind: str = spec_field(identifier)
    files: tuple[FileEntry, ...] = spec_field(sequence_of(FileEntry.from_mapping))
    meta: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    protocol: int = spec_field(_protocol, default=MANIFEST_PROTOCOL)

    def __post_init__(self) -> None:
        paths = [entry.path for entry in self.files]
        if not paths:
            raise InvalidSpec("manifest.files is empty; an artifact holds at least one file")
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise InvalidSpec(f"manifest.files names {twice!r} twice")
        object.__setattr__(self, "files", tuple(sorted(self.files, key=lambda entry: entry.path)))

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(entry.size for entry in self.files)

    @property
    def digest(self) -> str:
        """``sha256:…`` of the canonical form."""
        return digest_of(self.to_bytes())

    @property
    def reference(self) -> ArtifactRef:
        """The reference that crosses XCom."""
        return ArtifactRef(digest=self.digest, kind=self.kind, size=self.size)

    def to_bytes(self) -> bytes:
        """Return the canonical form, the content of ``manifest.json``."""
        written = {
            "protocol": self.protocol,
            "kind": self.kind,
            "files": [entry.to_mapping() for entry in self.files],
            "meta": self.meta,
        }
        return json.dumps(written, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(data: bytes) -> str:
    """Return the digest that names a manifest of these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def same_files(manifest: Manifest, sizes: Mapping[str, int]) -> bool:
    """Return whether files of these sizes, by path, are those of the manifest, going by size alone."""
    return sizes == {entry.path: entry.size for entry in manifest.files}


def unlisted(manifest: Manifest, paths: Sequence[str]) -> tuple[str, ...]:
    """Return the paths that the manifest does not name, sorted."""
    return tuple(sorted(set(paths) - {entry.path for entry in manifest.files}))
