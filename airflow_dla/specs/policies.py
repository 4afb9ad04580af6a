"""What the owner of a place lets jobs ask of it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import boolean, natural, positive, sequence_of, written

_image = written(r"\S+", "an image such as 'registry.example.org/team/train:1.2', without spaces")
_users = written(r"[\d*?:!\[\]-]+", "a pattern of 'uid:gid' in digits such as '1000:*'")
_mount = written(r"[/*].*", "a pattern of absolute paths such as '/data/*', with ':rw' behind it where jobs may write")
_volume = written(r"[^\s/:]+", "a pattern of volumes' names such as 'cache-*'; folders go into mounts")
_network = written(r"[A-Za-z0-9][\w.-]*", "the name of a network")
_setting = written(r"[a-z][a-z0-9_]*", "the name of an engine's setting such as 'dns'")
_capability = written(r"[A-Z][A-Z_]*", "a Linux capability such as 'SYS_PTRACE', or 'ALL'")
_named = written(r"[^\s/:]+", "a pattern of names such as 'train-*'")

#: Fields that mean something to one kind of place only.
OF_DOCKER: Final = ("networks", "pids")
OF_KUBERNETES: Final = ("service_accounts", "priority_classes", "pull_secrets")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlacePolicy(Spec):
    """What a job may ask of a container engine or a cluster; whoever owns the place says it, not who writes the DAG.

    Everything is closed by default but images. Patterns are those of a shell (``*`` stands for
    anything, ``/`` included).

    Parameters
    ----------
    images : tuple of str
        Patterns of allowed images, with their registry where they name one.
    mounts : tuple of str
        Patterns of the host's folders that may be mounted, read-only unless they end with ``:rw``.
    volumes : tuple of str
        Patterns of the engine's named volumes, or of a namespace's persistent volume claims, that may be mounted.
    privileged : bool
        Whether a job may ask for ``privileged`` in its overrides.
    host_network : bool
        Whether a job may share the host's network.
    networks : tuple of str
        Docker: networks that a job may ask for; the first is what it gets without asking.
    users : tuple of str
        Patterns of ``uid:gid`` that a job may ask for besides the place's own.
    overrides : tuple of str
        Names of further settings of the engine that a job may make (``dns``, ``ulimits``; ``node_selector``, ``sidecars``).
    capabilities : tuple of str
        Linux capabilities that jobs keep; all others are dropped.
    read_only : bool
        Whether the image's own files are read-only; ``/tmp`` and the job's folders never are.
    pids : int, >= 1
        Docker: most processes and threads of one job. A cluster's kubelets have a limit of their own.
    service_accounts, priority_classes, pull_secrets : tuple of str
        Kubernetes: patterns of what a job may name besides the place's own.

    Examples
    --------
    >>> PlacePolicy.from_mapping({"images": ["registry.example.org/*"], "mounts": ["/data/*", "/scratch/*:rw"]}).pids
    4096
    >>> PlacePolicy.from_mapping({"mounts": ["data"]})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: policy.mounts[0] must be a pattern of absolute paths such as '/data/*', ...
    """

    called: ClassVar[str] = "policy"

    images: tuple[str, ...] = spec_field(sequence_of(_image), default=("*",))
    mounts: tuple[str, ...] = spec_field(sequence_of(_mount), default=())
    volumes: tuple[str, ...] = spec_field(sequence_of(_volume), default=())
    privileged: bool = spec_field(boolean, default=False)
    host_network: bool = spec_field(boolean, default=False)
    networks: tuple[str, ...] = spec_field(sequence_of(_network), default=("bridge", "none"))
    users: tuple[str, ...] = spec_field(sequence_of(_users), default=())
    overrides: tuple[str, ...] = spec_field(sequence_of(_setting), default=())
    capabilities: tuple[str, ...] = spec_field(sequence_of(_capability), default=())
    read_only: bool = spec_field(boolean, default=True)
    pids: int = spec_field(positive(natural), default=4096)
    service_accounts: tuple[str, ...] = spec_field(sequence_of(_named), default=())
    priority_classes: tuple[str, ...] = spec_field(sequence_of(_named), default=())
    pull_secrets: tuple[str, ...] = spec_field(sequence_of(_named), default=())

    def __post_init__(self) -> None:
        if not self.networks:
            raise InvalidSpec("policy.networks must name at least one network, the one that jobs get without asking; 'none' is one")
        if "host" in self.networks:
            raise InvalidSpec("policy.networks must not name 'host', where a job sees all that the host does; say host_network: true")
