"""What a cluster's place refuses: what every place does, by its own names of volumes and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import policy
from airflow_dla.runtime.contract import Launch
from airflow_dla.runtime.images import is_allowed
from airflow_dla.runtime.kubernetes.overrides import asked
from airflow_dla.runtime.kubernetes.volumes import volumes
from airflow_dla.runtime.volumes import Volume
from airflow_dla.specs import PlaceSpec
from airflow_dla.specs.clusters import CLAIM

#: Folders of nodes that hand over the cluster, besides those that hand over any host.
GUARDED: Final = (
    *policy.GUARDED, "/etc/kubernetes", "/opt/cni", "/var/lib/cni", "/var/lib/etcd", "/var/lib/k0s", "/var/lib/rancher",
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
    policy.image_of(launch, place)
    mounted = policy.readable(volumes, launch.volumes, place)
    settings = policy.readable(asked, launch.overrides, place)
    for volume in mounted:
        _refuse_volume(volume, place)
    _refuse_settings(launch.overrides, settings, place)


def _refuse_volume(volume: Volume, place: PlaceSpec) -> None:
    if volume.is_folder:
        policy.refuse_folder(volume, volume.source, "", place, GUARDED)
        return
    if f"{CLAIM}{volume.source}" == place.scratch:
        raise LaunchRefused(
            f"claim {volume.source!r} for {volume.target} is not for jobs: on place {place.name!r} it holds other jobs' files; pass them "
            "on as outputs and inputs"
        )
    policy.refuse_unnamed("claim", volume, place)


def _refuse_settings(given: Mapping[str, Any], settings: Mapping[str, Any], place: PlaceSpec) -> None:
    rules = place.policy
    for name, opened in (("privileged", rules.privileged), ("host_network", rules.host_network)):
        if settings.get(name) and not opened:
            raise policy.closed(name, True, place, f"policy.{name}")
    policy.refuse_closed(given, place, by_rule=_BY_RULE)
    for name in ("service_account", "priority_class", "user"):
        policy.refuse_other(name, settings.get(name), place)
    for secret in settings.get("image_pull_secrets", ()):
        policy.refuse_other("image_pull_secrets", secret, place)
    policy.refuse_capabilities(settings.get("cap_add", ()), place)
    for sidecar in settings.get("sidecars", ()):
        _refuse_image(sidecar, place)


def _refuse_image(sidecar: Mapping[str, Any], place: PlaceSpec) -> None:
    if not is_allowed(sidecar["image"], place.policy.images):
        raise LaunchRefused(
            f"overrides: image {sidecar['image']!r} of sidecar {sidecar['name']!r} is not allowed on place {place.name!r}, which allows "
            f"{', '.join(place.policy.images) or 'none'}; use one of these, or ask the place's owner to add it to policy.images"
        )
