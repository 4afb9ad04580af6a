"""Settings that a job may ask a place's engine or cluster for: how they are read, and what no place opens."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.values import refuse_unknown, text

#: Reads what was given, and says where in errors.
Parse = Callable[[Any, str], Any]

#: What to write instead of a setting that is never open.
REQUEST: Final = "it comes from what is granted: ask for it with request="
OURS: Final = "it is what attempts are found, read and collected by"
ENTRY: Final = "use entrypoint= and args="
ENV: Final = "use agent(env=…), and agent(secrets=…) for what must not be seen"
VOLUMES: Final = "use agent(volumes=…)"
#: Settings that no place opens, and what to write instead.
_CLOSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "command": ENTRY,
        "env": ENV,
        "environment": ENV,
        "gpus": REQUEST,
        "image": "use agent(image=…)",
        "memory": REQUEST,
        "name": OURS,
        "read_only": "the place's policy says it, as read_only",
        "restart_policy": "use policy(infra_retries=…), or retries= of the task",
        "shm_size": "it comes from what is granted: ask for it with request={'shm': '2GiB'}",
        "volumes": VOLUMES,
        "working_dir": "a job works in its code folder, /dla/code",
    }
)
_USER: Final = re.compile(r"(0|[1-9]\d*):(0|[1-9]\d*)")


def read(overrides: Mapping[str, Any], settings: Mapping[str, Parse], closed: Mapping[str, str]) -> dict[str, Any]:
    """Read what a job asks for, under the names it was asked by.

    Parameters
    ----------
    overrides : mapping
    settings : mapping of name to parser
        Those that are known at such a place.
    closed : mapping of str
        Those that are never open there, and what to write instead; besides those that no place opens.

    Raises
    ------
    InvalidSpec
        If a setting is unknown or never open, or its value cannot be read; says what to write instead.

    Examples
    --------
    >>> read({"user": "1000:1000"}, {"user": user}, {})
    {'user': '1000:1000'}
    >>> read({"env": {"A": "b"}}, {"user": user}, {})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: overrides: 'env' is never open; use agent(env=…), and ...
    """
    never = {**_CLOSED, **closed}
    for name in overrides:
        if name in never:
            raise InvalidSpec(f"overrides: {name!r} is never open; {never[name]}")
    refuse_unknown(overrides, list(settings), "overrides")
    found = {name: settings[name](value, f"overrides.{name}") for name, value in overrides.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def user(raw: object, where: str) -> str:
    """Parse ``uid:gid``."""
    found = text(raw, where)
    if not _USER.fullmatch(found):
        raise InvalidSpec(f"{where} must be uid:gid in numbers, such as 1000:1000, got {found!r}; a name means another user in each image")
    return found


def capability(raw: object, where: str) -> str:
    """Parse the name of a Linux capability, ``CAP_SYS_PTRACE`` or ``sys_ptrace``, as ``SYS_PTRACE``."""
    return text(raw, where).upper().removeprefix("CAP_")
