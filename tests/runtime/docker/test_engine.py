"""A real engine: what it does for us, and what it says when it will not."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from contracts.runtime import wait_until

from airflow_dla.errors import Conflict, InvalidSpec, LaunchRefused, NotReady, PlaceUnavailable
from airflow_dla.runtime.docker.engine import Engine

pytestmark = pytest.mark.docker

Make = Callable[..., str]


def exited(engine: Engine, container: str) -> int:
    """Wait for a container's end; return its exit code."""
    state = wait_until(lambda: (found := engine.inspect(container)) and found["State"]["Status"] == "exited" and found["State"])
    return int(state["ExitCode"])


def test_creating_twice_is_creating_once(make: Make, engine: Engine):
    """The second creation of a name finds the first one's container, many at once as well."""
    first = make("true")
    with ThreadPoolExecutor(8) as pool:
        assert {future.result() for future in [pool.submit(make, "true") for _ in range(8)]} == {first}
    found = engine.inspect(first)
    assert found is not None
    assert engine.create(found["Name"].lstrip("/"), {"Image": "none:1"}) == first


@pytest.mark.parametrize(("body", "said"), [({"Image": "none.example:1"}, "No such image"), ({"HostConfig": {"Memory": 5}}, "[Mm]emory")])
def test_creation_refused(engine: Engine, workspace: str, bare_image: str, body: Any, said: str):
    """What the engine will not make is refused in its words."""
    with pytest.raises(LaunchRefused, match=f"place here: the container {workspace} cannot be made: .*{said}"):
        engine.create(workspace, {"Image": bare_image, "Cmd": ["true"], **body})


@pytest.mark.parametrize(
    ("argv", "host", "said"),
    [
        (["no-such-command"], {}, "executable file not found"),
        (["/tmp"], {}, "permission denied|is a directory"),
        (["true"], {"DeviceRequests": [{"Count": -1, "Capabilities": [["tpu"]]}]}, "could not select device driver"),
    ],
)
def test_start_refused(make: Make, engine: Engine, argv: list[str], host: Any, said: str):
    """What cannot run is refused with what happened, and the secrets that it would have got are not told."""
    container = make(argv, HostConfig=host, OpenStdin=True, StdinOnce=True)
    with pytest.raises(LaunchRefused, match=said) as refused:
        engine.start(container, stdin=b"a-secret")
    assert "a-secret" not in repr(refused.value)


def test_standard_input(make: Make, engine: Engine):
    """The process reads all of it and its end; starting it again changes nothing."""
    container = make("wc -c; cat; echo left", OpenStdin=True, StdinOnce=True)
    engine.start(container, stdin=b"x" * 3_000_000)
    engine.start(container)
    assert exited(engine, container) == 0
    assert engine.stream(container).read(0, last=True) == b"3000000\nleft\n"


def test_what_has_ended_is_not_run_again(make: Make, engine: Engine):
    """A second start, however late, changes nothing."""
    container = make("echo once")
    engine.start(container)
    exited(engine, container)
    engine.start(container, stdin=b"late")
    assert engine.stream(container).read(0, last=True) == b"once\n"


def test_input_of_one_who_died_amid_starting(make: Make, engine: Engine):
    """Whoever starts it again hands over the input, where the container's stays open for it."""
    container = make("read line; echo got $line", OpenStdin=True)
    engine.start(container)
    engine.start(container, stdin=b"words\n")
    assert exited(engine, container) == 0
    assert engine.stream(container).read(0, last=True) == b"got words\n"


def test_the_end_is_told(make: Make, engine: Engine):
    """Whoever awaits it hears of it at once, waits no longer than he said, and not for what is gone."""
    container = make("read line", OpenStdin=True, StdinOnce=True)
    engine.start(container)
    began = time.monotonic()
    engine.await_end(container, 0.3)
    assert 0.25 < time.monotonic() - began < 5.0
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(engine.await_end, container, 30.0)
        time.sleep(0.1)
        assert not told.done()
        assert engine.kill(container, "KILL")
        told.result(timeout=10.0)
    assert exited(engine, container) == 137
    engine.await_end("none-" + container, 30.0)


def test_signals(make: Make, engine: Engine):
    """A signal reaches what runs, and only that; there are no others than the kernel's."""
    container = make("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    assert not engine.kill(container, "TERM")
    engine.start(container)
    stream = engine.stream(container)
    wait_until(lambda: stream.read(0))
    with pytest.raises(InvalidSpec, match="NONE"):
        engine.kill(container, "NONE")
    assert engine.kill(container, "TERM")
    assert exited(engine, container) == 7
    assert not engine.kill(container, "KILL")
    assert not engine.kill("none-" + container, "KILL")
    stream.close()


def test_removal(make: Make, engine: Engine):
    """What runs is removed by force only; what is gone is removed."""
    container = make("sleep 60")
    engine.start(container)
    with pytest.raises(Conflict, match="running container"):
        engine.remove(container)
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(engine.remove, container, force=True) for _ in range(4)]:
            future.result()
    engine.remove(container)
    assert engine.inspect(container) is None


def test_update(make: Make, engine: Engine):
    """Limits change while it runs; memory that is in use stays, and the engine says why."""
    container = make("head -c 30000000 /dev/zero | tail -c 30000000 | sleep 60", HostConfig={"Memory": 1 << 26, "MemorySwap": 1 << 26})
    engine.start(container)
    assert engine.update(container, {"NanoCpus": 500_000_000}) is None
    found = engine.inspect(container)
    assert found is not None
    assert found["HostConfig"]["NanoCpus"] == 500_000_000
    time.sleep(0.5)
    assert "unable to set memory limit" in (engine.update(container, {"Memory": 8_000_000, "MemorySwap": 8_000_000}) or "")
    assert engine.update("none-" + container, {"NanoCpus": 1}) is not None


def test_list(make: Make, engine: Engine, workspace: str):
    """All containers of a workspace by attempt, run or not; nobody else's."""
    running, waiting = make("sleep 60", "job.1"), make("true", "job.2")
    engine.start(running)
    found = engine.listing(workspace)
    assert {label: (one.id, one.state) for label, one in found.items()} == {"job.1": (running, "running"), "job.2": (waiting, "created")}
    assert engine.listing(workspace, max_age_s=60) is found
    assert engine.listing("other-" + workspace) == {}


def test_foreign(make: Make, engine: Engine, workspace: str):
    """What others run is seen with its limits; what is ours is not."""
    ours, theirs = make("sleep 60"), make("sleep 60", "job.2", Labels={"dla.workspace": "another"}, HostConfig={"Memory": 1 << 26})
    engine.start(ours)
    engine.start(theirs)
    found = {one["Id"]: one["HostConfig"]["Memory"] for one in engine.foreign(workspace)}
    assert found[theirs] == 1 << 26
    assert ours not in found
    assert not {ours, theirs} & {one["Id"] for one in engine.foreign()}


def test_files(make: Make, engine: Engine):
    """Files are seen, read and written in a container that never ran; links are followed."""
    container = make("ls -ln /tmp/note; cat /tmp/note")
    assert engine.has_file(container, "/bin/sh")
    assert not engine.has_file(container, "/bin/none")
    assert (engine.read_file(container, "/bin/sh", 4), engine.read_file(container, "/tmp", 9)) == (b"\x7fELF", None)
    engine.put_files(container, "/tmp", {"note": b"words"}, owner=(12, 34))
    assert engine.read_file(container, "/tmp/note", 100) == b"words"
    with pytest.raises(LaunchRefused, match="/none"):
        engine.put_files(container, "/none", {"note": b""})
    engine.start(container)
    exited(engine, container)
    listed = engine.stream(container).read(0, last=True)
    assert listed.split()[:5] == [b"-rw-------", b"1", b"12", b"34", b"5"]
    assert listed.endswith(b"words")


def test_images(engine: Engine, bare_image: str):
    """An image that is there is there; one that cannot be had is refused to all who ask, in the registry's words."""
    engine.pull(bare_image)
    assert engine.image(bare_image) is not None
    name = "127.0.0.1:9/none:1"
    with pytest.raises(NotReady, match=f"image {name}: pulling"):
        engine.pull(name)

    def refusal() -> str:
        try:
            engine.pull(name)
        except NotReady:
            return ""
        except LaunchRefused as error:
            return str(error)
        return ""

    said = wait_until(refusal)
    assert "connection refused" in said
    assert "can the engine's host reach that registry?" in said
    assert refusal() == said


def test_facts(engine: Engine):
    """The engine tells of itself once per connection."""
    facts = engine.facts()
    assert engine.facts() is facts


def test_many_threads(make: Make, engine: Engine, workspace: str):
    """One engine serves many threads at once."""
    container = make("echo hello")
    engine.start(container)
    exited(engine, container)

    def work(_: int) -> bytes:
        assert engine.has_file(container, "/bin/sh")
        assert engine.listing(workspace)["job.1"].id == container
        return engine.stream(container).read(0, last=True)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(work, range(64))) == {b"hello\n"}


def test_unavailable_then_there(connect: Callable[[], Any]):
    """An engine that comes back is used again by the same object."""
    down = [True]

    def sometimes() -> Any:
        if down[0]:
            raise ConnectionRefusedError(111, "Connection refused")
        return connect()

    engine = Engine(sometimes, name="here")
    with pytest.raises(PlaceUnavailable):
        engine.facts()
    down[0] = False
    assert engine.facts()
    engine.close()
