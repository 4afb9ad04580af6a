"""Rules by which every place that runs images refuses: its owner's word on images, host folders, volumes and settings.

Checked where a job is launched, whoever wrote its DAG. Nothing is open by default but
images. What is refused is refused whole, with the value, the rule, the place and a way out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from airflow_dla.errors import InvalidSpec, LaunchRefused
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.images import is_allowed
from airflow_dla.runtime.overrides import capability
from airflow_dla.runtime.volumes import Volume, is_in, overlap
from airflow_dla.specs import PlaceSpec

_Asked = TypeVar("_Asked")

#: Settings that name one of several, and the patterns of a policy that allow others than the place's own.
_RULES: Final = {
    "image_pull_secrets": "pull_secrets", "priority_class": "priority_classes", "service_account": "service_accounts", "user": "users",
}  # fmt: skip

#: Folders that hand over the host: each, what is in it and what it is in must be allowed word for word.
GUARDED: Final = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr",
    "/var/lib/containerd", "/var/lib/docker", "/var/lib/kubelet", "/var/run",
)  # fmt: skip

_SOCKETS: Final = ("docker.sock", "containerd.sock", "podman.sock", "crio.sock")


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
        raise LaunchRefused(
            f"image {image!r} is not allowed on place {place.name!r}, which allows {_all(place.policy.images)}; use one of these, "
            f"or ask the place's owner to add it to policy.images"
        )
    return image


def readable(read: Callable[[Mapping[str, Any]], _Asked], asked: Mapping[str, Any], place: PlaceSpec) -> _Asked:
    """Read what a job asks for; a mistake in writing is a refusal of the launch, too."""
    try:
        return read(asked)
    except InvalidSpec as error:
        raise LaunchRefused(f"{error} (place {place.name!r})") from None


# --- volumes -------------------------------------------------------------------------


def refuse_unnamed(kind: str, volume: Volume, place: PlaceSpec) -> None:
    """Refuse a volume, or whatever kind of thing a place has by name, that no pattern allows."""
    if not _matches(volume.source, place.policy.volumes):
        raise LaunchRefused(
            f"{kind} {volume.source!r} for {volume.target} is not allowed on place {place.name!r}, "
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


# --- settings of the engine or cluster -----------------------------------------------


def refuse_closed(given: Mapping[str, Any], place: PlaceSpec, *, by_rule: Collection[str]) -> None:
    """Refuse settings that the policy does not open by name, but for those that have a rule of their own."""
    for name, value in given.items():
        if name not in by_rule and name not in place.policy.overrides:
            raise closed(name, value, place, "policy.overrides")


def closed(name: str, value: Any, place: PlaceSpec, where: str) -> LaunchRefused:
    """Return the error of a setting that the policy does not open."""
    return LaunchRefused(
        f"overrides: {name}={value!r:.80} is not allowed on place {place.name!r}; leave it out, "
        f"or ask the place's owner to open it in {where}"
    )


def refuse_other(setting: str, value: str | None, place: PlaceSpec) -> None:
    """Refuse a value, unless it is None, that is not the place's own and that no pattern allows."""
    given, rule = getattr(place, setting), _RULES[setting]
    own, patterns = given if isinstance(given, tuple) else (given,), getattr(place.policy, rule)
    if value is not None and value not in own and not _matches(value, patterns):
        raise LaunchRefused(
            f"overrides: {setting} {value!r} is not allowed on place {place.name!r}, which allows {_all(patterns)} besides its own; "
            f"leave it out, or ask the place's owner to add it to policy.{rule}"
        )


def kept_capabilities(place: PlaceSpec) -> list[str]:
    """Return the capabilities that jobs of a place keep without asking."""
    return [capability(name, "policy.capabilities") for name in place.policy.capabilities]


def refuse_capabilities(wanted: Sequence[str], place: PlaceSpec) -> None:
    """Refuse capabilities that a place drops."""
    kept = kept_capabilities(place)
    more = [name for name in wanted if name not in kept]
    if more:
        raise LaunchRefused(
            f"overrides: cap_add asks for {', '.join(more)}, which place {place.name!r} drops; it keeps {_all(sorted(kept))}; "
            f"leave it out, or ask the place's owner to add it to policy.capabilities"
        )


def _matches(value: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)


def _all(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"
