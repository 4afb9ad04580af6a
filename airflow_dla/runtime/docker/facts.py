"""What an engine and an image say of themselves: values to decide from."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

#: What an engine takes for the PATH of an image that names none.
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Storage drivers that limit a container's own files wherever they run.
_LIMITING: Final = frozenset({"btrfs", "devicemapper", "zfs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What an engine says of itself and of its host.

    Parameters
    ----------
    name : str
        Host name of the engine's machine.
    api_version : str
        The newest that it speaks: ``"1.41"``.
    cpus : int
    memory_bytes : int
    runtimes : tuple of str
        ``runc``, ``nvidia``, …
    storage_driver, backing_filesystem : str
        ``overlay2`` on ``extfs`` or ``xfs``, …
    cgroup_version : {1, 2}
    has_init : bool
        Whether it can put a small init before a program, which passes signals on and reaps.
    swap_limit : bool
        Whether it can limit memory and swap together.
    architecture : str
        ``x86_64``, ``aarch64``.
    log_drivers : tuple of str
        ``json-file``, ``local``, …
    """

    name: str
    api_version: str
    cpus: int
    memory_bytes: int
    runtimes: tuple[str, ...] = ("runc",)
    storage_driver: str = "overlay2"
    backing_filesystem: str = ""
    cgroup_version: int = 2
    has_init: bool = False
    swap_limit: bool = True
    architecture: str = "x86_64"
    log_drivers: tuple[str, ...] = ("json-file",)

    @classmethod
    def from_engine(cls, info: Mapping[str, Any], version: Mapping[str, Any]) -> Self:
        """Read what ``GET /info`` and ``GET /version`` answered."""
        return cls(
            name=str(info.get("Name") or ""),
            api_version=str(version.get("ApiVersion") or ""),
            cpus=int(info.get("NCPU") or 1),
            memory_bytes=int(info.get("MemTotal") or 0),
            runtimes=tuple(sorted(info.get("Runtimes") or ())),
            storage_driver=str(info.get("Driver") or ""),
            backing_filesystem=dict(info.get("DriverStatus") or ()).get("Backing Filesystem", ""),
            cgroup_version=int(info.get("CgroupVersion") or 1),
            has_init=any(part.get("Name") == "docker-init" for part in version.get("Components") or ()),
            swap_limit=bool(info.get("SwapLimit")),
            architecture=str(info.get("Architecture") or ""),
            log_drivers=tuple((info.get("Plugins") or {}).get("Log") or ("json-file",)),
        )

    @property
    def limits_disk(self) -> bool:
        """Whether its storage driver may limit what a container writes into its own files.

        Over XFS it can only where that is mounted with project quotas, which an engine
        does not tell before it is asked for one.
        """
        return self.storage_driver in _LIMITING or (self.storage_driver, self.backing_filesystem) == ("overlay2", "xfs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image says of itself.

    Parameters
    ----------
    id : str
        ``sha256:…``, which no later pull changes.
    path : tuple of str
        Folders where its programs are looked for.
    env : mapping of str
    user, workdir : str
    entrypoint, command : tuple of str
    """

    id: str
    path: tuple[str, ...] = tuple(DEFAULT_PATH.split(":"))
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @classmethod
    def from_inspect(cls, found: Mapping[str, Any]) -> Self:
        """Read what ``GET /images/NAME/json`` answered.

        Examples
        --------
        >>> image = Image.from_inspect({"Id": "sha256:1", "Config": {"Env": ["PATH=/opt/bin:/bin", "A=b=c"], "Cmd": None}})
        >>> image.path, image.env["A"]
        (('/opt/bin', '/bin'), 'b=c')
        """
        config = found.get("Config") or {}
        env = dict(_variable(entry) for entry in config.get("Env") or ())
        return cls(
            id=str(found["Id"]),
            path=tuple(folder for folder in env.get("PATH", DEFAULT_PATH).split(":") if posixpath.isabs(folder)),
            env=env,
            user=str(config.get("User") or ""),
            workdir=str(config.get("WorkingDir") or ""),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
        )


def _variable(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value
