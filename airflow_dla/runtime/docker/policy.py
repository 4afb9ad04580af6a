"""What an engine's place refuses: what every place does, by its own names of volumes and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import policy
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.docker.overrides import asked
from airflow_dla.runtime.docker.volumes import volumes
from airflow_dla.runtime.volumes import Volume
from airflow_dla.specs import PlaceSpec

#: How volumes of ours are called, see `volume_ground`.
_OURS: Final = "dla-"
#: Settings that have a rule of their own; the others are opened by name.
_BY_RULE: Final = frozenset({"cap_add", "network", "network_mode", "privileged", "user"})


def refuse(launch: Launch, place: PlaceSpec, *, resolve: Callable[[str], str] = str, protected: Sequence[str] = ()) -> None:
    """Refuse what a place does not allow.

    Parameters
    ----------
    launch : `Launch`
    place : `PlaceSpec`
    resolve : callable, default the path itself
        Returns where a host folder really lies; for an engine of this host, what follows symbolic
        links. On another host nobody looks: there, allow no folder in which jobs can write.
    protected : sequence of str
        Further host folders that are not for jobs: those of other jobs.

    Raises
    ------
    LaunchRefused
        Names the value, the rule, the place and what would do.
    """
    policy.image_of(launch, place)
    mounted = policy.readable(volumes, launch.volumes, place)
    settings = policy.readable(asked, launch.overrides, place)
    for volume in mounted:
        _refuse_volume(volume, place, resolve, [*policy.GUARDED, *protected, *([place.folder] if place.folder else [])])
    _refuse_settings(launch.overrides, settings, place)


def _refuse_volume(volume: Volume, place: PlaceSpec, resolve: Callable[[str], str], guarded: Sequence[str]) -> None:
    if not volume.is_folder:
        _refuse_named(volume, place)
        return
    really = resolve(volume.source)
    for path in dict.fromkeys((volume.source, really)):
        via = "" if path == volume.source else f" (it leads to {path})"
        policy.refuse_folder(volume, path, via, place, guarded)


def _refuse_named(volume: Volume, place: PlaceSpec) -> None:
    if volume.source.startswith(_OURS):
        raise LaunchRefused(
            f"volume {volume.source!r} for {volume.target} is not for jobs: on place {place.name!r} volumes named {_OURS}* hold other "
            "jobs' files; pass them on as outputs and inputs"
        )
    policy.refuse_unnamed("volume", volume, place)


def _refuse_settings(given: Mapping[str, Any], settings: Mapping[str, Any], place: PlaceSpec) -> None:
    if settings.get("Privileged") and not place.policy.privileged:
        raise policy.closed("privileged", True, place, "policy.privileged")
    if "NetworkMode" in settings:
        _refuse_network(settings["NetworkMode"], place)
    policy.refuse_other("user", settings.get("User"), place)
    policy.refuse_capabilities(settings.get("CapAdd", ()), place)
    policy.refuse_closed(given, place, by_rule=_BY_RULE)


def _refuse_network(network: str, place: PlaceSpec) -> None:
    if network == "host":
        if not place.policy.host_network:
            raise policy.closed("network", network, place, "policy.host_network")
    elif network not in place.policy.networks:
        raise LaunchRefused(
            f"overrides: network {network!r} is not allowed on place {place.name!r}, which allows {', '.join(place.policy.networks)}; "
            f"ask the place's owner to add it to policy.networks"
        )
