"""Volumes of a job: persistent volume claims and folders of nodes, as an agent writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.docker.volumes import inside, plain_path
from airflow_dla.specs.clusters import CLAIM, object_name
from airflow_dla.specs.values import boolean, mapping, refuse_unknown, text

_OPTIONS: Final = {"rw": False, "ro": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What is mounted where.

    Parameters
    ----------
    target : str
        Folder in the container.
    source : str
        Folder of the node, or the name of a claim.
    claim : bool
        Which of the two it is.
    folder : str
        Of the claim; all of it where empty.
    read_only : bool
    """

    target: str
    source: str
    claim: bool = True
    folder: str = ""
    read_only: bool = False

    def mount(self, name: str) -> dict[str, Any]:
        """Return it as a container's mount."""
        found = {"name": name, "mountPath": self.target, "readOnly": self.read_only, "subPath": self.folder}
        return {key: value for key, value in found.items() if value}

    @property
    def origin(self) -> dict[str, Any]:
        """Where it comes from, as a pod's volume has it: a claim is one volume, however many of its folders are mounted."""
        if self.claim:
            return {"persistentVolumeClaim": {"claimName": self.source}}
        # What is not there is not made: a node would make it for root.
        return {"hostPath": {"path": self.source, "type": "Directory"}}


def volumes(given: Mapping[str, Any]) -> tuple[Volume, ...]:
    """Read an agent's volumes, sorted by target.

    Parameters
    ----------
    given : mapping of folder in the container to where it comes from
        ``"pvc:cache"``, ``"pvc:cache/models:ro"`` (a folder of the claim), ``"/srv/data:ro"`` (of
        the node), or ``{"source": …, "read_only": true}``.

    Raises
    ------
    InvalidSpec
        If a path is relative or is not written the shortest way, a claim's name is none, or a
        target is taken.

    Examples
    --------
    >>> for volume in volumes({"/data": "/srv/data:ro", "/cache": "pvc:hf-cache/models"}):
    ...     print(volume.source, volume.folder, volume.target, volume.read_only)
    hf-cache models /cache False
    /srv/data  /data True
    >>> volumes({"/cache": "hf-cache"})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: volumes./cache: 'hf-cache' is no volume of a cluster; write 'pvc:hf-cache' for a claim, or ...
    """
    found = [_volume(target, value) for target, value in given.items()]
    targets = [volume.target for volume in found]
    twice = {target for target in targets if targets.count(target) > 1}
    if twice:
        raise InvalidSpec(f"volumes: {', '.join(sorted(twice))} is mounted twice; give each folder in the container once")
    return tuple(sorted(found, key=lambda volume: volume.target))


def mounted(found: Sequence[Volume]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes of a pod and the mounts of its container.

    Examples
    --------
    >>> mounted(volumes({"/a": "pvc:cache/a", "/b": "pvc:cache/b"}))[0]
    [{'name': 'asked-0', 'persistentVolumeClaim': {'claimName': 'cache'}}]
    """
    origins: dict[tuple[bool, str], str] = {}
    for volume in found:
        origins.setdefault((volume.claim, volume.source), f"asked-{len(origins)}")
    by_name = {origins[volume.claim, volume.source]: volume.origin for volume in found}
    mounts = [volume.mount(origins[volume.claim, volume.source]) for volume in found]
    return [{"name": name, **origin} for name, origin in by_name.items()], mounts


def _volume(target: str, value: Any) -> Volume:
    where = f"volumes.{target}"
    source, read_only = _read(value, where)
    inner = inside(target, where)
    if source.startswith("/"):
        return Volume(target=inner, source=plain_path(source, where), claim=False, read_only=read_only)
    if not source.startswith(CLAIM):
        raise InvalidSpec(
            f"{where}: {source!r} is no volume of a cluster; write '{CLAIM}{source}' for a claim, or a node's absolute folder"
        )
    name, _, folder = source.removeprefix(CLAIM).partition("/")
    plain = plain_path(f"/{folder}", where).strip("/") if folder else ""
    return Volume(target=inner, source=object_name(name or source, where), folder=plain, read_only=read_only)


def _read(value: Any, where: str) -> tuple[str, bool]:
    if isinstance(value, Mapping):
        refuse_unknown(mapping(value, where), ("source", "read_only"), where)
        return text(value.get("source"), f"{where}.source"), boolean(value.get("read_only", False), f"{where}.read_only")
    found = text(value, where)
    head, colon, option = found.rpartition(":")
    if not colon or f"{head}:" == CLAIM:
        return found, False
    if option in _OPTIONS:
        return head, _OPTIONS[option]
    raise InvalidSpec(f"{where}: {option!r} in {value!r} must be ro or rw; write {head}:ro")
