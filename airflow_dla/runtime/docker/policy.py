"""What a place refuses: its owner's word on images, host folders, volumes and settings of the engine.

Checked where a job is launched, whoever wrote its DAG. Nothing is open by default but
images. What is refused is refused whole, with the value, the rule, the place and a way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from airflow_dla.errors import InvalidSpec, LaunchRefused
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.docker.overrides import asked, capability
from airflow_dla.runtime.docker.volumes import Volume, is_in, overlap, volumes
from airflow_dla.runtime.images import is_allowed
from airflow_dla.specs import PlaceSpec

#: Folders that hand over the host: each, what is in it and what it is in must be allowed word for word.
GUARDED: Final = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr",
    "/var/lib/containerd", "/var/lib/docker", "/var/lib/kubelet", "/var/run",
)  # fmt: skip

_SOCKETS: Final = ("docker.sock", "containerd.sock", "podman.sock", "crio.sock")
#: How volumes of ours are called, see `volume_ground`.
_OURS: Final = "dla-"
#: Settings that have a rule of their own; the others are opened by name.
_BY_RULE: Final = frozenset({"cap_add", "network", "network_mode", "privileged", "user"})


def image_of(launch: Launch, place: PlaceSpec) -> str:
    """Return the image that a job runs in: its agent's, else the place's.

    Raises
    ------
    LaunchRefused
        If neither names one, or the place does not allow it.
    """
    image = launch.image or place.image
    if not image:
        raise LaunchRefused(
            f"the job names no image and place {place.name!r} has none of its own; name one with agent(image=…), "
            f"or give the place an image in the connection"
        )
    if image != place.image and not is_allowed(image, place.policy.images):
        allowed = ", ".join(place.policy.images) or "none"
        raise LaunchRefused(
            f"image {image!r} is not allowed on place {place.name!r}, which allows {allowed}; use one of these, "
            f"or ask the place's owner to add it to policy.images"
        )
    return image


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
    image_of(launch, place)
    try:
        mounted = volumes(launch.volumes)
        settings = asked(launch.overrides)
    except InvalidSpec as error:
        raise LaunchRefused(f"{error} (place {place.name!r})") from None
    for volume in mounted:
        _refuse_volume(volume, place, resolve, [*GUARDED, *protected, *([place.folder] if place.folder else [])])
    _refuse_settings(launch.overrides, settings, place)


# --- volumes -------------------------------------------------------------------------


def _refuse_volume(volume: Volume, place: PlaceSpec, resolve: Callable[[str], str], guarded: Sequence[str]) -> None:
    if not volume.is_folder:
        _refuse_named(volume, place)
        return
    really = resolve(volume.source)
    for path in dict.fromkeys((volume.source, really)):
        via = "" if path == volume.source else f" (it leads to {path})"
        refuse_folder(volume, path, via, place, guarded)


def _refuse_named(volume: Volume, place: PlaceSpec) -> None:
    if volume.source.startswith(_OURS):
        raise LaunchRefused(
            f"volume {volume.source!r} for {volume.target} is not for jobs: on place {place.name!r} volumes named {_OURS}* hold other "
            "jobs' files; pass them on as outputs and inputs"
        )
    if not matches(volume.source, place.policy.volumes):
        raise LaunchRefused(
            f"volume {volume.source!r} for {volume.target} is not allowed on place {place.name!r}, "
            f"which allows {_all(place.policy.volumes)}; ask the place's owner to add it to policy.volumes"
        )


def refuse_folder(volume: Volume, path: str, via: str, place: PlaceSpec, guarded: Sequence[str]) -> None:
    """Refuse a folder of the host that no pattern allows; one that hands over the host must be named word for word.

    Parameters
    ----------
    volume : `Volume`
    path : str
        Where it really lies.
    via : str
        How the message says so where that is elsewhere.
    place : `PlaceSpec`
    guarded : sequence of str
        Folders that hand over the host, or are not for jobs.
    """
    is_guarded = _hands_over(path, place, guarded)
    patterns = [_pattern(raw) for raw in place.policy.mounts]
    found = [writes for pattern, writes in patterns if (path == pattern if is_guarded else fnmatchcase(path, pattern))]
    if not found:
        rule = f"allows {_all(place.policy.mounts)}"
        more = ", and such a folder only word for word, since it hands over the host" if is_guarded else ""
        raise LaunchRefused(
            f"host folder {volume.source!r}{via} for {volume.target} is not allowed on place {place.name!r}, which {rule}{more}; "
            f"pass data as inputs, or ask the place's owner to add it to policy.mounts"
        )
    if not volume.read_only and not any(found):
        raise LaunchRefused(
            f"host folder {volume.source!r}{via} for {volume.target} may only be read on place {place.name!r}; write "
            f"'{volume.source}:ro', or ask the place's owner for '{path}:rw' in policy.mounts"
        )


def _hands_over(path: str, place: PlaceSpec, guarded: Iterable[str]) -> bool:
    socket = place.url.removeprefix("unix://") if place.url.startswith("unix://") else ""
    return (
        path.rpartition("/")[2] in _SOCKETS
        or bool(socket and is_in(socket, path))
        or any(overlap(path, folder) for folder in guarded)
    )  # fmt: skip


def _pattern(raw: str) -> tuple[str, bool]:
    """Return a pattern of host folders, and whether they may be written."""
    return (raw.removesuffix(":rw"), True) if raw.endswith(":rw") else (raw.removesuffix(":ro"), False)


# --- settings of the engine ----------------------------------------------------------


def _refuse_settings(given: Mapping[str, Any], settings: Mapping[str, Any], place: PlaceSpec) -> None:
    if settings.get("Privileged") and not place.policy.privileged:
        raise _closed("privileged", True, place, "policy.privileged")
    if "NetworkMode" in settings:
        _refuse_network(settings["NetworkMode"], place)
    if "User" in settings:
        _refuse_user(settings["User"], place)
    _refuse_capabilities(settings.get("CapAdd", ()), place)
    for name, value in given.items():
        if name not in _BY_RULE and name not in place.policy.overrides:
            raise _closed(name, value, place, "policy.overrides")


def _closed(name: str, value: Any, place: PlaceSpec, where: str) -> LaunchRefused:
    return LaunchRefused(
        f"overrides: {name}={value!r:.80} is not allowed on place {place.name!r}; leave it out, "
        f"or ask the place's owner to open it in {where}"
    )


def _refuse_network(network: str, place: PlaceSpec) -> None:
    if network == "host":
        if not place.policy.host_network:
            raise _closed("network", network, place, "policy.host_network")
    elif network not in place.policy.networks:
        raise LaunchRefused(
            f"overrides: network {network!r} is not allowed on place {place.name!r}, which allows {_all(place.policy.networks)}; "
            f"ask the place's owner to add it to policy.networks"
        )


def _refuse_user(user: str, place: PlaceSpec) -> None:
    if user != place.user and not matches(user, place.policy.users):
        raise LaunchRefused(
            f"overrides: user {user!r} is not allowed on place {place.name!r}, which allows {_all(place.policy.users)} besides its own; "
            f"leave it out, or ask the place's owner to add it to policy.users"
        )


def _refuse_capabilities(wanted: Sequence[str], place: PlaceSpec) -> None:
    kept = {capability(name, "policy.capabilities") for name in place.policy.capabilities}
    more = [name for name in wanted if name not in kept]
    if more:
        raise LaunchRefused(
            f"overrides: cap_add asks for {', '.join(more)}, which place {place.name!r} drops; it keeps {_all(sorted(kept))}; "
            f"leave it out, or ask the place's owner to add it to policy.capabilities"
        )


def matches(value: str, patterns: Iterable[str]) -> bool:
    """Return whether any pattern allows a value."""
    return any(fnmatchcase(value, pattern) for pattern in patterns)


def _all(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"
