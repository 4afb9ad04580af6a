"""What a ``dla`` connection says, with the connections it names: the settings of a workspace."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from airflow_dla.allocation import Policy, read_policy
from airflow_dla.control import Timing
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import PlaceSpec, Request, public_url
from airflow_dla.specs.node_names import cluster_of
from airflow_dla.specs.places import OF_ANY_HOST, OF_HOST, RUNS_IMAGES, RUNS_WITHOUT_IMAGE
from airflow_dla.specs.values import integer, mapping, refuse_unknown, text

#: Fields of the connection's extra, as the web UI's form names them.
FIELDS: Final = ("ledger", "store", "places", "capacity", "request", "allocation", "timing", "jobs_folder", "statsd_host", "statsd_port")

#: What a job asks for when neither operator, agent nor workspace says.
DEFAULT_REQUEST: Final[Mapping[str, Any]] = {"cpu": 1, "memory": "1GiB"}


class ConnectionLike(Protocol):
    """The part of an Airflow connection that is read here."""

    conn_id: str
    conn_type: str | None
    host: str | None
    login: str | None
    password: str | None
    port: int | None

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """Return the extra fields."""

    def get_uri(self) -> str:
        """Return the connection as a URI, password included."""


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """How an engine's images are pulled from a registry that asks who wants them.

    Parameters
    ----------
    connection : str
        Id of the Airflow connection it stands in, for messages.
    registry : str
        ``host`` or ``host:port``.
    username, password : str
    """

    connection: str
    registry: str
    username: str
    password: str = field(repr=False)


#: The place of a workspace that names none: processes of Airflow's own hosts.
LOCAL: Final = PlaceSpec(name="local", kind="local")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a workspace keeps its things; may hold secrets, so its repr shows none.

    Parameters
    ----------
    name : str
        The connection's id.
    ledger_url : str
        Of SQLite or PostgreSQL; may carry a password.
    store_url : str
        Password-free.
    store_options : mapping
        For fsspec; may hold secrets.
    jobs_folder : path
        Scratch folder of local jobs.
    node : str
        Name of this host's node.
    places : tuple of `PlaceSpec`
        At most one of them local.
    logins : mapping of place to `RegistryLogin`
        Of the Docker places that name a connection; hold secrets.
    one_host : bool
        Whether all of Airflow runs on this host.
    capacity : mapping
        Overrides what is found on this host: ``{"cpu": 4, "gpu": 1, "gpu_type": "h200"}``; with
        ``labels``, and the ids of slices of GPUs by profile: ``{"mig_ids": {"1g.10gb": ["MIG-…"]}}``.
    request : mapping
        Default request of every job.
    policy : `Policy`
    timing : `Timing`
    statsd : (str, int) or None
    embedded : bool
        Nobody configured it: one host, SQLite and a folder.
    """

    name: str
    ledger_url: str = field(repr=False)
    store_url: str
    jobs_folder: Path
    node: str
    places: tuple[PlaceSpec, ...] = (LOCAL,)
    logins: Mapping[str, RegistryLogin] = field(default_factory=dict, repr=False)
    one_host: bool = True
    store_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    capacity: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_REQUEST))
    policy: Policy = field(default_factory=Policy)
    timing: Timing = field(default_factory=Timing)
    statsd: tuple[str, int] | None = None
    embedded: bool = False

    @property
    def place(self) -> str | None:
        """Name of the local place; None when the workspace has none."""
        return next((place.name for place in self.places if place.kind == "local"), None)

    @property
    def engines(self) -> tuple[PlaceSpec, ...]:
        """The places whose jobs run in containers."""
        return tuple(place for place in self.places if place.kind == "docker")

    def node_of(self, place: PlaceSpec) -> str:
        """Return the name of a place's node as this host reaches it.

        An engine behind a socket is another one on each host, so where Airflow runs on
        several its node is ``PLACE-HOST``.
        """
        if place.kind == "local":
            return self.node
        return f"{place.name}-{self.node}" if place.on_this_host and not self.one_host else place.name

    @property
    def clusters(self) -> frozenset[str]:
        """The names of the places that have several nodes."""
        return frozenset(place.name for place in self.places if place.kind == "kubernetes")

    def reaches(self, node: str) -> bool:
        """Whether this host can reach a node."""
        return any(node == self.node_of(place) for place in self.places) or cluster_of(node, self.clusters) is not None

    @property
    def everywhere(self) -> frozenset[str]:
        """The names of the nodes that every host reaches: engines behind an address."""
        return frozenset(self.node_of(place) for place in self.engines if not place.on_this_host)

    def folder_of(self, place: PlaceSpec) -> Path:
        """Return the folder of this host where a place's jobs keep their files."""
        return Path(place.folder) if place.folder else self.jobs_folder / "places" / place.name

    def labels_of(self, place: PlaceSpec) -> dict[str, str]:
        """Return the labels by which jobs find the nodes that will do; none where there is only one place to go."""
        if not self.engines:
            return {}
        without = place.image is not None if place.kind == "docker" else any(engine.image for engine in self.engines)
        return {
            **({RUNS_IMAGES: "yes"} if place.kind == "docker" else {}),
            **({RUNS_WITHOUT_IMAGE: "yes"} if without else {}),
            **({} if self.one_host else {OF_HOST: self.node} if place.on_this_host else {OF_ANY_HOST: "yes"}),
        }

    @property
    def key(self) -> str:
        """A digest that is the same for the same settings, secrets included."""
        written = json.dumps(dataclasses.asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(written.encode()).hexdigest()


def airflow_home() -> Path:
    """Return Airflow's home folder, as Airflow finds it."""
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser().absolute()


def embedded_settings(name: str) -> Settings:
    """Return the embedded default: a laptop with ``pip install`` is enough."""
    folder = airflow_home() / "dla"
    return Settings(
        name=name,
        ledger_url=f"sqlite:///{folder / 'ledger.db'}",
        store_url=str(folder / "store"),
        jobs_folder=folder / "jobs",
        node=socket.gethostname(),
        embedded=True,
    )


def named_connections(connection: ConnectionLike) -> tuple[str, ...]:
    """Return the ids of other connections that a ``dla`` connection names, its places' included."""
    extra = connection.extra_dejson
    own = [str(extra[field_]) for field_ in ("ledger", "store") if _is_id(extra.get(field_))]
    places = _places(extra.get("places"), f"connection {connection.conn_id!r}.places")
    return tuple(dict.fromkeys([*own, *(place.connection for place in places if place.connection is not None)]))


def _is_id(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "/" not in value and ":" not in value


def read_settings(connection: ConnectionLike, named: Mapping[str, ConnectionLike], *, one_host: bool = True) -> Settings:
    """Read and check a ``dla`` connection.

    Parameters
    ----------
    connection : Connection
    named : mapping of id to Connection
        Those of `named_connections`.
    one_host : bool
        Whether all of Airflow runs on this host.

    Raises
    ------
    SecretExposed
        If a URL carries a password: it belongs into a connection of its own.
    InvalidSpec
        If a field is unknown or breaks its rule.
    """
    where = f"connection {connection.conn_id!r}"
    if connection.conn_type != "dla":
        raise InvalidSpec(f"{where} is of type {connection.conn_type!r}; a workspace is a connection of type 'dla'")
    extra = {key: value for key, value in connection.extra_dejson.items() if value not in (None, "")}
    refuse_unknown(extra, FIELDS, where)
    embedded = embedded_settings(connection.conn_id)
    store_url, store_options = _store(extra, named, embedded.store_url, where)
    places = _places(extra.get("places"), f"{where}.places")
    settings = Settings(
        name=connection.conn_id,
        ledger_url=_ledger(extra, named, embedded.ledger_url, where),
        store_url=store_url,
        store_options=store_options,
        jobs_folder=Path(extra.get("jobs_folder", embedded.jobs_folder)),
        node=socket.gethostname(),
        places=places,
        logins={place.name: _login(named[place.connection]) for place in places if place.connection is not None},
        one_host=one_host,
        capacity=_json(extra.get("capacity", {}), f"{where}.capacity"),
        request=_request(extra.get("request"), f"{where}.request"),
        policy=read_policy(_json(extra.get("allocation", {}), f"{where}.allocation"), f"{where}.allocation"),
        timing=Timing.from_mapping(_json(extra.get("timing", {}), f"{where}.timing"), f"{where}.timing"),
        statsd=_statsd(extra, where),
    )
    _refuse_same_nodes(settings, f"{where}.places")
    _refuse_remote(settings, f"{where}.places")
    return settings


def _places(raw: object, where: str) -> tuple[PlaceSpec, ...]:
    """Read the places by name; the local one alone when nothing is said.

    Raises
    ------
    InvalidSpec
        If two are local, or an engine is named twice.
    """
    if raw in (None, ""):
        return (LOCAL,)
    given = {name: mapping(place, f"{where}.{name}") for name, place in _json(raw, where).items()}
    places = tuple(PlaceSpec.from_mapping({**place, "name": name}, f"{where}.{name}") for name, place in given.items())
    local = [place.name for place in places if place.kind == "local"]
    if len(local) > 1:
        raise InvalidSpec(f"{where} names {', '.join(local)} as local: one local place is what one workspace can have")
    for place in places:
        same = [other.name for other in places if other.kind == place.kind == "docker" and other.url == place.url]
        if len(same) > 1:
            raise InvalidSpec(
                f"{where}: {' and '.join(same)} are one engine ({place.url}), which would be granted twice; make one place of it"
            )
    return places


def _refuse_remote(settings: Settings, where: str) -> None:
    """Refuse an engine on another host that could neither fetch nor publish."""
    for place in settings.engines:
        if place.on_this_host:
            continue
        if place.helper is None:
            raise InvalidSpec(
                f"{where}.{place.name} is at {place.url}, which may not see this host's files, and names no helper; give it the image in "
                "which inputs are fetched and outputs published there: Python 3.11 or later, fsspec and what speaks to the store"
            )
        if place.folder is not None:
            raise InvalidSpec(f"{where}.{place.name}: {place.url} keeps jobs' files in volumes of its own; drop folder")
        if urlsplit(settings.store_url).scheme in {"", "file", "local", "memory"}:
            raise InvalidSpec(
                f"{where}.{place.name} is at {place.url} and cannot reach the store {settings.store_url}, a folder of this host; name a "
                "store that both reach, as in s3://bucket/dla, or the socket of an engine on Airflow's own hosts"
            )


def _refuse_same_nodes(settings: Settings, where: str) -> None:
    nodes = [settings.node_of(place) for place in settings.places]
    twice = next((place.name for place in settings.engines if nodes.count(settings.node_of(place)) > 1), None)
    if twice is not None:
        raise InvalidSpec(f"{where}.{twice}: this host's own node has that name already; name the place otherwise, for example 'docker'")


def _login(connection: ConnectionLike) -> RegistryLogin:
    """Read a connection of type ``docker`` as Airflow's own operator does: a registry, and who asks there."""
    where = f"connection {connection.conn_id!r}"
    if connection.conn_type != "docker":
        raise InvalidSpec(f"{where} is of type {connection.conn_type!r}; a place's registry is a connection of type 'docker'")
    if not connection.host or not connection.login:
        raise InvalidSpec(f"{where} must have a host, the registry, and a login; drop it from the place when images need none")
    registry = f"{connection.host}:{connection.port}" if connection.port else connection.host
    return RegistryLogin(connection.conn_id, registry, connection.login, connection.password or "")


def _json(raw: object, where: str) -> Mapping[str, Any]:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError as error:
            raise InvalidSpec(f"{where} must be JSON, got {str(raw)[:80]!r}: {error}") from None
    return mapping(raw, where)


def _request(raw: object, where: str) -> Mapping[str, Any]:
    if raw is None:
        return dict(DEFAULT_REQUEST)
    return Request.from_mapping(_json(raw, where), where).to_mapping()


def _statsd(extra: Mapping[str, Any], where: str) -> tuple[str, int] | None:
    if "statsd_host" not in extra:
        return None
    return text(extra["statsd_host"], f"{where}.statsd_host"), integer(extra.get("statsd_port", 8125), f"{where}.statsd_port")


def _ledger(extra: Mapping[str, Any], named: Mapping[str, ConnectionLike], default: str, where: str) -> str:
    value = extra.get("ledger")
    if value is None:
        return default
    if value in named:
        return _database_url(named[value])
    url = public_url(value, f"{where}.ledger")
    if urlsplit(url).scheme.partition("+")[0] not in {"sqlite", "postgresql", "postgres"}:
        raise InvalidSpec(f"{where}.ledger must be the id of a connection, or a sqlite:// or postgresql:// URL, got {url!r}")
    return url


def _database_url(connection: ConnectionLike) -> str:
    parts = urlsplit(connection.get_uri())
    if parts.scheme in {"postgres", "postgresql"}:
        return urlunsplit(parts._replace(scheme="postgresql"))
    if parts.scheme == "sqlite":
        return f"sqlite:///{connection.host}"
    raise InvalidSpec(f"connection {connection.conn_id!r} is of type {connection.conn_type!r}; a ledger is on postgres or sqlite")


def _store(extra: Mapping[str, Any], named: Mapping[str, ConnectionLike], default: str, where: str) -> tuple[str, Mapping[str, Any]]:
    value = extra.get("store")
    if value is None:
        return default, {}
    if value not in named:
        return public_url(value, f"{where}.store"), {}
    options = dict(named[value].extra_dejson)
    url = options.pop("url", None) or named[value].host
    return public_url(url, f"connection {value!r}.url"), options
