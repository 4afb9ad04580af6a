"""Volumes of a job: folders of the engine's host and named volumes, as an agent writes them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.values import boolean, mapping, refuse_unknown, text

_NAMED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")
_OPTIONS: Final = {"": False, "rw": False, "ro": True}
#: Where a job's own files are mounted, and what the kernel shows.
_TAKEN: Final = ("/dla", "/opt/dla", "/dev", "/proc", "/sys")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What is mounted where.

    Parameters
    ----------
    target : str
        Folder in the container.
    source : str
        Folder of the engine's host, or the name of a volume.
    read_only : bool
    """

    target: str
    source: str
    read_only: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of the host."""
        return self.source.startswith("/")

    def mount(self) -> dict[str, Any]:
        """Return it as the engine's ``Mount``."""
        kind = "bind" if self.is_folder else "volume"
        return {"Type": kind, "Source": self.source, "Target": self.target, "ReadOnly": self.read_only}


def volumes(given: Mapping[str, Any]) -> tuple[Volume, ...]:
    """Read an agent's volumes, sorted by target.

    Parameters
    ----------
    given : mapping of folder in the container to where it comes from
        ``"/srv/data:ro"``, ``"/srv/scratch"`` (read and write), ``"cache"`` (a named volume), or
        ``{"source": …, "read_only": true}``.

    Raises
    ------
    InvalidSpec
        If a path is relative or is not written the shortest way, or a target is taken.

    Examples
    --------
    >>> for volume in volumes({"/data": "/srv/data:ro", "/cache": {"source": "hf-cache"}}):
    ...     print(volume.source, volume.target, volume.read_only)
    hf-cache /cache False
    /srv/data /data True
    """
    found = [_volume(target, value) for target, value in given.items()]
    targets = [volume.target for volume in found]
    twice = {target for target in targets if targets.count(target) > 1}
    if twice:
        raise InvalidSpec(f"volumes: {', '.join(sorted(twice))} is mounted twice; give each folder in the container once")
    return tuple(sorted(found, key=lambda volume: volume.target))


def _volume(target: str, value: Any) -> Volume:
    where = f"volumes.{target}"
    source, read_only = _read(value, where)
    if source.startswith("/"):
        source = plain_path(source, where)
    elif not _NAMED.fullmatch(source):
        rule = "an absolute folder of the engine's host, or a volume's name of A-Z a-z 0-9 _ . -"
        raise InvalidSpec(f"{where}: {source!r} must be {rule}; a relative path means nothing on another host")
    return Volume(target=inside(target, where), source=source, read_only=read_only)


def _read(value: Any, where: str) -> tuple[str, bool]:
    if isinstance(value, Mapping):
        refuse_unknown(mapping(value, where), ("source", "read_only"), where)
        return text(value.get("source"), f"{where}.source"), boolean(value.get("read_only", False), f"{where}.read_only")
    source, _, option = text(value, where).partition(":")
    if option not in _OPTIONS:
        raise InvalidSpec(f"{where}: {option!r} in {value!r} must be ro or rw; write {source}:ro")
    return source, _OPTIONS[option]


def plain_path(path: str, where: str) -> str:
    """Check that a path is written the shortest way."""
    shortest = posixpath.normpath(path)
    if path.startswith("//") or (path.rstrip("/") or "/") != shortest:
        raise InvalidSpec(f"{where}: {path!r} must be written without '.', '..' and doubled slashes; write {shortest.replace('//', '/')!r}")
    return shortest


def inside(target: str, where: str) -> str:
    """Check a folder in a container: absolute, written the shortest way, not the job's own."""
    if not target.startswith("/"):
        raise InvalidSpec(f"{where}: {target!r} must be an absolute folder in the container")
    path = plain_path(target, where)
    taken = next((folder for folder in _TAKEN if overlap(path, folder)), None)
    if taken is not None:
        raise InvalidSpec(f"{where}: {path} cannot be mounted over, {taken} is the job's own or the kernel's; take another, such as /data")
    return path


def overlap(one: str, other: str) -> bool:
    """Return whether two folders are the same, or one lies in the other.

    Examples
    --------
    >>> overlap("/var", "/var/run"), overlap("/var/run/x", "/var/run"), overlap("/var/runs", "/var/run")
    (True, True, False)
    """
    return is_in(one, other) or is_in(other, one)


def is_in(path: str, folder: str) -> bool:
    """Return whether a path is a folder, or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
