"""Engines that do not answer, or not as engines do."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.docker_engine import FakeEngine, answer

from airflow_dla.errors import LaunchRefused, PlaceUnavailable
from airflow_dla.runtime.docker.engine import Engine

docker = pytest.importorskip("docker")

# docker-py leaves the socket open that it could not connect.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True, scope="module")
def _settled() -> Iterator[None]:
    """Leave what was there before these tests to itself: looking for sockets in it takes a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _collected(_settled: None) -> Iterator[None]:
    """Have such sockets found here, where they are expected."""
    yield
    gc.collect()


def engine_at(address: str, **more: Any) -> Engine:
    """Return the engine of an address."""
    return Engine(lambda: docker.APIClient(base_url=address, version="1.41"), name="gpu1", address=address, quick_s=0.5, slow_s=0.5, **more)


@pytest.fixture
def fake(tmp_path: Path):
    """Return a function that starts a fake engine, and returns ours for it."""
    started: list[FakeEngine] = []

    def fake_(script: Callable[[str], Iterator[bytes]], **more: Any) -> Engine:
        started.append(FakeEngine(tmp_path / "engine.sock", script))
        return engine_at(started[-1].address, **more)

    yield fake_
    for one in started:
        one.close()


def test_no_socket(tmp_path: Path):
    """A socket that is not there is named, with what would do."""
    with pytest.raises(PlaceUnavailable, match=r"place gpu1: the Docker engine at unix:.*no such socket: is dockerd running"):
        engine_at(f"unix://{tmp_path}/none.sock").facts()


def test_nobody_listens(tmp_path: Path):
    """A socket that an ended engine left is unavailable."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
    with pytest.raises(PlaceUnavailable, match="refused; is dockerd running, may this user"):
        engine_at(f"unix://{tmp_path}/left.sock").facts()


def test_hint_of_permission():
    """A socket that this user may not open has a hint of its own."""

    def connect() -> None:
        raise docker.errors.DockerException("Error while fetching server API version") from PermissionError(13, "Permission denied")

    with pytest.raises(PlaceUnavailable, match=r"Permission denied; .* socket's group \(usually docker\)"):
        Engine(connect, name="gpu1").facts()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"220 mail.example.org ESMTP\r\n", "protocol"),
        (b"", "does not answer"),
        (answer("200 OK", "<html>"), "does not answer"),
        (answer("502 Bad Gateway", "<html>", "text/html"), "it said: <html>"),
        (answer("500 Internal Server Error", '{"message": "context deadline exceeded"}'), "context deadline exceeded"),
    ],
)
def test_garbled(fake: Callable[..., Engine], sent: bytes, said: str):
    """What is no engine's answer is an engine that does not answer."""
    with pytest.raises(PlaceUnavailable, match=said):
        fake(lambda _: iter([sent])).facts()


def test_an_answer_that_lacks_something(fake: Callable[..., Engine]):
    """A container without an id in a good answer is no engine's."""
    engine = fake(lambda _: iter([answer("201 Created", "{}")]))
    with pytest.raises(PlaceUnavailable, match="Id"):
        engine.create("name", {})


def test_refusals(fake: Callable[..., Engine]):
    """An error of the engine that speaks of the job is a refusal, in its words."""
    said = answer("500 Internal Server Error", '{"message": "could not select device driver"}')
    engine = fake(lambda line: iter([answer("404 Not Found", '{"message": "none"}') if line.startswith("GET") else said]))
    with pytest.raises(LaunchRefused, match="place gpu1: the container abc cannot start: could not select device driver"):
        engine.start("abc")
    with pytest.raises(LaunchRefused, match="could not select"):
        engine.create("abc", {})
    assert engine.update("abc", {}) == "could not select device driver"


def test_what_ran_when_it_was_looked_at_is_not_started(fake: Callable[..., Engine]):
    """It may have ended since, and an engine that is asked to start it then would run it again."""
    asked: list[str] = []

    def script(line: str) -> Iterator[bytes]:
        asked.append(line.partition(" ")[0])
        yield answer("200 OK", '{"State": {"Status": "running"}}') if line.startswith("GET") else answer("204 No Content", "")

    fake(script).start("abc")
    assert asked == ["GET"]


@pytest.mark.parametrize("answers", [True, False])
def test_an_engine_that_keeps_the_input_open(fake: Callable[..., Engine], answers: bool):
    """It has read what was written, and the container runs, unless it does not answer any more."""
    ended = threading.Event()

    def script(line: str) -> Iterator[bytes]:
        if "/attach" in line:
            yield b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            ended.wait(10)
        elif "/start" in line:
            yield answer("204 No Content", "")
        elif created or answers:
            yield answer("200 OK", json.dumps({"State": {"Status": created.pop() if created else "running"}}))
        else:
            ended.wait(10)

    created = ["created"]
    engine = fake(script)
    began = time.monotonic()
    with contextlib.nullcontext() if answers else pytest.raises(PlaceUnavailable, match="too long"):
        engine.start("abc", stdin=b"words")
    assert time.monotonic() - began < 5
    ended.set()
    engine.close()


def test_silence_has_an_end(fake: Callable[..., Engine]):
    """An engine that accepts and says nothing, as a stopped one does, is unavailable in time."""

    def silent(_: str) -> Iterator[bytes]:
        time.sleep(5)
        yield b""

    began = time.monotonic()
    with pytest.raises(PlaceUnavailable, match="too long"):
        fake(silent).inspect("abc")
    assert time.monotonic() - began < 3


def test_after_a_fault_it_connects_anew(fake: Callable[..., Engine]):
    """One broken connection is one error; the next call is made by a new client."""
    answers = [b"", answer("200 OK", '{"Id": "abc"}')]
    engine = fake(lambda _: iter([answers.pop(0)]))
    with pytest.raises(PlaceUnavailable):
        engine.inspect("abc")
    assert engine.inspect("abc") == {"Id": "abc"}
    engine.close()


def test_one_waits_for_all(fake: Callable[..., Engine]):
    """Once an engine let somebody wait in vain, nobody else waits, until one finds that it answers again."""
    silent = [True]

    def script(_: str) -> Iterator[bytes]:
        if silent:
            time.sleep(1)
        yield b"" if silent else answer("200 OK", '{"Id": "abc"}')

    now = [0.0]
    engine = fake(script, clock=lambda: now[0])
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(PlaceUnavailable, match="too long"):
            engine.inspect("abc")
    assert time.monotonic() - began < 3
    silent.clear()
    with pytest.raises(PlaceUnavailable, match="too long"):
        engine.inspect("abc")
    now[0] = 5.1
    assert engine.inspect("abc") == engine.inspect("abc") == {"Id": "abc"}
    engine.close()
