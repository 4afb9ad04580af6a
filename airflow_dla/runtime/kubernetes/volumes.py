"""Volumes of a job on a cluster: persistent volume claims, and folders of its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.volumes import Volume, plain_path, read
from airflow_dla.specs.clusters import CLAIM, object_name


def volumes(given: Mapping[str, Any]) -> tuple[Volume, ...]:
    """Read an agent's volumes, sorted by target; what is no folder is a claim, or a folder of one.

    Raises
    ------
    InvalidSpec
        As `airflow_dla.runtime.volumes.read` does, and if a claim's name is none.

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
    return read(given, _claim)


def mounted(found: Sequence[Volume]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes of a pod and the mounts of its container: a claim is one volume, however many of its folders are mounted.

    Examples
    --------
    >>> mounted(volumes({"/a": "pvc:cache/a", "/b": "pvc:cache/b"}))[0]
    [{'name': 'asked-0', 'persistentVolumeClaim': {'claimName': 'cache'}}]
    """
    names = {source: f"asked-{number}" for number, source in enumerate(dict.fromkeys(volume.source for volume in found))}
    return [{"name": name, **_origin(source)} for source, name in names.items()], [_mount(volume, names[volume.source]) for volume in found]


def _origin(source: str) -> dict[str, Any]:
    if not source.startswith("/"):
        return {"persistentVolumeClaim": {"claimName": source}}
    # What is not there is not made: a node would make it for root.
    return {"hostPath": {"path": source, "type": "Directory"}}


def _mount(volume: Volume, name: str) -> dict[str, Any]:
    found = {"name": name, "mountPath": volume.target, "readOnly": volume.read_only, "subPath": volume.folder}
    return {key: value for key, value in found.items() if value}


def _claim(source: str, where: str) -> tuple[str, str]:
    if not source.startswith(CLAIM):
        raise InvalidSpec(
            f"{where}: {source!r} is no volume of a cluster; write '{CLAIM}{source}' for a claim, or a node's absolute folder"
        )
    name, _, folder = source.removeprefix(CLAIM).partition("/")
    return object_name(name or source, where), plain_path(f"/{folder}", where).strip("/") if folder else ""
