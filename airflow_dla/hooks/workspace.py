"""The hook that turns a ``dla`` connection into a workspace: ledger, store, registry and places."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from airflow.sdk import BaseHook, Variable, conf
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_dla.artifacts import Store
from airflow_dla.control import Crew, Workspace
from airflow_dla.errors import InvalidSpec, NotFound
from airflow_dla.hooks.metrics import AirflowMetrics
from airflow_dla.hooks.settings import Settings, embedded_settings, named_connections, read_settings
from airflow_dla.ledger import FollowerKind, Ledger, connect
from airflow_dla.registry import LedgerRegistry
from airflow_dla.runtime.host import discover, host_id
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import Node, mig_profile
from airflow_dla.specs.resources import amounts, profile
from airflow_dla.specs.values import mapping_of, sequence_of, text
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
    runtimes = {}
    if settings.place is not None:
        # Two workspaces may name one folder, and each stops what it finds in its own without an owner.
        jobs = settings.jobs_folder / identity
        runtimes[settings.node] = LocalRuntime(jobs, node=settings.node, store_options=settings.store_options)
        if kind != "other":
            ledger.register_node(local_node(settings), host=host)
    return Workspace(
        name=settings.name,
        identity=identity,
        ledger=ledger,
        store=Store(settings.store_url, options=settings.store_options),
        registry=LedgerRegistry(ledger),
        runtimes=runtimes,
        follower=f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}",
        host=host,
        kind=kind,
        policy=settings.policy,
        metrics=StatsdMetrics(*settings.statsd) if settings.statsd else AirflowMetrics(),
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
    found, where = discover(settings.node, settings.place or "local"), f"connection {settings.name!r}.capacity"
    named = {key: value for key, value in settings.capacity.items() if value is not None}
    labels = {**found.labels, **mapping_of(text)(named.pop("labels", {}), f"{where}.labels")}
    if "gpu_type" in named:
        labels["gpu_type"] = str(named.pop("gpu_type"))
    mig_ids = mapping_of(sequence_of(text), key=profile)(named.pop("mig_ids", {}), f"{where}.mig_ids")
    capacity = {f"mig-{name}": float(len(ids)) for name, ids in mig_ids.items()} | amounts(named, where)
    _refuse_slices_without_ids(capacity, mig_ids, where)
    return Node(
        name=found.name,
        place=found.place,
        capacity={**found.capacity, **capacity},
        labels=labels,
        cpu_ids=found.cpu_ids[: max(1, int(capacity.get("cpu", len(found.cpu_ids))))],
        gpu_ids=tuple(str(index) for index in range(int(capacity.get("gpu", 0)))),
        mig_ids=mig_ids,
    )


def _refuse_slices_without_ids(capacity: Mapping[str, float], mig_ids: Mapping[str, Sequence[str]], where: str) -> None:
    for resource, amount in capacity.items():
        name = mig_profile(resource)
        known = len(mig_ids.get(name or "", ()))
        if name is not None and amount > known:
            raise InvalidSpec(
                f"{where}.{resource} is {amount:g}, but mig_ids names {known} of them; a job finds its slice by its id, so write "
                f'{{"mig_ids": {{"{name}": ["MIG-…"]}}}} with the ids that nvidia-smi -L shows'
            )


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
