"""Places: where jobs run, and what may be asked of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.references import public_url
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import (
    Parse,
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

#: Schemes of engines' addresses.
SCHEMES: Final = ("unix", "tcp", "http", "https", "ssh")
#: Label of nodes that run jobs in images, and of nodes that run jobs which name none.
RUNS_IMAGES: Final = "images"
RUNS_WITHOUT_IMAGE: Final = "imageless"
#: Label of nodes that only processes of one host can follow, and of nodes that those of every host can.
OF_HOST: Final = "host"
OF_ANY_HOST: Final = "any-host"

_TLS: Final = ("ca", "cert", "key")


def _written(pattern: str, rule: str) -> Parse:
    """Make a parser of text that is written like a regular expression, with the rule in words."""
    wanted = re.compile(pattern)

    def parse(raw: object, where: str) -> str:
        found = text(raw, where)
        if not wanted.fullmatch(found):
            raise InvalidSpec(f"{where} must be {rule}, got {found!r:.80}")
        return found

    return parse


_image = _written(r"\S+", "an image such as 'registry.example.org/team/train:1.2', without spaces")
_user = _written(r"\d{1,10}:\d{1,10}", "'uid:gid' in digits such as '1000:1000': an image need not know our names")
_users = _written(r"[\d*?:!\[\]-]+", "a pattern of 'uid:gid' in digits such as '1000:*'")
_folder = _written(r"/.*", "the absolute path of a folder")
_mount = _written(r"[/*].*", "a pattern of absolute paths such as '/data/*', with ':rw' behind it where jobs may write")
_volume = _written(r"[^\s/:]+", "a pattern of volumes' names such as 'cache-*'; folders go into mounts")
_network = _written(r"[A-Za-z0-9][\w.-]*", "the name of a network")
_setting = _written(r"[a-z][a-z0-9_]*", "the name of an engine's setting such as 'dns'")
_capability = _written(r"[A-Z][A-Z_]*", "a Linux capability such as 'SYS_PTRACE', or 'ALL'")


def _engine(raw: object, where: str) -> str:
    """Parse an engine's address: a socket's absolute path, or a host."""
    found = public_url(raw, where)
    parts = urlsplit(found)
    named = parts.path.startswith("/") and not parts.netloc if parts.scheme == "unix" else bool(parts.netloc)
    if parts.scheme not in SCHEMES or not named:
        raise InvalidSpec(
            f"{where} must be an engine's address such as unix:///var/run/docker.sock or tcp://gpu1:2376 (known are "
            f"{', '.join(SCHEMES)}), got {found!r:.80}"
        )
    return found


def _place_name(raw: object, where: str) -> str:
    found = identifier(raw, where)
    if found == "any":
        raise InvalidSpec(f"{where} must not be 'any', with which a job says that every place will do; name it otherwise")
    return found


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

    def __post_init__(self) -> None:
        if not self.networks:
            raise InvalidSpec("policy.networks must name at least one network, the one that jobs get without asking; 'none' is one")
        if "host" in self.networks:
            raise InvalidSpec("policy.networks must not name 'host', where a job sees all that the host does; say host_network: true")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlaceSpec(Spec):
    """One place of a workspace, as its connection names it.

    A local place has nothing but its name: what its hosts grant, their folders and labels are
    the connection's own fields.

    Parameters
    ----------
    name : str
        What jobs call it; also the name of a Docker place's node. Not ``any``.
    kind : {"local", "docker"}
    connection : str or None
        Airflow connection of the engine's registry (type ``docker``).
    url : str
        Of the engine, without a password: ``unix:///run/docker.sock``, ``tcp://gpu1:2376``, ``ssh://dla@gpu1``.
    tls : mapping of str
        Paths ``{"ca": …, "cert": …, "key": …}`` on the hosts of workers and triggerer; all three or none.
    folder : str or None
        Folder of this host that the engine can mount, for the jobs' files; the workspace's ``jobs_folder`` by default.
    helper : str or None
        Image of the containers of ours that fetch and publish where an engine is not on this host: with Python 3.11 or later, fsspec
        and what speaks to the store.
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

    Examples
    --------
    >>> place = PlaceSpec.from_mapping({"name": "gpu1", "kind": "docker", "user": "1000:1000", "keep": "1h"})
    >>> place.keep_s, place.url, place.on_this_host
    (3600.0, 'unix:///var/run/docker.sock', True)
    >>> PlaceSpec.from_mapping({"name": "gpu1", "kind": "docker", "url": "gpu1:2376"})
    Traceback (most recent call last):
    airflow_dla.errors.InvalidSpec: place.url must be an engine's address such as unix:///var/run/docker.sock ...
    """

    called: ClassVar[str] = "place"
    short: ClassVar[Mapping[str, str]] = {"keep": "keep_s"}

    name: str = spec_field(_place_name)
    kind: str = spec_field(choice("local", "docker"))
    connection: str | None = spec_field(optional(text), default=None)
    url: str = spec_field(_engine, default="unix:///var/run/docker.sock")
    tls: Mapping[str, str] = spec_field(mapping_of(_folder, key=choice(*_TLS)), factory=dict)
    folder: str | None = spec_field(optional(_folder), default=None)
    helper: str | None = spec_field(optional(_image), default=None)
    image: str | None = spec_field(optional(_image), default=None)
    user: str | None = spec_field(optional(_user), default=None)
    runtime: str | None = spec_field(optional(identifier), default=None)
    keep_s: float = spec_field(seconds, default=3600.0)
    capacity: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    labels: Mapping[str, str] = spec_field(mapping_of(text), factory=dict)
    policy: PlacePolicy = spec_field(PlacePolicy.from_mapping, factory=PlacePolicy)

    def __post_init__(self) -> None:
        if self.kind == "local":
            self._refuse_engine()
        if self.tls and sorted(self.tls) != sorted(_TLS):
            raise InvalidSpec(f"place {self.name!r}: tls names {', '.join(self.tls)}; give all of {', '.join(_TLS)}, or none")
        if self.tls and not self.url.startswith(("tcp:", "https:")):
            raise InvalidSpec(f"place {self.name!r}: tls goes with tcp:// or https://, not with {self.url!r}; drop it")

    def _refuse_engine(self) -> None:
        more = [name for name in self.to_mapping() if name not in {"name", "kind"}]
        if more:
            raise InvalidSpec(
                f"place {self.name!r} is local and takes no {', '.join(more)}: say kind: docker, or use the connection's own fields "
                "(capacity, jobs_folder)"
            )

    @property
    def on_this_host(self) -> bool:
        """Whether it is reached only from the host it is on: processes, or an engine behind a socket in the file system."""
        return self.kind == "local" or self.url.startswith("unix:")
