"""Kubernetes places: clients by the Kubernetes provider's hook, and what is made of them.

Airflow's `KubernetesHook` looks its connection up whenever it makes a client, which in a
triggerer would block, and what it reads becomes the default of every client in the process,
another cluster's too. So it is told here what stands in the connection, which was looked up
with the workspace's others, and each client has a configuration of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk.exceptions import AirflowException

from airflow_dla.artifacts import Exchange
from airflow_dla.errors import MissingExtra, PlaceUnavailable
from airflow_dla.hooks.connections import ClusterAccess
from airflow_dla.hooks.settings import Settings
from airflow_dla.runtime.kubernetes.names import selector
from airflow_dla.specs import PlaceSpec

if TYPE_CHECKING:
    from airflow_dla.runtime.kubernetes.cluster import Cluster
    from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime

#: Where jobs run when nobody says.
_DEFAULT: Final = "default"
#: Connections that wait to serve again: as many as this process has threads that use them.
_CONNECTIONS: Final = 64
#: Where a pod finds the namespace that it is in.
_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def cluster_of(place: PlaceSpec, access: ClusterAccess) -> Cluster:
    """Return a place's namespace of its cluster; connects when it is first asked for something."""
    from airflow_dla.runtime.kubernetes.cluster import Cluster  # noqa: PLC0415 - only where there is such a place

    return Cluster(clients(place, access), name=place.name, namespace=namespace_of(place, access))


def kubernetes_runtime(place: PlaceSpec, settings: Settings, identity: str, cluster: Cluster) -> KubernetesRuntime:
    """Return what runs a place's jobs.

    Parameters
    ----------
    place : `PlaceSpec`
    settings : `Settings`
    identity : str
        Of the workspace.
    cluster : `Cluster`
        The place's.
    """
    from airflow_dla.runtime.kubernetes.cargo import Cargo  # noqa: PLC0415 - only where there is such a place
    from airflow_dla.runtime.kubernetes.freight import Freight  # noqa: PLC0415 - only where there is such a place
    from airflow_dla.runtime.kubernetes.logs import Logs  # noqa: PLC0415 - only where there is such a place
    from airflow_dla.runtime.kubernetes.mirror import Mirror  # noqa: PLC0415 - only where there is such a place
    from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime  # noqa: PLC0415 - only where there is such a place
    from airflow_dla.runtime.kubernetes.shelf import Shelf  # noqa: PLC0415 - only where there is such a place

    ours = selector(identity)
    shelf = Shelf(cluster, Mirror(cluster, "jobs", ours), Mirror(cluster, "pods", ours), identity)
    # What pods cannot reach, or nobody can sign addresses of, goes through whoever follows them.
    store = Exchange(settings.store_url, options=settings.store_options)
    folder = settings.folder_of(place) / identity / "logs"
    return KubernetesRuntime(
        cluster,
        place,
        workspace=identity,
        shelf=shelf,
        cargo=Cargo(Freight(cluster, store, direct=place.store != "relay")),
        logs=Logs(cluster, lambda attempt: folder / f"{attempt}.log"),
    )


def clients(place: PlaceSpec, access: ClusterAccess) -> Callable[[], Any]:
    """Return a function that makes a new `kubernetes.client.ApiClient` at each call, with the credentials of then.

    Parameters
    ----------
    place : `PlaceSpec`
    access : `ClusterAccess`

    Returns
    -------
    callable
        Raises `MissingExtra` where Airflow's Kubernetes provider is not installed, and
        `PlaceUnavailable` where the credentials cannot be read.
    """

    def connect() -> Any:
        hook_class, library = _libraries()
        # In a pod the hook reads into the default configuration alone, and makes its client of a copy of that.
        own = None if access.in_cluster else library.Configuration()
        try:
            hook = hook_class(
                conn_id=None,
                kubernetes_conn_id=None,
                client_configuration=own,
                cluster_context=access.context,
                config_file=access.path,
                config_dict=_config(access),
                in_cluster=access.in_cluster,
                disable_tcp_keepalive=not access.kept_alive,
            )
            client = hook.get_conn()
        except (AirflowException, OSError, ValueError, _config_error()) as error:
            raise PlaceUnavailable(f"place {place.name}: how its cluster is reached cannot be read from {access.said}: {error}") from error
        client.configuration.connection_pool_maxsize = _CONNECTIONS
        if not access.verified:
            # The hook would trust any server of any cluster from then on.
            client.configuration.verify_ssl = False
        return library.ApiClient(client.configuration)

    return connect


def namespace_of(place: PlaceSpec, access: ClusterAccess, own: Path = _OWN_NAMESPACE) -> str:
    """Return where a place's jobs run: as it says, else its connection, its context, or the pod that this process is in.

    Parameters
    ----------
    place : `PlaceSpec`
    access : `ClusterAccess`
    own : path
        Where a pod finds its own.
    """
    named = place.namespace or access.namespace
    if named:
        return named
    if access.in_cluster:
        return own.read_text(encoding="utf-8").strip() if own.exists() else _DEFAULT
    try:
        config = _config(access) or (_read(Path(access.path).expanduser()) if access.path else {})
    except (OSError, ValueError):
        return _DEFAULT  # what is wrong with it shows when it is used
    return _of_context(config, access.context) or _DEFAULT


def _of_context(config: Mapping[str, Any], context: str | None) -> str | None:
    """Return the namespace of a kubeconfig's context."""
    wanted = context or config.get("current-context")
    contexts: Mapping[str, Mapping[str, Any]] = {entry.get("name"): entry.get("context") or {} for entry in config.get("contexts") or ()}
    return contexts.get(str(wanted), {}).get("namespace")


def _config(access: ClusterAccess) -> Mapping[str, Any] | None:
    """Return the kubeconfig that a connection holds, as a mapping."""
    return _parsed(access.config) if isinstance(access.config, str) else access.config


def _read(path: Path) -> Mapping[str, Any]:
    return _parsed(path.read_text(encoding="utf-8"))


def _parsed(written: str) -> Mapping[str, Any]:
    """Parse a kubeconfig, in YAML or JSON.

    Raises
    ------
    ValueError
        If it is neither; repeats nothing of it, since it holds secrets.
    """
    import yaml  # noqa: PLC0415 - only where there is such a place

    try:
        found = yaml.safe_load(written)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, Mapping):
        raise ValueError("its kubeconfig is neither YAML nor JSON with clusters, contexts and users")  # noqa: TRY004 - of a text's content
    return found


def _libraries() -> tuple[Any, Any]:
    try:
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook  # noqa: PLC0415 - an optional dependency
        from kubernetes import client
    except ImportError as error:
        raise MissingExtra(
            f"a Kubernetes place needs Airflow's Kubernetes provider, which is not installed ({error}); "
            "pip install 'airflow-dla[kubernetes]'"
        ) from error
    return KubernetesHook, client


def _config_error() -> type[Exception]:
    from kubernetes.config import ConfigException

    return ConfigException  # type: ignore[no-any-return]  # the library has no types
