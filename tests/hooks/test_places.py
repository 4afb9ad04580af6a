"""Tests of a workspace with several places: what is built, what is registered, and what an outage of one leaves of the rest."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

pytest.importorskip("airflow.providers.docker", reason="extra docker is not installed")

from fakes.docker_engine import FakeEngine, nothing_in_it

from airflow_dla.hooks import DlaHook
from airflow_dla.hooks.jobs import JobHook
from airflow_dla.hooks.settings import Settings
from airflow_dla.hooks.workspace import local_use
from airflow_dla.ledger import Attempt
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.runtime.docker.shared_ground import SharedGround
from airflow_dla.runtime.docker.volume_ground import VolumeGround
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import AttemptState, JobSpec

HOST = socket.gethostname()
Connect = Callable[..., str]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    """Return an engine of four CPUs and 8 GiB, with nothing in it."""
    found = FakeEngine(tmp_path / "d.sock", nothing_in_it)
    yield found
    found.close()


@pytest.fixture
def connect(embedded: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Return a function that makes a connection with such places, and a ledger."""

    def make(**extra: Any) -> str:
        monkeypatch.setenv("AIRFLOW_CONN_LAB", json.dumps({"conn_type": "dla", "extra": extra}))
        DlaHook().workspace()  # the embedded ledger, which this connection names by default
        return "lab"

    return make


def settings_of(conn_id: str) -> Settings:
    """Return what a connection says."""
    return DlaHook(conn_id).settings()


def test_each_place_has_a_runtime_and_a_node(connect: Connect, fake: FakeEngine) -> None:
    """The local one comes first; an engine's node has what its host has, and the labels by which jobs find it."""
    places = {"gpu1": {"kind": "docker", "url": fake.address, "image": "x", "labels": {"zone": "a"}}, "here": {"kind": "local"}}
    workspace = DlaHook(connect(places=places), kind="worker").workspace()
    assert [(node, type(runtime)) for node, runtime in workspace.runtimes.items()] == [(HOST, LocalRuntime), ("gpu1", DockerRuntime)]
    nodes = {row.node.name: row.node for row in workspace.ledger.nodes()}
    assert nodes["gpu1"].capacity == {"cpu": 4.0, "memory": 8.0}
    assert (nodes["gpu1"].place, nodes["gpu1"].labels) == ("gpu1", {"zone": "a", "images": "yes", "imageless": "yes"})
    assert (nodes[HOST].place, nodes[HOST].labels) == ("here", {"imageless": "yes"})


def test_who_only_reads_asks_no_engine(connect: Connect, fake: FakeEngine) -> None:
    """A command makes no nodes and waits for nobody."""
    workspace = DlaHook(connect(places={"gpu1": {"kind": "docker", "url": fake.address}})).workspace()
    assert list(workspace.runtimes) == ["gpu1"]
    assert workspace.ledger.nodes() == ()
    assert fake.requests == []


def test_an_engine_that_is_away_leaves_the_rest(connect: Connect, tmp_path: Path) -> None:
    """The workspace opens, and the local place takes jobs."""
    places = {"here": {"kind": "local"}, "gpu1": {"kind": "docker", "url": f"unix://{tmp_path}/none.sock"}}
    workspace = DlaHook(connect(places=places), kind="worker").workspace()
    assert [row.node.name for row in workspace.ledger.nodes()] == [HOST]
    assert set(workspace.runtimes) == {HOST, "gpu1"}


def test_what_the_local_place_is_given_by_name_its_engine_has_not(connect: Connect, fake: FakeEngine) -> None:
    """Nothing that is named is offered twice."""
    places = {"here": {"kind": "local"}, "gpu1": {"kind": "docker", "url": fake.address}}
    conn_id = connect(places=places, capacity={"cpu": 1, "memory": "2GiB", "gpu": 1})
    used = local_use(settings_of(conn_id))
    assert (used.cpu, used.memory_gib, len(used.cpu_ids), used.gpu_ids) == (1.0, 2.0, 1, {"0"})
    nodes = {row.node.name: row.node for row in DlaHook(conn_id, kind="worker").workspace().ledger.nodes()}
    assert nodes["gpu1"].capacity == {"cpu": 3.0, "memory": 6.0}
    assert not set(nodes["gpu1"].cpu_ids) & set(nodes[HOST].cpu_ids)


def test_files_lie_in_a_folder_of_the_place(connect: Connect, fake: FakeEngine) -> None:
    """The place's own where it names one, else below that of all jobs."""
    conn_id = connect(places={"gpu1": {"kind": "docker", "url": fake.address, "folder": "/srv/dla"}}, jobs_folder="/scratch")
    assert settings_of(conn_id).folder_of(settings_of(conn_id).engines[0]) == Path("/srv/dla")
    conn_id = connect(places={"gpu1": {"kind": "docker", "url": fake.address}}, jobs_folder="/scratch")
    assert settings_of(conn_id).folder_of(settings_of(conn_id).engines[0]) == Path("/scratch/places/gpu1")


@pytest.fixture
def bucket() -> str:
    """Return the address of a store that is no folder."""

    class Bucket(MemoryFileSystem):
        protocol = "bucket"

    fsspec.register_implementation("bucket", Bucket, clobber=True)
    return "bucket://dla"


def test_an_engine_behind_an_address_keeps_files_in_volumes(
    connect: Connect, bucket: str, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs may be deferred whichever host the triggerer is on; those of an engine behind this host's socket may not."""
    far = {"kind": "docker", "url": "tcp://127.0.0.1:9", "helper": "h"}
    near = {"kind": "docker", "url": fake.address}
    hook = JobHook(connect(ledger=DlaHook().settings().ledger_url, store=bucket, places={"far": far, "near": near}))
    for option, value in (("CORE__EXECUTOR", "CeleryExecutor"), ("DATABASE__SQL_ALCHEMY_CONN", "postgresql://db/airflow")):
        monkeypatch.setenv(f"AIRFLOW__{option}", value)
    workspace = hook.get_conn()
    grounds = {node: type(runtime._ground) for node, runtime in workspace.runtimes.items() if isinstance(runtime, DockerRuntime)}
    assert grounds == {"far": VolumeGround, f"near-{HOST}": SharedGround}
    assert workspace.everywhere == {"far"}
    reasons = {node: hook.cannot_defer(attempt(node)) for node in grounds}
    assert reasons == {"far": "", f"near-{HOST}": f"the job runs on {workspace.host}, and no triggerer is known there"}


def attempt(pinned: str) -> Attempt:
    """Return an attempt of a job that goes to a node."""
    key = {"dag": "d", "run": "r", "task": "t", "index": -1}
    given = {"key": key, "agent": {"name": "a"}, "entrypoint": "work:main", "request": {"cpu": 1}, "lineage": {"pinned": pinned}}
    return Attempt(id="job.1", job="job", number=1, spec=JobSpec.from_mapping(given), state=AttemptState.WAITING, created_at=0.0)
