"""A real engine and containers that are gone when their test is; words to decide about without one."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from typing import Any

import launches
import pytest
from docker_daemon import Engine as DockerEngine

from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.facts import EngineFacts, Image
from airflow_dla.specs import JobFile, PlaceSpec


@pytest.fixture(scope="session")
def engine_host(docker_engine: DockerEngine) -> str:
    """Return the address of a running engine."""
    return docker_engine.host


@pytest.fixture
def connect(engine_host: str) -> Callable[[], Any]:
    """Return what makes clients of the engine."""
    docker = pytest.importorskip("docker")
    return lambda: docker.APIClient(base_url=engine_host, version="auto", timeout=30)


@pytest.fixture
def engine(connect: Callable[[], Any], engine_host: str):
    """Return the engine."""
    engine = Engine(connect, name="here", address=engine_host)
    yield engine
    engine.close()


@pytest.fixture
def workspace() -> str:
    """Return a workspace of this test's own."""
    return uuid.uuid4().hex[:12]


@pytest.fixture
def make(engine: Engine, workspace: str, base_image: str):
    """Return a function that creates a container of a shell command; all of them are removed at the end."""
    made: list[str] = []

    def make_(script: str | list[str], attempt: str = "job.1", **body: Any) -> str:
        argv = ["sh", "-c", script] if isinstance(script, str) else script
        labels = {"dla.workspace": workspace, "dla.attempt": attempt, **body.pop("Labels", {})}
        name = f"dla-{workspace}-{attempt}"
        made.append(name)
        return engine.create(name, {"Image": base_image, "Cmd": argv, "Labels": labels, **body})

    yield make_
    for name in made:
        with contextlib.suppress(Exception):
            engine.remove(name, force=True)


@pytest.fixture(scope="session")
def facts() -> EngineFacts:
    """Return an engine with two CPUs and an init, on version 1 of control groups."""
    return EngineFacts(name="gpu1", api_version="1.41", cpus=2, memory_bytes=2**34, cgroup_version=1, has_init=True)


@pytest.fixture(scope="session")
def image() -> Image:
    """Return an image with CUDA's variables."""
    env = {"PATH": "/opt/bin:/bin", "NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "3", "LANG": "C.UTF-8"}
    return Image(id="sha256:0a", path=("/opt/bin", "/bin"), env=env)


@pytest.fixture(scope="session")
def place() -> Callable[..., PlaceSpec]:
    """Return a function that makes a place of a policy and other fields."""

    def make(policy: dict[str, Any] | None = None, **fields: Any) -> PlaceSpec:
        return PlaceSpec.from_mapping({"name": "gpu1", "kind": "docker", "policy": policy or {}, **fields})

    return make


@pytest.fixture(scope="session")
def launch(job: Callable[..., JobFile]) -> Callable[..., Launch]:
    """Return a function that makes a launch, of a default job unless it is given one."""
    return lambda **fields: launches.launch(fields.pop("job", None) or job(), **fields)
