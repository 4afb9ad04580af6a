"""A Docker engine, and images for it: the one that DOCKER_HOST names, or one of the suite's own, gone when the session ends."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from docker_daemon import Daemon, Engine, missing
from docker_images import BARE, BASE, FOREIGN, SHELL_LESS, Recipe, Unbuildable, image

_FIXTURES = {"docker_engine", "own_engine"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses an engine; whoever comes first also waits until images are made."""
    for item in items:
        if _FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.docker)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """Return the engine of the session; skipped where there is none, unless DLA_REQUIRE_DOCKER=1."""
    if found := answering():
        yield found
        return
    _need(missing())
    daemon = Daemon()
    yield daemon.engine
    daemon.remove()


@pytest.fixture(scope="session")
def own_daemon() -> Iterator[Daemon]:
    """Start a daemon that may be stopped, whatever engine the session has; skipped as `docker_engine` is."""
    _need(missing())
    started = Daemon()
    yield started
    started.remove()


@pytest.fixture
def own_engine(own_daemon: Daemon) -> Iterator[Daemon]:
    """Return a daemon that may be stopped, restarted, or paused; the next test finds it as it was."""
    yield own_daemon
    own_daemon.recover()


@pytest.fixture(scope="session")
def base_image(docker_engine: Engine) -> str:
    """Return the name of an image with Python as the package itself needs it."""
    return image_on(docker_engine, BASE)


@pytest.fixture(scope="session")
def foreign_image(docker_engine: Engine) -> str:
    """Return the name of an image with only another, older Python."""
    return image_on(docker_engine, FOREIGN)


@pytest.fixture(scope="session")
def bare_image(docker_engine: Engine) -> str:
    """Return the name of an image with a shell and without Python."""
    return image_on(docker_engine, BARE)


@pytest.fixture(scope="session")
def shell_less_image(docker_engine: Engine) -> str:
    """Return the name of an image without Python and without a shell."""
    return image_on(docker_engine, SHELL_LESS)


def image_on(engine: Engine, recipe: Recipe) -> str:
    """Return the name of a recipe's image in an engine; skipped where it cannot be made, unless DLA_REQUIRE_DOCKER=1."""
    try:
        return image(engine, recipe)
    except Unbuildable as error:
        reason = str(error)
    _need(reason)
    raise AssertionError(reason)


def answering() -> Engine | None:
    """Return the engine of DOCKER_HOST, or the machine's own, when it answers."""
    found = Engine(host=os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    try:
        return found if found.silence() is None else None
    except ImportError:
        return None


def _need(reason: str | None) -> None:
    if reason and os.environ.get("DLA_REQUIRE_DOCKER") == "1":
        pytest.fail(f"DLA_REQUIRE_DOCKER=1, but {reason}")
    if reason:
        pytest.skip(reason)
