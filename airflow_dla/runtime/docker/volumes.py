"""Volumes of a job on an engine: folders of its host, and named volumes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.volumes import Volume, read

_NAMED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+")


def volumes(given: Mapping[str, Any]) -> tuple[Volume, ...]:
    """Read an agent's volumes, sorted by target; what is no folder is the name of a volume.

    Raises
    ------
    InvalidSpec
        As `airflow_dla.runtime.volumes.read` does, and if a name is none.

    Examples
    --------
    >>> for volume in volumes({"/data": "/srv/data:ro", "/cache": {"source": "hf-cache"}}):
    ...     print(volume.source, volume.target, volume.read_only)
    hf-cache /cache False
    /srv/data /data True
    """
    return read(given, _named)


def mount(volume: Volume) -> dict[str, Any]:
    """Return a volume as the engine's ``Mount``."""
    kind = "bind" if volume.is_folder else "volume"
    return {"Type": kind, "Source": volume.source, "Target": volume.target, "ReadOnly": volume.read_only}


def _named(source: str, where: str) -> tuple[str, str]:
    if not _NAMED.fullmatch(source):
        rule = "an absolute folder of the engine's host, or a volume's name of A-Z a-z 0-9 _ . -"
        raise InvalidSpec(f"{where}: {source!r} must be {rule}; a relative path means nothing on another host")
    return source, ""
