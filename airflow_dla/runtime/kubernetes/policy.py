"""What a place on Kubernetes refuses: its owner's word on images, claims, folders of nodes, and settings of pods.

Checked where a job is launched, whoever wrote its DAG. Nothing is open by default but
images. What is refused is refused whole, with the value, the rule, the place and a way out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_dla.errors import InvalidSpec, LaunchRefused
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.docker import policy as engines
from airflow_dla.runtime.docker import volumes as folders
from airflow_dla.runtime.docker.overrides import capability
from airflow_dla.runtime.images import is_allowed
from airflow_dla.runtime.kubernetes.overrides import asked
from airflow_dla.runtime.kubernetes.volumes import Volume, volumes
from airflow_dla.specs import PlaceSpec
from airflow_dla.specs.clusters import CLAIM

#: Folders of nodes that hand over the cluster, besides those that hand over any host.
GUARDED: Final = (
    *engines.GUARDED, "/etc/kubernetes", "/opt/cni", "/var/lib/cni", "/var/lib/etcd", "/var/lib/k0s", "/var/lib/rancher",
    "/var/log/containers", "/var/log/pods",
)  # fmt: skip

#: Settings that have a rule of their own; the others are opened by name.
_BY_RULE: Final = frozenset({"cap_add", "host_network", "image_pull_secrets", "priority_class", "privileged", "service_account", "user"})


def refuse(launch: Launch, place: PlaceSpec) -> None:
    """Refuse what a place does not allow.

    Raises
    ------
    LaunchRefused
        Names the value, the rule, the place and what would do.
    """
    engines.image_of(launch, place)
    try:
        mounted = volumes(launch.volumes)
        settings = asked(launch.overrides)
    except InvalidSpec as error:
        raise LaunchRefused(f"{error} (place {place.name!r})") from None
    for volume in mounted:
        _refuse_volume(volume, place)
    _refuse_settings(launch.overrides, settings, place)


def _refuse_volume(volume: Volume, place: PlaceSpec) -> None:
    if not volume.claim:
        folder = folders.Volume(target=volume.target, source=volume.source, read_only=volume.read_only)
        engines.refuse_folder(folder, volume.source, "", place, GUARDED)
        return
    if f"{CLAIM}{volume.source}" == place.scratch:
        raise LaunchRefused(
            f"claim {volume.source!r} for {volume.target} is not for jobs: on place {place.name!r} it holds other jobs' files; pass them "
            "on as outputs and inputs"
        )
    if not engines.matches(volume.source, place.policy.volumes):
        raise LaunchRefused(
            f"claim {volume.source!r} for {volume.target} is not allowed on place {place.name!r}, which allows "
            f"{_all(place.policy.volumes)}; ask the place's owner to add it to policy.volumes"
        )


def _refuse_settings(given: Mapping[str, Any], settings: Mapping[str, Any], place: PlaceSpec) -> None:
    rules = place.policy
    for name, opened in (("privileged", rules.privileged), ("host_network", rules.host_network)):
        if settings.get(name) and not opened:
            raise _closed(name, True, place, f"policy.{name}")
    for name in given:
        if name not in _BY_RULE and name not in rules.overrides:
            raise _closed(name, given[name], place, "policy.overrides")
    _refuse_names("service_account", settings.get("service_account"), (place.service_account,), rules.service_accounts, place)
    _refuse_names("priority_class", settings.get("priority_class"), (place.priority_class,), rules.priority_classes, place)
    for name in settings.get("image_pull_secrets", ()):
        _refuse_names("image_pull_secrets", name, place.image_pull_secrets, rules.pull_secrets, place)
    _refuse_names("user", settings.get("user"), (place.user,), rules.users, place)
    _refuse_capabilities(settings.get("cap_add", ()), place)
    for sidecar in settings.get("sidecars", ()):
        _refuse_image(sidecar, place)


_RULES: Final[Mapping[str, str]] = {
    "service_account": "policy.service_accounts",
    "priority_class": "policy.priority_classes",
    "image_pull_secrets": "policy.pull_secrets",
    "user": "policy.users",
}


def _closed(name: str, value: Any, place: PlaceSpec, where: str) -> LaunchRefused:
    return LaunchRefused(
        f"overrides: {name}={value!r:.80} is not allowed on place {place.name!r}; leave it out, "
        f"or ask the place's owner to open it in {where}"
    )


def _refuse_names(setting: str, value: str | None, own: Sequence[str | None], patterns: Iterable[str], place: PlaceSpec) -> None:
    """Refuse a name that is not the place's own and that no pattern allows."""
    if value is None or value in own or engines.matches(value, patterns):
        return
    raise LaunchRefused(
        f"overrides: {setting} {value!r} is not allowed on place {place.name!r}, which allows {_all(patterns)} besides its own; "
        f"leave it out, or ask the place's owner to add it to {_RULES[setting]}"
    )


def _refuse_capabilities(wanted: Sequence[str], place: PlaceSpec) -> None:
    kept = {capability(name, "policy.capabilities") for name in place.policy.capabilities}
    more = [name for name in wanted if name not in kept]
    if more:
        raise LaunchRefused(
            f"overrides: cap_add asks for {', '.join(more)}, which place {place.name!r} drops; it keeps {_all(sorted(kept))}; "
            f"leave it out, or ask the place's owner to add it to policy.capabilities"
        )


def _refuse_image(sidecar: Mapping[str, Any], place: PlaceSpec) -> None:
    if not is_allowed(sidecar["image"], place.policy.images):
        raise LaunchRefused(
            f"overrides: image {sidecar['image']!r} of sidecar {sidecar['name']!r} is not allowed on place {place.name!r}, which allows "
            f"{_all(place.policy.images)}; use one of these, or ask the place's owner to add it to policy.images"
        )


def _all(words: Iterable[str]) -> str:
    return ", ".join(words) or "none"
