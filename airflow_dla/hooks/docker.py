"""Docker places: clients by the Docker provider's hook, and what is made of them.

Airflow's `DockerHook` looks the registry's connection up and logs in whenever it makes a
client. In a triggerer that would block, and wherever it is done an outage of the registry,
or a password that has expired, would cut jobs off that have long been running. So the hook
makes clients without a login here; the connection was looked up with the workspace's others,
and each client carries what stands in it to the engine when it fetches an image: a registry
that refuses it refuses that launch, and nothing else.
"""

from __future__ import annotations

import importlib.util
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from airflow.sdk.exceptions import AirflowException

from airflow_dla.artifacts import Store
from airflow_dla.errors import LaunchRefused, MissingExtra, PlaceUnavailable
from airflow_dla.hooks.connections import RegistryLogin
from airflow_dla.hooks.settings import Settings
from airflow_dla.specs import PlaceSpec

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_dla.runtime.docker.engine import Engine
    from airflow_dla.runtime.docker.ground import Ground
    from airflow_dla.runtime.docker.runtime import DockerRuntime

#: Seconds without a word from an engine after which it counts as not answering.
_TIMEOUT_S: Final = 10


def docker_runtime(place: PlaceSpec, settings: Settings, identity: str, store: Store, engine: Engine) -> DockerRuntime:
    """Return what runs a place's jobs: files in a folder of this host that its engine mounts, or in volumes of an engine elsewhere.

    Parameters
    ----------
    place : `PlaceSpec`
    settings : `Settings`
    identity : str
        Of the workspace.
    store : `Store`
        Inputs that it has on this host are mounted where they lie.
    engine : `Engine`
        The place's.
    """
    from airflow_dla.runtime.docker.runtime import DockerRuntime  # noqa: PLC0415 - only where there is such a place

    # Two places or workspaces may name one folder, and each stops what it finds in its own without an owner.
    folder = settings.folder_of(place) / identity
    ground = _shared(folder, settings, store) if place.on_this_host else _volumes(folder, place, settings, identity, engine)
    return DockerRuntime(engine=engine, place=place, node=settings.node_of(place), workspace=identity, ground=ground)


def _shared(folder: Path, settings: Settings, store: Store) -> Ground:
    from airflow_dla.runtime.docker.shared_ground import SharedGround  # noqa: PLC0415 - only where there is such a place

    return SharedGround(folder, local=store.folder, store_options=settings.store_options)


def _volumes(folder: Path, place: PlaceSpec, settings: Settings, identity: str, engine: Engine) -> Ground:
    from airflow_dla.runtime.docker.volume_ground import VolumeGround  # noqa: PLC0415 - only where there is such a place

    return VolumeGround(engine, place, workspace=identity, logs=folder / "logs", store_options=settings.store_options)


def engine_of(place: PlaceSpec, login: RegistryLogin | None) -> Engine:
    """Return a place's engine; connects when it is first asked for something."""
    from airflow_dla.runtime.docker.engine import Engine  # noqa: PLC0415 - only where there is such a place

    return Engine(clients(place, login), name=place.name, address=place.url)


def clients(place: PlaceSpec, login: RegistryLogin | None = None) -> Callable[[], Any]:
    """Return a function that makes a new `docker.APIClient` at each call: they are not to be shared by threads.

    Parameters
    ----------
    place : `PlaceSpec`
    login : `RegistryLogin`, optional
        What its clients tell a registry.

    Returns
    -------
    callable
        Raises `MissingExtra` where Airflow's Docker provider is not installed, `OSError` or
        `PlaceUnavailable` when the engine does not answer.
    """

    def connect() -> Any:
        hook_class = _hook_class()
        _need_ssh(place)
        tls = hook_class.construct_tls_config(
            ca_cert=place.tls.get("ca"), client_cert=place.tls.get("cert"), client_key=place.tls.get("key")
        )
        if tls:
            _keep_authority(tls)
        _try_address(place)
        try:
            client = hook_class(docker_conn_id=None, base_url=place.url, version="auto", tls=tls, timeout=_TIMEOUT_S).get_conn()
        except AirflowException as error:
            raise PlaceUnavailable(f"place {place.name}: the Docker engine at {place.url} does not answer: {error}") from error
        if place.url.startswith("unix:"):
            client.trust_env = False  # no proxy or certificate concerns a socket, and to look for them costs more than a third of a request
        if login is not None:
            authority = {"username": login.username, "password": login.password, "serveraddress": login.registry}
            client._auth_configs.add_auth(login.registry, authority)  # noqa: SLF001 - as its login() does once a registry has agreed
        return client

    return connect


def _need_ssh(place: PlaceSpec) -> None:
    """Refuse an address that the client library would stumble over."""
    if place.url.startswith("ssh:") and importlib.util.find_spec("paramiko") is None:
        raise MissingExtra(f"place {place.name!r} is at {place.url}, which needs paramiko; pip install paramiko, or use tcp:// with tls")


def _keep_authority(tls: Any) -> None:
    """Have clients hold to a place's own authority: REQUESTS_CA_BUNDLE, which many hosts set, would replace it."""
    configure = tls.configure_client

    def configure_client(client: Any) -> None:
        configure(client)
        from_environment = client.merge_environment_settings

        def settings(url: str, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
            return from_environment(url, proxies, stream, client.verify if verify is None else verify, cert)

        client.merge_environment_settings = settings

    tls.configure_client = configure_client


def _try_address(place: PlaceSpec) -> None:
    """Raise what is wrong with an engine's address: the hook would log an error of its own, and forget the reason."""
    parts = urlsplit(place.url)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(_TIMEOUT_S)
            tried.connect(parts.path)
    elif parts.scheme == "tcp" and parts.hostname and parts.port:
        with socket.create_connection((parts.hostname, parts.port), timeout=_TIMEOUT_S) as tried:
            if place.tls:
                context = ssl.create_default_context(cafile=place.tls["ca"])
                context.load_cert_chain(place.tls["cert"], place.tls["key"])
                context.wrap_socket(tried, server_hostname=parts.hostname).close()


def check_login(client: Any, place: PlaceSpec, login: RegistryLogin) -> None:
    """Have an engine log in to a registry.

    Raises
    ------
    LaunchRefused
        If the registry does not know who asks, or the engine does not reach it.
    """
    try:
        client.login(username=login.username, password=login.password, registry=login.registry, reauth=True)
    except OSError as error:
        said = getattr(error, "explanation", None) or error
        raise LaunchRefused(
            f"place {place.name}: registry {login.registry} does not let {login.username!r} in: {said}; "
            f"correct login and password of connection {login.connection!r}"
        ) from error


def _hook_class() -> Any:
    try:
        from airflow.providers.docker.hooks.docker import DockerHook  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise MissingExtra(
            f"a Docker place needs Airflow's Docker provider, which is not installed ({error}); pip install 'airflow-dla[docker]'"
        ) from error
    return DockerHook
