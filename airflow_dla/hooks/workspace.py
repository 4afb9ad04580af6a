"""The hook that turns a ``dla`` connection into a workspace: ledger, store, registry and places."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from airflow.sdk import BaseHook, Variable, conf
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_dla.artifacts import Store
from airflow_dla.control import Crew, Workspace, refresh_nodes
from airflow_dla.errors import InvalidSpec, NotFound
from airflow_dla.hooks.docker import docker_runtime, engine_of
from airflow_dla.hooks.kubernetes import cluster_of, kubernetes_runtime
from airflow_dla.hooks.metrics import AirflowMetrics
from airflow_dla.hooks.places import LOCAL
from airflow_dla.hooks.settings import Settings, embedded_settings, named_connections, read_settings
from airflow_dla.ledger import FollowerKind, Ledger, connect
from airflow_dla.registry import LedgerRegistry
from airflow_dla.runtime import Discovers, Runtime
from airflow_dla.runtime.capacity import overridden
from airflow_dla.runtime.docker.nodes import EngineNode, Use
from airflow_dla.runtime.host import discover, host_id
from airflow_dla.runtime.kubernetes.discovery import ClusterNodes
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import Node
from airflow_dla.telemetry import StatsdMetrics

_workspaces: dict[tuple[int, FollowerKind, str], Workspace] = {}
_crews: dict[tuple[int, str], Crew] = {}


class DlaHook(BaseHook):
    """Reaches a workspace through an Airflow connection of type ``dla``.

    Parameters
    ----------
    dla_conn_id : str
    kind : {"triggerer", "worker", "other"}
        What this process is, for the ledger's list of followers.
    """

    conn_name_attr = "dla_conn_id"
    default_conn_name = "dla_default"
    conn_type = "dla"
    hook_name = "Deep-learning agents"

    def __init__(self, dla_conn_id: str = default_conn_name, *, kind: FollowerKind = "other") -> None:
        super().__init__()
        self.dla_conn_id = dla_conn_id
        self.kind: FollowerKind = kind

    def settings(self) -> Settings:
        """Look the connection up, and those it names.

        Raises
        ------
        NotFound
            If there is no such connection and the embedded default does not apply.
        """
        try:
            connection = BaseHook.get_connection(self.dla_conn_id)
        except AirflowNotFoundException:
            return self._embedded()
        with _named_by(self.dla_conn_id):
            named = {name: BaseHook.get_connection(name) for name in named_connections(connection)}
        return read_settings(connection, named, one_host=one_host())

    async def asettings(self) -> Settings:
        """Look the connection up from a trigger, without blocking its event loop."""
        try:
            connection = await BaseHook.aget_connection(self.dla_conn_id)
        except AirflowNotFoundException:
            return self._embedded()
        with _named_by(self.dla_conn_id):
            named = {name: await BaseHook.aget_connection(name) for name in named_connections(connection)}
        return read_settings(connection, named, one_host=one_host())

    def _embedded(self) -> Settings:
        if self.dla_conn_id != self.default_conn_name:
            raise NotFound(
                f"there is no connection {self.dla_conn_id!r}, or the secrets backend did not answer; "
                f"make one of type 'dla', or use {self.default_conn_name!r} for the embedded default"
            )
        refuse_embedded(conf.get("dla", "embedded", fallback="auto"), one_host())
        return embedded_settings(self.dla_conn_id)

    def workspace(self) -> Workspace:
        """Return the workspace; the same object for the same settings in one process."""
        return open_workspace(self.settings(), self.kind)

    def get_conn(self) -> Workspace:
        """Return the workspace, as Airflow's hooks call it."""
        return self.workspace()

    def test_connection(self) -> tuple[bool, str]:
        """Try the ledger and the store, for the web UI's button."""
        try:
            workspace = self.workspace()
            workspace.ledger.now()
            workspace.store.check()
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the button shows it
            return False, str(error)
        return True, f"workspace {workspace.fingerprint}: ledger and store answer"


@contextlib.contextmanager
def _named_by(conn_id: str) -> Iterator[None]:
    try:
        yield
    except AirflowNotFoundException as error:
        raise NotFound(
            f"connection {conn_id!r} names one that does not exist, or that the secrets backend did not give: {error}"
        ) from error


def refuse_embedded(option: str, one_host: bool) -> None:  # noqa: FBT001 - the two facts that decide
    """Refuse the embedded default where it would split a workspace over hosts.

    Raises
    ------
    InvalidSpec
        If the option is unknown.
    NotFound
        If ``[dla] embedded`` is ``never``, or ``auto`` and Airflow runs on several hosts.
    """
    if option not in {"auto", "always", "never"}:
        raise InvalidSpec(f"[dla] embedded must be auto, always or never, got {option!r}")
    if option == "never" or (option == "auto" and not one_host):
        raise NotFound(
            f"there is no connection 'dla_default', and the embedded default does not apply ([dla] embedded = {option}, Airflow "
            f"{'runs' if one_host else 'may run on several hosts, or the secrets backend did not answer'}); make a connection of type 'dla'"
        )


def one_host() -> bool:
    """Whether Airflow runs on one host: LocalExecutor, or metadata in SQLite where this process may know."""
    executors = executor_classes(str(conf.get("core", "executor", fallback="LocalExecutor")))
    database = str(conf.get("database", "sql_alchemy_conn", fallback=""))
    return executors[:1] == ["LocalExecutor"] or database.startswith("sqlite")


def executor_classes(option: str) -> list[str]:
    """Return the class names in Airflow's option ``executor``, the default one first.

    Examples
    --------
    >>> executor_classes("team=CeleryExecutor;airflow.providers.x.KubernetesExecutor:k8s,LocalExecutor")
    ['CeleryExecutor', 'KubernetesExecutor', 'LocalExecutor']
    """
    parts = [part.strip() for part in re.split(r"[,;]", option) if part.strip()]
    return [part.rpartition("=")[2].partition(":")[0].rpartition(".")[2] for part in parts]


def open_workspace(settings: Settings, kind: FollowerKind = "other") -> Workspace:
    """Build the objects of a workspace, once for a process; a worker's or triggerer's host becomes a node of it.

    Raises
    ------
    LedgerUnavailable, LedgerVersion
        If the ledger does not answer, or its schema is not this code's.
    """
    key = (os.getpid(), kind, settings.key)
    if key not in _workspaces:
        _workspaces[key] = _build(settings, kind)
    return _workspaces[key]


def _build(settings: Settings, kind: FollowerKind) -> Workspace:
    if settings.embedded:
        settings.jobs_folder.mkdir(parents=True, exist_ok=True)
    ledger = connect(settings.ledger_url)
    if settings.embedded:
        ledger.upgrade()
    host, identity = host_id(), ledger.identity()
    store = Store(settings.store_url, options=settings.store_options)
    runtimes, discovered = _runtimes(settings, identity, store)
    workspace = Workspace(
        name=settings.name,
        identity=identity,
        ledger=ledger,
        store=store,
        registry=LedgerRegistry(ledger),
        runtimes=runtimes,
        follower=f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}",
        host=host,
        kind=kind,
        policy=settings.policy,
        timing=settings.timing,
        metrics=StatsdMetrics(*settings.statsd) if settings.statsd else AirflowMetrics(),
        discovered=discovered,
        everywhere=settings.everywhere,
        clusters=settings.clusters,
    )
    if settings.place is not None and kind != "other":
        ledger.register_node(local_node(settings), host=host)
    refresh_nodes(workspace)
    return workspace


def _runtimes(settings: Settings, identity: str, store: Store) -> tuple[dict[str, Runtime], dict[str, Discovers]]:
    """Return the runtimes of the places that this process can reach, the local one first, and what looks at engines and clusters."""
    runtimes: dict[str, Runtime] = {}
    if settings.place is not None:
        # Two workspaces may name one folder, and each stops what it finds in its own without an owner.
        runtimes[settings.node] = LocalRuntime(settings.jobs_folder / identity, node=settings.node, store_options=settings.store_options)
    discovered: dict[str, Discovers] = {}
    taken = local_use(settings) if settings.engines else Use()
    for place in settings.engines:
        node = settings.node_of(place)
        engine = engine_of(place, settings.logins.get(place.name))
        runtimes[node] = docker_runtime(place, settings, identity, store, engine)
        used = taken if place.on_this_host else Use()
        discovered[node] = EngineNode(engine, place=place, name=node, workspace=identity, labels=settings.labels_of(place), taken=used)
    for place in settings.places:
        if place.kind == "kubernetes":
            cluster = cluster_of(place, settings.accesses[place.name])
            runtimes[place.name] = kubernetes_runtime(place, settings, identity, cluster)
            discovered[place.name] = ClusterNodes(cluster, place=place, workspace=identity, labels=settings.labels_of(place))
    return runtimes, discovered


def local_use(settings: Settings) -> Use:
    """Return what the local place has been given of this host by name, which its engines then have not.

    What is not named in the connection's ``capacity`` is offered by both: the local place
    and an engine beside it know nothing of each other's jobs.
    """
    if settings.place is None:
        return Use()
    node = local_node(settings)
    named = {resource for resource, amount in settings.capacity.items() if amount is not None}
    return Use(
        cpu=node.capacity["cpu"] if "cpu" in named else 0.0,
        memory_gib=node.capacity["memory"] if "memory" in named else 0.0,
        cpu_ids=frozenset(node.cpu_ids) if "cpu" in named else frozenset(),
        gpu_ids=frozenset(node.gpu_ids).union(*node.mig_ids.values()),
    )


def open_ledger(settings: Settings) -> Ledger:
    """Connect to the ledger alone, also when its schema is not there yet."""
    if settings.embedded:
        settings.jobs_folder.mkdir(parents=True, exist_ok=True)
    return connect(settings.ledger_url)


def local_node(settings: Settings) -> Node:
    """Return this host as a node: what is found here, overridden by the connection's capacity.

    Raises
    ------
    InvalidSpec
        If the capacity names what is no resource, or slices of GPUs without their ids.
    """
    found = discover(settings.node, settings.place or "local")
    node = overridden(found, settings.capacity, f"connection {settings.name!r}.capacity")
    local = next((place for place in settings.places if place.kind == "local"), LOCAL)
    return replace(node, labels={**node.labels, **settings.labels_of(local)})


def crew_of(workspace: Workspace) -> Crew:
    """Return the crew that follows a workspace's jobs in this process."""
    key = (os.getpid(), workspace.follower)
    return _crews.setdefault(key, Crew(workspace))


def resolve_secret(where: str) -> str:
    """Return the secret that stands at ``conn:ID``, ``var:NAME`` or ``file:PATH``.

    Raises
    ------
    NotFound
        If there is none; the message names the place, never the secret.
    """
    kind, _, name = where.partition(":")
    try:
        match kind:
            case "conn":
                return str(BaseHook.get_connection(name).get_uri())
            case "var":
                return str(Variable.get(name))
            case _:
                return Path(name).read_text(encoding="utf-8").rstrip("\n")
    except (AirflowNotFoundException, KeyError, OSError) as error:
        raise NotFound(f"secret {where!r} does not exist or cannot be read: {type(error).__name__}") from None
