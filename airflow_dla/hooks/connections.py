"""Other connections that a ``dla`` connection names: how a registry or a cluster is reached, and as whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import PlaceSpec
from airflow_dla.specs.values import boolean, text

#: Ways to a cluster of which a connection of type ``kubernetes`` names one.
_WAYS: Final = ("in_cluster", "kube_config_path", "kube_config")
#: Before the names of its fields in connections made by an older Airflow.
_OLD: Final = "extra__kubernetes__"


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


def registry_login(connection: ConnectionLike) -> RegistryLogin:
    """Read a connection of type ``docker`` as Airflow's own operator does: a registry, and who asks there.

    Raises
    ------
    InvalidSpec
        If it is of another type, or lacks the registry or the login.
    """
    where = f"connection {connection.conn_id!r}"
    if connection.conn_type != "docker":
        raise InvalidSpec(f"{where} is of type {connection.conn_type!r}; a place's registry is a connection of type 'docker'")
    if not connection.host or not connection.login:
        raise InvalidSpec(f"{where} must have a host, the registry, and a login; drop it from the place when images need none")
    registry = f"{connection.host}:{connection.port}" if connection.port else connection.host
    return RegistryLogin(connection.conn_id, registry, connection.login, connection.password or "")


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """How a cluster is reached, and as whom.

    Parameters
    ----------
    said : str
        Where that stands, for messages.
    in_cluster : bool
        As the service account of this process's own pod.
    path : str or None
        Of a kubeconfig on this host.
    config : str or mapping or None
        A kubeconfig as such; holds secrets.
    context : str or None
        Which of the kubeconfig's; its current one by default.
    namespace : str or None
        Where jobs run when the place does not say.
    verified : bool
        Whether the server must show a certificate that we trust.
    kept_alive : bool
        Whether connections that say nothing are probed.

    Notes
    -----
    Without any way, a process in a pod goes by its service account, any other by ``$KUBECONFIG``
    or ``~/.kube/config``, as Airflow's own hook does.
    """

    said: str
    in_cluster: bool = False
    path: str | None = None
    config: str | Mapping[str, Any] | None = field(default=None, repr=False)
    context: str | None = None
    namespace: str | None = None
    verified: bool = True
    kept_alive: bool = True


def cluster_access(place: PlaceSpec, connection: ConnectionLike | None) -> ClusterAccess:
    """Read how a place's cluster is reached: by its connection, or by what the place itself says.

    Raises
    ------
    InvalidSpec
        If the connection is of another type than ``kubernetes``, or names two ways at once.
    """
    if connection is None:
        said = "the service account of its pod" if place.in_cluster else f"kubeconfig {place.kubeconfig}"
        return ClusterAccess(said, in_cluster=place.in_cluster, path=place.kubeconfig, context=place.context)
    where = f"connection {connection.conn_id!r}"
    if connection.conn_type != "kubernetes":
        raise InvalidSpec(f"{where} is of type {connection.conn_type!r}; a place's cluster is a connection of type 'kubernetes'")
    extra = {name.removeprefix(_OLD): value for name, value in connection.extra_dejson.items() if value not in (None, "", False)}
    ways = [way for way in _WAYS if way in extra]
    if len(ways) > 1:
        raise InvalidSpec(f"{where} names {' and '.join(ways)}; they are different ways to a cluster, so give one of them")
    config = extra.get("kube_config")
    return ClusterAccess(
        where,
        in_cluster=_flag(extra, "in_cluster", where),
        path=_words(extra, "kube_config_path", where),
        config=config if config is None or isinstance(config, Mapping) else text(config, f"{where}.kube_config"),
        context=place.context or _words(extra, "cluster_context", where),
        namespace=_words(extra, "namespace", where),
        verified=not _flag(extra, "disable_verify_ssl", where),
        kept_alive=not _flag(extra, "disable_tcp_keepalive", where),
    )


def _words(extra: Mapping[str, Any], name: str, where: str) -> str | None:
    return text(extra[name], f"{where}.{name}") if name in extra else None


def _flag(extra: Mapping[str, Any], name: str, where: str) -> bool:
    """Read a flag, which forms and URIs may have written as text."""
    raw = extra.get(name, False)
    return raw.strip().lower() in {"true", "1", "yes", "on"} if isinstance(raw, str) else boolean(raw, f"{where}.{name}")
