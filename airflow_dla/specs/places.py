"""Places: where jobs run, and what may be asked of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import (
    boolean,
    choice,
    identifier,
    json_value,
    mapping_of,
    natural,
    optional,
    positive,
    seconds,
    sequence_of,
    text,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlacePolicy(Spec):
    """What a job may ask of a container engine; whoever owns the place says it, not who writes the DAG.

    Everything is closed by default but images. Patterns are those of a shell (``*`` stands for
    anything, ``/`` included).

    Parameters
    ----------
    images : tuple of str
        Patterns of allowed images, with their registry where they name one.
    mounts : tuple of str
        Patterns of the host's folders that may be mounted, read-only unless they end with ``:rw``.
    volumes : tuple of str
        Patterns of the engine's named volumes that may be mounted.
    privileged : bool
        Whether a job may ask for ``privileged`` in its overrides.
    host_network : bool
        Whether a job may share the host's network.
    networks : tuple of str
        Networks that a job may ask for; the first is what it gets without asking.
    users : tuple of str
        Patterns of ``uid:gid`` that a job may ask for besides the place's own.
    overrides : tuple of str
        Names of further settings of the engine that a job may make (``dns``, ``extra_hosts``, ``ulimits``).
    capabilities : tuple of str
        Linux capabilities that jobs keep; all others are dropped.
    read_only : bool
        Whether the image's own files are read-only; ``/tmp`` and the job's folders never are.
    pids : int, >= 1
        Most processes and threads of one job.
    """

    called: ClassVar[str] = "policy"

    images: tuple[str, ...] = spec_field(sequence_of(text), default=("*",))
    mounts: tuple[str, ...] = spec_field(sequence_of(text), default=())
    volumes: tuple[str, ...] = spec_field(sequence_of(text), default=())
    privileged: bool = spec_field(boolean, default=False)
    host_network: bool = spec_field(boolean, default=False)
    networks: tuple[str, ...] = spec_field(sequence_of(text), default=("bridge", "none"))
    users: tuple[str, ...] = spec_field(sequence_of(text), default=())
    overrides: tuple[str, ...] = spec_field(sequence_of(text), default=())
    capabilities: tuple[str, ...] = spec_field(sequence_of(text), default=())
    read_only: bool = spec_field(boolean, default=True)
    pids: int = spec_field(positive(natural), default=4096)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSpec(Spec):
    """One place of a workspace, as its connection names it.

    Parameters
    ----------
    name : str
        What jobs call it; also the name of a Docker place's node.
    kind : {"local", "docker"}
    connection : str or None
        Airflow connection of the engine's registry (type ``docker``).
    url : str
        Of the engine: ``unix:///run/docker.sock``, ``tcp://gpu1:2376``, ``ssh://dla@gpu1``.
    tls : mapping of str
        Paths ``{"ca": …, "cert": …, "key": …}`` on the hosts of workers and triggerer.
    folder : str or None
        Folder of this host that the engine can mount, for the jobs' files; the workspace's ``jobs_folder`` by default.
    image : str or None
        Image of jobs that name none.
    user : str or None
        ``uid:gid`` of jobs; that of the worker unless it is root, else 65532:65532.
    runtime : str or None
        The engine's runtime, for example ``nvidia``.
    keep_s : float
        Seconds that ended containers are kept for those who want to look into them.
    capacity : mapping
        Overrides what is found there, as the connection's ``capacity`` does for this host.
    labels : mapping of str
        Labels of its node.
    policy : `PlacePolicy`
    """

    called: ClassVar[str] = "place"
    short: ClassVar[Mapping[str, str]] = {"keep": "keep_s"}

    name: str = spec_field(identifier)
    kind: str = spec_field(choice("local", "docker"))
    connection: str | None = spec_field(optional(text), default=None)
    url: str = spec_field(text, default="unix:///var/run/docker.sock")
    tls: Mapping[str, str] = spec_field(mapping_of(text), factory=dict)
    folder: str | None = spec_field(optional(text), default=None)
    image: str | None = spec_field(optional(text), default=None)
    user: str | None = spec_field(optional(text), default=None)
    runtime: str | None = spec_field(optional(text), default=None)
    keep_s: float = spec_field(seconds, default=3600.0)
    capacity: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    labels: Mapping[str, str] = spec_field(mapping_of(text), factory=dict)
    policy: PlacePolicy = spec_field(PlacePolicy.from_mapping, factory=PlacePolicy)
