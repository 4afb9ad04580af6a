"""Volumes of a job, as an agent writes them: folders of the host it runs on, and what a place knows by name."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.clusters import CLAIM
from airflow_dla.specs.values import boolean, mapping, refuse_unknown, text

#: Reads what is no folder of a host, and says where in errors: its name, and a folder of it.
Named = Callable[[str, str], tuple[str, str]]

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
        Folder of the host, or the name of a volume or a claim.
    folder : str
        Of what has a name; all of it where empty.
    read_only : bool
    """

    target: str
    source: str
    folder: str = ""
    read_only: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of the host."""
        return self.source.startswith("/")


def read(given: Mapping[str, Any], named: Named) -> tuple[Volume, ...]:
    """Read an agent's volumes, sorted by target.

    Parameters
    ----------
    given : mapping of folder in the container to where it comes from
        ``"/srv/data:ro"``, ``"/srv/scratch"`` (read and write), what a place has by name, or
        ``{"source": …, "read_only": true}``.
    named : callable
        Reads such a name.

    Raises
    ------
    InvalidSpec
        If a path is relative or is not written the shortest way, or a target is taken.

    Examples
    --------
    >>> [volume.source for volume in read({"/data": "/srv/data:ro", "/cache": "hf-cache"}, lambda name, where: (name, ""))]
    ['hf-cache', '/srv/data']
    """
    found = [_volume(target, value, named) for target, value in given.items()]
    targets = [volume.target for volume in found]
    twice = {target for target in targets if targets.count(target) > 1}
    if twice:
        raise InvalidSpec(f"volumes: {', '.join(sorted(twice))} is mounted twice; give each folder in the container once")
    return tuple(sorted(found, key=lambda volume: volume.target))


def _volume(target: str, value: Any, named: Named) -> Volume:
    where = f"volumes.{target}"
    source, read_only = _source(value, where)
    name, folder = (plain_path(source, where), "") if source.startswith("/") else named(source, where)
    return Volume(target=_inside(target, where), source=name, folder=folder, read_only=read_only)


def _source(value: Any, where: str) -> tuple[str, bool]:
    if isinstance(value, Mapping):
        refuse_unknown(mapping(value, where), ("source", "read_only"), where)
        return text(value.get("source"), f"{where}.source"), boolean(value.get("read_only", False), f"{where}.read_only")
    written = text(value, where)
    kind = CLAIM if written.startswith(CLAIM) else ""
    name, _, option = written.removeprefix(kind).partition(":")
    if option not in _OPTIONS:
        raise InvalidSpec(f"{where}: {option!r} in {value!r} must be ro or rw; write {kind}{name}:ro")
    return kind + name, _OPTIONS[option]


def plain_path(path: str, where: str) -> str:
    """Check that a path is written the shortest way."""
    shortest = posixpath.normpath(path)
    if path.startswith("//") or (path.rstrip("/") or "/") != shortest:
        raise InvalidSpec(f"{where}: {path!r} must be written without '.', '..' and doubled slashes; write {shortest.replace('//', '/')!r}")
    return shortest


def _inside(target: str, where: str) -> str:
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
