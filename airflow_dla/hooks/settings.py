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
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from airflow_dla.allocation import Policy, read_policy
from airflow_dla.control import Timing
from airflow_dla.errors import InvalidSpec
from airflow_dla.hooks.connections import ClusterAccess, ConnectionLike, RegistryLogin, cluster_access, registry_login
from airflow_dla.hooks.places import LOCAL, read_json, read_places, refuse_out_of_store, refuse_same_nodes, refuse_shared_clusters
from airflow_dla.specs import PlaceSpec, Request, public_url
from airflow_dla.specs.node_names import cluster_of
from airflow_dla.specs.places import IN_PLACE, OF_ANY_HOST, OF_HOST, RUNS_IMAGES, RUNS_WITHOUT_IMAGE
from airflow_dla.specs.values import integer, refuse_unknown, text

#: Fields of the connection's extra, as the web UI's form names them.
FIELDS: Final = ("ledger", "store", "places", "capacity", "request", "allocation", "timing", "jobs_folder", "statsd_host", "statsd_port")

#: What a job asks for when neither operator, agent nor workspace says.
DEFAULT_REQUEST: Final[Mapping[str, Any]] = {"cpu": 1, "memory": "1GiB"}


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
    accesses : mapping of place to `ClusterAccess`
        Of the Kubernetes places; may hold secrets.
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
    accesses: Mapping[str, ClusterAccess] = field(default_factory=dict, repr=False)
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
        """The places that are Docker engines."""
        return tuple(place for place in self.places if place.kind == "docker")

    @property
    def containers(self) -> tuple[PlaceSpec, ...]:
        """The places whose jobs run in containers."""
        return tuple(place for place in self.places if place.kind != "local")

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
        """The names of the nodes that every host reaches: clusters, and engines behind an address."""
        return frozenset(self.node_of(place) for place in self.containers if not place.on_this_host)

    def folder_of(self, place: PlaceSpec) -> Path:
        """Return the folder of this host where a place's jobs keep their files."""
        return Path(place.folder) if place.folder else self.jobs_folder / "places" / place.name

    def labels_of(self, place: PlaceSpec) -> dict[str, str]:
        """Return the labels by which jobs find the nodes that will do; none where there is only one place to go."""
        if not self.containers:
            return {}
        without = any(other.image for other in self.containers) if place.kind == "local" else place.image is not None
        return {
            **({RUNS_IMAGES: "yes"} if place.kind != "local" else {}),
            **({IN_PLACE: place.name} if place.kind == "kubernetes" else {}),
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
    places = read_places(extra.get("places"), f"connection {connection.conn_id!r}.places")
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
    places = read_places(extra.get("places"), f"{where}.places")
    settings = Settings(
        name=connection.conn_id,
        ledger_url=_ledger(extra, named, embedded.ledger_url, where),
        store_url=store_url,
        store_options=store_options,
        jobs_folder=Path(extra.get("jobs_folder", embedded.jobs_folder)),
        node=socket.gethostname(),
        places=places,
        logins={place.name: registry_login(named[place.connection]) for place in places if place.kind == "docker" and place.connection},
        accesses={
            place.name: cluster_access(place, named[place.connection] if place.connection else None)
            for place in places
            if place.kind == "kubernetes"
        },
        one_host=one_host,
        capacity=read_json(extra.get("capacity", {}), f"{where}.capacity"),
        request=_request(extra.get("request"), f"{where}.request"),
        policy=read_policy(read_json(extra.get("allocation", {}), f"{where}.allocation"), f"{where}.allocation"),
        timing=Timing.from_mapping(read_json(extra.get("timing", {}), f"{where}.timing"), f"{where}.timing"),
        statsd=_statsd(extra, where),
    )
    _refuse_together(settings, f"{where}.places")
    return settings


def _refuse_together(settings: Settings, where: str) -> None:
    """Refuse places that cannot be had together, or not with this store."""
    nodes = {place.name: settings.node_of(place) for place in settings.containers}
    refuse_same_nodes(nodes, settings.clusters, settings.node if settings.place is not None else None, where)
    refuse_out_of_store(settings.places, settings.store_url, where)
    refuse_shared_clusters(settings.places, settings.accesses, where)


def _request(raw: object, where: str) -> Mapping[str, Any]:
    if raw is None:
        return dict(DEFAULT_REQUEST)
    return Request.from_mapping(read_json(raw, where), where).to_mapping()


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
