"""The host: what it has against what the connection says, its disks, its packages."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from airflow_dla.cli.answer import size
from airflow_dla.cli.checks.check import Check
from airflow_dla.ledger.mounts import network_file_system
from airflow_dla.specs.resources import GIB

#: Below so many bytes a disk is short, and full.
_SHORT: Final = 5 * GIB
_FULL: Final = GIB // 4
#: Packages that the demo and most agents need, and the extra that brings them.
_PACKAGES: Final = ("torch", "safetensors", "sklearn")


def check_capacity(named: Mapping[str, float], found: Mapping[str, float]) -> Check:
    """Whether the connection's capacity is more than this host has.

    Parameters
    ----------
    named : mapping of resource to float
        What this host will grant.
    found : mapping of resource to float
        What was found here, in the same units; a resource that cannot be found out is left out.
    """
    more = [
        f"{resource} {named[resource]:g} of {found[resource]:g}"
        for resource in named
        if named[resource] > found.get(resource, named[resource])
    ]
    if more:
        fix = "lower `capacity` in the connection, or leave the resource out: then what is found counts"
        return Check("capacity", "warn", f"the connection gives more than this host has: {', '.join(more)}", fix)
    return Check("capacity", "ok", ", ".join(f"{resource} {amount:g}" for resource, amount in named.items()))


def gpus(devices: Path = Path("/dev")) -> int | None:
    """Return how many NVIDIA GPUs this host shows, None where others are, which are not counted."""
    if any((devices / other).exists() for other in ("kfd", "dxg")):
        return None
    return sum(path.name.removeprefix("nvidia").isdigit() for path in devices.glob("nvidia*"))


def check_disk(folders: Iterable[Path]) -> Check:
    """Whether the disks under some folders have room; folders that do not exist yet count with their parents."""
    free = {folder: shutil.disk_usage(_existing(folder)).free for folder in folders}
    if not free:
        return Check("disk", "ok", "nothing is kept on this host")
    message = ", ".join(f"{size(room)} free at {folder}" for folder, room in free.items())
    least = min(free.values())
    fix = "free space, collect garbage (`airflow dla artifacts gc`), or name folders on a larger disk in the connection"
    if least < _SHORT:
        return Check("disk", "fail" if least < _FULL else "warn", message, fix)
    return Check("disk", "ok", message)


def check_jobs_folder(folder: Path) -> Check:
    """Whether the folder of local jobs lies on a local disk: a lock in it says who may start a job."""
    kind = network_file_system(folder)
    if kind:
        fix = "name a folder on a local disk: jobs_folder in the connection"
        return Check("jobs folder", "fail", f"{folder} is on {kind}, whose locks are not kept between machines", fix)
    return Check("jobs folder", "ok", f"{folder} is on a local disk")


def check_packages(packages: Iterable[str] = _PACKAGES) -> Check:
    """Whether what most agents import is installed, importing none of it."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        message = f"{', '.join(missing)} not installed: the demo, and agents that need them, do not run in local processes here"
        return Check("packages", "warn", message, "pip install 'airflow-dla[local]'")
    return Check("packages", "ok", f"{', '.join(packages)} are installed")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
