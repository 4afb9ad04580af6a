"""A real engine, and containers that are gone when their test is."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from docker_daemon import Engine as DockerEngine

from airflow_dla.runtime.docker.engine import Engine


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


def until(true: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found
