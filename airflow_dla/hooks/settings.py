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
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Request, public_url
from airflow_dla.specs.values import identifier, integer, mapping, refuse_unknown, text

#: Fields of the connection's extra, as the web UI's form names them.
FIELDS: Final = ("ledger", "store", "places", "capacity", "request", "allocation", "jobs_folder", "statsd_host", "statsd_port")

#: Kinds of places that this version runs jobs in.
KINDS: Final = ("local",)

#: What a job asks for when neither operator, agent nor workspace says.
DEFAULT_REQUEST: Final[Mapping[str, Any]] = {"cpu": 1, "memory": "1GiB"}


class ConnectionLike(Protocol):
    """The part of an Airflow connection that is read here."""

    conn_id: str
    conn_type: str | None
    host: str | None

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """Return the extra fields."""

    def get_uri(self) -> str:
        """Return the connection as a URI, password included."""


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
    place : str or None
        Name of the local place; None when the workspace has none.
    capacity : mapping
        Overrides what is found on this host: ``{"cpu": 4, "gpu": 1, "gpu_type": "h200"}``; with
        ``labels``, and the ids of slices of GPUs by profile: ``{"mig_ids": {"1g.10gb": ["MIG-…"]}}``.
    request : mapping
        Default request of every job.
    policy : `Policy`
    statsd : (str, int) or None
    embedded : bool
        Nobody configured it: one host, SQLite and a folder.
    """

    name: str
    ledger_url: str = field(repr=False)
    store_url: str
    jobs_folder: Path
    node: str
    place: str | None = "local"
    store_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    capacity: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_REQUEST))
    policy: Policy = field(default_factory=Policy)
    statsd: tuple[str, int] | None = None
    embedded: bool = False

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
    """Return the ids of other connections that a ``dla`` connection names."""
    extra = connection.extra_dejson
    return tuple(str(extra[field_]) for field_ in ("ledger", "store") if _is_id(extra.get(field_)))


def _is_id(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "/" not in value and ":" not in value


def read_settings(connection: ConnectionLike, named: Mapping[str, ConnectionLike]) -> Settings:
    """Read and check a ``dla`` connection.

    Parameters
    ----------
    connection : Connection
    named : mapping of id to Connection
        Those of `named_connections`.

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
    return Settings(
        name=connection.conn_id,
        ledger_url=_ledger(extra, named, embedded.ledger_url, where),
        store_url=store_url,
        store_options=store_options,
        jobs_folder=Path(extra.get("jobs_folder", embedded.jobs_folder)),
        node=socket.gethostname(),
        place=_local_place(extra.get("places"), f"{where}.places"),
        capacity=_json(extra.get("capacity", {}), f"{where}.capacity"),
        request=_request(extra.get("request"), f"{where}.request"),
        policy=read_policy(_json(extra.get("allocation", {}), f"{where}.allocation"), f"{where}.allocation"),
        statsd=_statsd(extra, where),
    )


def _local_place(raw: object, where: str) -> str | None:
    """Return the name of the place whose jobs are processes of Airflow's own hosts.

    Other kinds of places come with their own extras.
    """
    if raw is None:
        return "local"
    kinds = {identifier(name, where): mapping(place, f"{where}.{name}").get("kind") for name, place in _json(raw, where).items()}
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise InvalidSpec(f"{where}.{name}.kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if len(kinds) > 1:
        raise InvalidSpec(f"{where} names {', '.join(kinds)}: one local place is what one workspace can have")
    return next(iter(kinds), None)


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
