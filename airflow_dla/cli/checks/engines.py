"""Docker places: whether their engines answer, and what they can hold a job to."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_dla.cli.checks.check import Check
from airflow_dla.hooks.connections import RegistryLogin
from airflow_dla.hooks.docker import check_login, clients
from airflow_dla.hooks.settings import Settings
from airflow_dla.ledger import NodeRow
from airflow_dla.specs import PlaceSpec

#: The oldest engine API that is used.
_API: Final = (1, 41)


def check_engine(place: PlaceSpec) -> Check:
    """Whether a place's engine answers, is new enough, and can put limits in force."""
    client = clients(place)()
    try:
        return engine_found(place, client.info(), client.version(), counts_gpus=importlib.util.find_spec("pynvml") is not None)
    finally:
        client.close()


def engine_found(place: PlaceSpec, info: Mapping[str, Any], version: Mapping[str, Any], *, counts_gpus: bool = True) -> Check:
    """Say what an engine's answers mean.

    Parameters
    ----------
    place : `PlaceSpec`
    info, version : mapping
        What it says to ``GET /info`` and ``GET /version``.
    counts_gpus : bool
        Whether the driver's library is here, without which no GPU is found.
    """
    name, spoken = f"place {place.name}", str(version.get("ApiVersion", "0"))
    if tuple(map(int, spoken.split("."))) < _API:
        wanted = ".".join(map(str, _API))
        return Check(
            name, "fail", f"its engine speaks API {spoken}, and {wanted} is the oldest that is used", "install Docker 20.10 or later"
        )
    runtimes = sorted(info.get("Runtimes") or ())
    rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
    said = [
        f"engine {version.get('Version', '?')}, API {spoken}{', rootless' if rootless else ''}",
        f"cgroup v{info.get('CgroupVersion', '1')} by {info.get('CgroupDriver', '?')}",
        f"{info.get('NCPU', 0)} CPUs, {info.get('MemTotal', 0) / 2**30:.1f} GiB",
        f"GPUs by {place.runtime or 'nvidia'}" if (place.runtime or "nvidia") in runtimes else "no runtime for GPUs",
    ]
    if place.runtime is not None and place.runtime not in runtimes:
        fix = f"install it there, or name one of {', '.join(runtimes)} as the place's runtime"
        return Check(name, "fail", f"{'; '.join(said)}; the engine has no runtime {place.runtime!r}", fix)
    missing = _not_in_force(info)
    if not missing and not counts_gpus and (place.runtime or "nvidia") == "nvidia" in runtimes and "gpu" not in place.capacity:
        fix = "pip install 'airflow-dla[gpu]', or name them in the place's capacity"
        return Check(name, "warn", f"{'; '.join(said)}; its GPUs are not found without nvidia-ml-py", fix)
    fix = "give the engine control groups with cpu, cpuset, memory and pids (systemd: Delegate=yes)" if missing else ""
    return Check(name, "warn" if missing else "ok", "; ".join([*said, *missing]), fix)


def _not_in_force(info: Mapping[str, Any]) -> list[str]:
    """Return which limits the engine cannot put in force, in words."""
    if info.get("CgroupDriver") == "none":
        return ["no limit is in force: it has no control groups"]
    limits = {"CpuCfsQuota": "CPUs", "CPUSet": "CPU sets", "MemoryLimit": "memory", "PidsLimit": "processes"}
    return [f"limits of {what} are not in force" for flag, what in limits.items() if info.get(flag) is False]


def check_registry(place: PlaceSpec, login: RegistryLogin) -> Check:
    """Whether a place's registry lets its engine in."""
    client = clients(place)()
    try:
        check_login(client, place, login)
    finally:
        client.close()
    return Check(f"registry of {place.name}", "ok", f"{login.registry} lets {login.username!r} in")


def check_forgotten(nodes: Sequence[NodeRow], settings: Settings) -> Check:
    """Whether nodes are left of places that the connection names no more: jobs could be granted what nobody reaches."""
    places = {place.name for place in settings.places}
    left = [row.node.name for row in nodes if row.host and row.node.place not in places]
    if left:
        fix = f"run `airflow dla nodes remove {left[0]}`, or name its place in the connection again"
        return Check("old nodes", "warn", f"{', '.join(left)} belong to places that the connection does not name", fix)
    return Check("old nodes", "ok", "every node that hosts registered belongs to a place of the connection")


def check_offered_once(settings: Settings) -> Check:
    """Whether a local place and an engine beside it offer the same CPUs and memory twice."""
    beside = [place for place in settings.engines if place.on_this_host]
    twice = [
        resource
        for resource in ("cpu", "memory")
        if settings.place and resource not in settings.capacity and any(resource not in place.capacity for place in beside)
    ]
    if twice:
        message = (
            f"places {settings.place} and {', '.join(place.name for place in beside)} both offer all {' and '.join(twice)} of this host"
        )
        fix = "say in the connection's `capacity` what the local place has: the engine then offers what is left"
        return Check("places", "warn", message, fix)
    return Check("places", "ok", ", ".join(f"{place.name} ({place.kind})" for place in settings.places) or "none: no job can run")
