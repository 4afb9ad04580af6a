"""Settings of the engine that a job may ask for: their names, what they mean, and those that are never open."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.values import boolean, integer, mapping, mapping_of, refuse_unknown, remark, sequence_of, text

Parse = Callable[[Any, str], Any]

_USER: Final = re.compile(r"(0|[1-9]\d*):(0|[1-9]\d*)")
_PAIR: Final = 2


def _user(raw: object, where: str) -> str:
    found = text(raw, where)
    if not _USER.fullmatch(found):
        raise InvalidSpec(f"{where} must be uid:gid in numbers, such as 1000:1000, got {found!r}; a name means another user in each image")
    return found


def capability(raw: object, where: str) -> str:
    """Parse the name of a Linux capability, ``CAP_SYS_PTRACE`` or ``sys_ptrace``, as ``SYS_PTRACE``."""
    return text(raw, where).upper().removeprefix("CAP_")


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
        "user": ("User", _user),
    }
)

#: Those that stand beside ``HostConfig``, not in it.
TOP: Final = frozenset({"Hostname", "StopSignal", "User"})

_REQUEST: Final = "it comes from what is granted: ask for it with request="
_OURS: Final = "it is what attempts are found, read and collected by"
#: Settings that are never open, and what to write instead.
_CLOSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "auto_remove": _OURS,
        "binds": "use agent(volumes=…)",
        "command": "use entrypoint= and args=",
        "cpus": _REQUEST,
        "cpuset_cpus": _REQUEST,
        "device_requests": _REQUEST,
        "entrypoint": "use entrypoint= and args=",
        "env": "use agent(env=…), and agent(secrets=…) for what must not be seen",
        "environment": "use agent(env=…), and agent(secrets=…) for what must not be seen",
        "gpus": _REQUEST,
        "image": "use agent(image=…)",
        "labels": _OURS,
        "log_config": _OURS,
        "log_driver": _OURS,
        "mem_limit": _REQUEST,
        "memory": _REQUEST,
        "memswap_limit": _REQUEST,
        "mounts": "use agent(volumes=…)",
        "name": _OURS,
        "nano_cpus": _REQUEST,
        "pids_limit": "the place's policy says it, as pids",
        "read_only": "the place's policy says it, as read_only",
        "restart_policy": "use policy(infra_retries=…), or retries= of the task",
        "shm_size": "it comes from what is granted: ask for it with request={'shm': '2GiB'}",
        "volumes": "use agent(volumes=…)",
        "working_dir": "a job works in its code folder, /dla/code",
    }
)


def asked(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a job asks of an engine, under the engine's own names.

    Raises
    ------
    InvalidSpec
        If a setting is unknown or never open, or its value cannot be read; says what to write instead.

    Examples
    --------
    >>> asked({"network": "none", "ulimits": {"nofile": 4096}})
    {'NetworkMode': 'none', 'Ulimits': [{'Name': 'nofile', 'Soft': 4096, 'Hard': 4096}]}
    >>> asked({"environment": {"A": "b"}})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: overrides: 'environment' is never open; use agent(env=…), and ...
    """
    for name in overrides:
        if name in _CLOSED:
            raise InvalidSpec(f"overrides: {name!r} is never open; {_CLOSED[name]}")
    refuse_unknown(overrides, list(SETTINGS), "overrides")
    if {"network", "network_mode"} <= set(overrides):
        raise InvalidSpec("overrides: 'network' and 'network_mode' are the same; give one")
    found = ((SETTINGS[name], f"overrides.{name}", value) for name, value in overrides.items())
    return {engine: _listed(parse(value, where)) for (engine, parse), where, value in found}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
