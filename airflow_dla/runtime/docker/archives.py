"""Small files into and out of containers, which an engine takes and gives as tar archives."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Mapping
from typing import IO, Any


def stat_of(header: str) -> dict[str, Any]:
    """Read the header by which an engine describes a file: name, size, mode, linkTarget."""
    found: dict[str, Any] = json.loads(base64.b64decode(header))
    return found


def packed(files: Mapping[str, bytes], *, owner: tuple[int, int] = (0, 0), mode: int = 0o600) -> bytes:
    """Return an archive of some files.

    Parameters
    ----------
    files : mapping of name to bytes
        Names are relative to the folder where the archive is unpacked.
    owner : pair of int
        User and group id.
    mode : int
        Permissions.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            entry.uid, entry.gid = owner
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def first_file(stream: IO[bytes], limit: int) -> bytes | None:
    """Return the beginning of the first entry of an archive, at most `limit` bytes; None if it is no file."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        entry = archive.next()
        file = archive.extractfile(entry) if entry is not None and entry.isreg() else None
        return None if file is None else file.read(limit)
