"""Small files into and out of containers, which an engine takes and gives as tar archives."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any


def stat_of(header: str) -> dict[str, Any]:
    """Read the header by which an engine describes a file: name, size, mode, linkTarget."""
    found: dict[str, Any] = json.loads(base64.b64decode(header))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or folder of an archive.

    Parameters
    ----------
    path : str
        Relative to the folder where the archive is unpacked.
    data : bytes or None
        None for a folder.
    mode : int
        Permissions.
    owner : pair of int
        User and group id.
    """

    path: str
    data: bytes | None = None
    mode: int = 0o600
    owner: tuple[int, int] = (0, 0)


def archived(entries: Iterable[Entry], *, last: Entry | None = None) -> bytes:
    """Return an archive.

    Parameters
    ----------
    entries : iterable of `Entry`
        Folders before what is in them.
    last : `Entry`, optional
        A file that is there only when all others are, and then whole: it is unpacked aside and linked.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            _add(archive, entry)
        if last is not None:
            folder, _, name = last.path.rpartition("/")
            aside = f"{folder}/.{name}".lstrip("/")
            _add(archive, replace(last, path=aside))
            link = tarfile.TarInfo(last.path)
            link.type, link.linkname = tarfile.LNKTYPE, aside
            link.uid, link.gid, link.mode = *last.owner, last.mode
            archive.addfile(link)
    return out.getvalue()


def packed(files: Mapping[str, bytes], *, owner: tuple[int, int] = (0, 0), mode: int = 0o600) -> bytes:
    """Return an archive of some files, by their names."""
    return archived(Entry(path=name, data=data, mode=mode, owner=owner) for name, data in files.items())


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    found = tarfile.TarInfo(entry.path)
    found.mode, (found.uid, found.gid) = entry.mode, entry.owner
    if entry.data is None:
        found.type = tarfile.DIRTYPE
        archive.addfile(found)
    else:
        found.size = len(entry.data)
        archive.addfile(found, io.BytesIO(entry.data))


def first_file(stream: IO[bytes], limit: int) -> bytes | None:
    """Return the beginning of the first entry of an archive, at most `limit` bytes; None if it is no file."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        entry = archive.next()
        file = archive.extractfile(entry) if entry is not None and entry.isreg() else None
        return None if file is None else file.read(limit)
