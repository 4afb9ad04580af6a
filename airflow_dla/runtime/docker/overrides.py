"""Settings of the engine that a job may ask for: their names, what they mean, and those that are never open."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.overrides import ENTRY, OURS, REQUEST, VOLUMES, Parse, capability, read, user
from airflow_dla.specs.values import boolean, integer, mapping, mapping_of, remark, sequence_of, text

_PAIR: Final = 2


def _device(raw: object, where: str) -> dict[str, str]:
    """Parse ``/dev/fuse``, ``/dev/sda:/dev/xvda`` or ``/dev/sda:/dev/xvda:r``."""
    host, _, rest = text(raw, where).partition(":")
    inside, _, permissions = rest.partition(":")
    return {"PathOnHost": host, "PathInContainer": inside or host, "CgroupPermissions": permissions or "rwm"}


def _hosts(raw: object, where: str) -> list[str]:
    """Parse ``["name:address"]`` or ``{name: address}``."""
    if isinstance(raw, Mapping):
        return [f"{name}:{address}" for name, address in mapping_of(text)(raw, where).items()]
    return list(sequence_of(text)(raw, where))


def _ulimits(raw: object, where: str) -> list[dict[str, Any]]:
    """Parse ``{"nofile": 4096, "stack": [soft, hard]}``."""
    return [_ulimit(name, value, f"{where}.{name}") for name, value in mapping(raw, where).items()]


def _ulimit(name: str, raw: object, where: str) -> dict[str, Any]:
    pair = sequence_of(integer)(raw, where) if isinstance(raw, (list, tuple)) else (integer(raw, where),) * _PAIR
    if len(pair) != _PAIR:
        raise InvalidSpec(f"{where} must be one number, or [soft, hard], got {raw!r:.80}")
    return {"Name": name, "Soft": pair[0], "Hard": pair[1]}


_TEXTS: Final = sequence_of(text)

#: Settings by name: the engine's own name for it, in ``HostConfig`` unless it is one of `TOP`, and its parser.
SETTINGS: Final[Mapping[str, tuple[str, Parse]]] = MappingProxyType(
    {
        "cap_add": ("CapAdd", sequence_of(capability)),
        "devices": ("Devices", sequence_of(_device)),
        "dns": ("Dns", _TEXTS),
        "dns_options": ("DnsOptions", _TEXTS),
        "dns_search": ("DnsSearch", _TEXTS),
        "extra_hosts": ("ExtraHosts", _hosts),
        "group_add": ("GroupAdd", _TEXTS),
        "hostname": ("Hostname", text),
        "init": ("Init", boolean),
        "ipc_mode": ("IpcMode", text),
        "network": ("NetworkMode", text),
        "network_mode": ("NetworkMode", text),
        "oom_score_adj": ("OomScoreAdj", integer),
        "pid_mode": ("PidMode", text),
        "privileged": ("Privileged", boolean),
        "runtime": ("Runtime", text),
        "security_opt": ("SecurityOpt", _TEXTS),
        "stop_signal": ("StopSignal", text),
        "sysctls": ("Sysctls", mapping_of(text)),
        "tmpfs": ("Tmpfs", mapping_of(remark)),
        "ulimits": ("Ulimits", _ulimits),
        "user": ("User", user),
    }
)

#: Those that stand beside ``HostConfig``, not in it.
TOP: Final = frozenset({"Hostname", "StopSignal", "User"})

#: Settings that are never open, and what to write instead; besides those that no place opens.
_CLOSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "auto_remove": OURS,
        "binds": VOLUMES,
        "cpus": REQUEST,
        "cpuset_cpus": REQUEST,
        "device_requests": REQUEST,
        "entrypoint": ENTRY,
        "labels": OURS,
        "log_config": OURS,
        "log_driver": OURS,
        "mem_limit": REQUEST,
        "memswap_limit": REQUEST,
        "mounts": VOLUMES,
        "nano_cpus": REQUEST,
        "pids_limit": "the place's policy says it, as pids",
    }
)


def asked(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a job asks of an engine, under the engine's own names.

    Raises
    ------
    InvalidSpec
        As `airflow_dla.runtime.overrides.read` does.

    Examples
    --------
    >>> asked({"network": "none", "ulimits": {"nofile": 4096}})
    {'NetworkMode': 'none', 'Ulimits': [{'Name': 'nofile', 'Soft': 4096, 'Hard': 4096}]}
    """
    if {"network", "network_mode"} <= set(overrides):
        raise InvalidSpec("overrides: 'network' and 'network_mode' are the same; give one")
    found = read(overrides, {name: parse for name, (_, parse) in SETTINGS.items()}, _CLOSED)
    return {SETTINGS[name][0]: value for name, value in found.items()}
