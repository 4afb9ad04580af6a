"""Output by byte offset: of a real engine, and of one that breaks off."""

from __future__ import annotations

import resource
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import wait_until
from fakes.docker_engine import FakeEngine, answer

from airflow_dla.errors import PlaceUnavailable
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.streams import STDERR, STDOUT, LogStream

from .test_frames import framed

docker = pytest.importorskip("docker")

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def running(engine: Engine, container: str) -> bool:
    """Whether a container has not ended."""
    found = engine.inspect(container)
    return found is not None and bool(found["State"]["Running"])


def all_of(stream: LogStream, limit: int = 1 << 20) -> bytes:
    """Read an ended container's output in slices."""
    data = b""
    while piece := stream.read(len(data), limit, last=True):
        data += piece
    return data


@pytest.mark.docker
def test_both_streams_in_the_order_of_their_arrival(make: Callable[..., str], engine: Engine):
    """Each byte has the same offset every time; the streams can be told apart."""
    container = make("for i in $(seq 200); do echo out $i; echo err $i >&2; done")
    engine.start(container)
    live = engine.stream(container)
    seen = b""

    def followed() -> bool:
        nonlocal seen
        seen += live.read(len(seen), 100)
        return live.ended

    wait_until(followed)
    wait_until(lambda: not running(engine, container))
    seen += all_of(live)[len(seen) :]
    again = engine.stream(container)
    assert all_of(again) == seen
    assert [again.read(at, 50, last=True) for at in (500, 40, 1000)] == [seen[500:550], seen[40:90], seen[1000:1050]]
    frames = again.read_frames(0, last=True)
    assert b"".join(data for stream, data in frames if stream == STDOUT) == b"".join(b"out %d\n" % i for i in range(1, 201))
    assert b"".join(data for stream, data in frames if stream == STDERR) == b"".join(b"err %d\n" % i for i in range(1, 201))
    again.close()


@pytest.mark.docker
def test_it_does_not_wait(make: Callable[..., str], engine: Engine):
    """While nothing comes a read returns at once; what comes is there at the next; its end is remembered."""
    container = make("read x; echo more; read y", OpenStdin=True)
    engine.start(container)
    stream = engine.stream(container)
    began = time.monotonic()
    assert [stream.read(0) for _ in range(100)] == [b""] * 100
    assert time.monotonic() - began < 0.5
    engine.start(container, stdin=b"\n")
    assert wait_until(lambda: stream.read(0)) == b"more\n"
    assert not stream.ended
    engine.kill(container, "KILL")
    wait_until(lambda: stream.read(5) == b"" and stream.ended)
    assert stream.read(5, last=True) == b""
    assert stream.read(2, last=True) == b"re\n"


@pytest.mark.docker
def test_binary_and_endless_lines_in_little_memory(make: Callable[..., str], engine: Engine):
    """100 MB of any bytes in one line: every byte, and no more memory than a slice."""
    container = make("head -c 104857600 /dev/zero | tr '\\0' '\\177'; sleep 1; printf '\\000\\n\\033end' >&2")
    engine.start(container)
    stream = engine.stream(container)
    stream.read(0, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    offset, errors = 1, b""
    while running(engine, container):
        offset += len(stream.read(offset))
    offset = 0
    while frames := stream.read_frames(offset, 1 << 20, last=True, patience_s=60):
        offset += sum(len(data) for _, data in frames)
        errors += b"".join(data for stream_, data in frames if stream_ == STDERR)
        assert all(data.count(b"\x7f") == len(data) for stream_, data in frames if stream_ == STDOUT)
    assert offset == 104857600 + 6
    assert errors == b"\0\n\x1bend"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before <= 10_000  # KiB


@pytest.mark.docker
@pytest.mark.parametrize(("driver", "options", "kept"), [
    ("json-file", {}, b"\xef\xbf\xbd\0x\n"), ("local", {"compress": "false", "max-file": "1", "max-size": "1g"}, b"\xff\0x\n"),
])  # fmt: skip
def test_what_drivers_keep(make: Callable[..., str], engine: Engine, driver: str, options: dict[str, str], kept: bytes):
    """The engine's usual log keeps text only, other bytes become the replacement character; its local one keeps all."""
    container = make("printf '\\377\\000x\\n'", HostConfig={"LogConfig": {"Type": driver, "Config": options}})
    engine.start(container)
    assert wait_until(lambda: engine.stream(container).read(0, last=True)) == kept


@pytest.mark.docker
def test_nothing_is_lost_at_the_end(make: Callable[..., str], engine: Engine):
    """Whatever a short container wrote is there, however its end and the reading fall together."""
    for i in range(10):
        container = make(f"echo one; echo two; echo three {i}", f"job.{i}")
        engine.start(container)
        stream, seen = engine.stream(container), b""
        while running(engine, container):
            seen += stream.read(len(seen))
        while piece := stream.read(len(seen), last=True):
            seen += piece
        assert seen == b"one\ntwo\nthree %d\n" % i


@pytest.mark.docker
def test_no_container(engine: Engine):
    """Of a container that is gone there is no output, for ever, and the reason is told."""
    stream = engine.stream("none-such")
    assert (stream.read(0), stream.read(7), stream.ended) == (b"", b"", True)
    assert "No such container" in stream.refusal


@pytest.fixture
def fake(tmp_path: Path):
    """Return a function that starts a fake engine, and returns a stream of it."""
    started: list[Any] = []

    def fake_(script: Callable[[str], Iterator[bytes]]) -> LogStream:
        server = FakeEngine(tmp_path / "engine.sock", script)
        engine = Engine(lambda: docker.APIClient(base_url=server.address, version="1.41"), name="gpu1")
        started.extend((server, engine, stream := engine.stream("abc")))
        return stream

    yield fake_
    for one in started:
        one.close()


def test_cut_anywhere(fake: Callable[..., LogStream]):
    """Whatever packets bring, byte by byte, is read in order."""
    sent = HEAD + b"".join(chunk(piece) for piece in (framed([(1, b"he")])[:5], framed([(1, b"he")])[5:] + framed([(2, b"llo")])))

    def script(_: str) -> Iterator[bytes]:
        for byte in sent + chunk(b"")[:-2] + b"\r\n":
            yield bytes([byte])
            time.sleep(0.0005)

    assert fake(script).read(0, last=True) == b"hello"


@pytest.mark.parametrize("chunked", [True, False])
def test_a_broken_connection_is_not_the_end(fake: Callable[..., LogStream], chunked: bool):
    """Amid an answer it is an engine that does not answer; the next read connects and goes on where it stood."""
    whole = framed([(1, b"hello "), (2, b"world")])
    breaks = [True]

    def script(_: str) -> Iterator[bytes]:
        data = whole[:12] if breaks else whole
        yield (HEAD + chunk(data) if chunked else b"HTTP/1.1 200 OK\r\n\r\n" + data)
        if chunked and not breaks:
            yield b"0\r\n\r\n"

    stream = fake(script)
    assert wait_until(lambda: stream.read(0)) == b"hell"
    with pytest.raises(PlaceUnavailable, match=r"place gpu1: .*the log of container abc broke off"):
        stream.read(4, last=True)
    breaks.clear()
    assert stream.read(4, last=True) == b"o world"
    assert stream.ended


def test_garbage(fake: Callable[..., LogStream]):
    """What is no output of an engine's is not shown as one."""
    with pytest.raises(PlaceUnavailable, match="terminal"):
        fake(lambda _: iter([HEAD + chunk(b"not a frame at all")])).read(0, last=True)


def test_the_engine_s_own_words_are_not_output(fake: Callable[..., LogStream]):
    """What the engine says amid a stream has no offset."""
    stream = fake(lambda _: iter([HEAD + chunk(framed([(1, b"hello"), (3, b"Error grabbing logs: EOF")])) + b"0\r\n\r\n"]))
    assert stream.read(0, last=True) == b"hello"
    assert stream.refusal == "Error grabbing logs: EOF"


def test_a_driver_without_reading(fake: Callable[..., LogStream]):
    """An engine that keeps output elsewhere has none to give, and says so."""
    stream = fake(lambda _: iter([answer("501 Not Implemented", '{"message": "configured logging driver does not support reading"}')]))
    assert (stream.read(0), stream.ended) == (b"", True)
    assert stream.refusal == "configured logging driver does not support reading"


def test_idle_reading_keeps_nothing(fake: Callable[..., LogStream]):
    """Ten thousand looks at a silent stream leave no memory behind."""

    def script(_: str) -> Iterator[bytes]:
        yield HEAD
        time.sleep(3)

    stream = fake(script)
    stream.read(0)
    ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/airflow_dla/runtime/docker/*")  # others' threads live on
    tracemalloc.start()
    try:
        for _ in range(10_000):
            stream.read(0)
        kept = tracemalloc.take_snapshot().filter_traces([ours])
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in kept.traces) < 10_000
