"""Engines that go away while jobs run: nothing is concluded from silence, and the end is the right one."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contracts.runtime import ended, job_file, submitted, wait_until
from docker_daemon import Daemon
from docker_images import BARE
from fixtures_docker import image_on

from airflow_dla.errors import PlaceUnavailable
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.runtime.docker.shared_ground import SharedGround
from airflow_dla.specs import Exit, ExitReason, PlaceSpec

# docker-py leaves the socket open that it could not connect.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Have such sockets found here, where they are expected."""
    yield
    gc.collect()


#: Counts until it is told to end, whatever else it is told.
COUNTS = "trap '' TERM; i=0; while [ ! -e /dla/tmp/go ]; do echo $i; i=$((i+1)); sleep 0.1; done; echo end"


@pytest.fixture
def own(own_engine: Daemon, jobs_folder: Path) -> Iterator[DockerRuntime]:
    """Return a runtime on an engine that may be stopped, one that waits for no more than a second."""
    address = own_engine.engine.host
    engine = Engine(lambda: own_engine.engine.client(timeout_s=1), name="own", address=address, quick_s=1.0, slow_s=5.0)
    place = PlaceSpec(name="own", kind="docker", url=address, image=image_on(own_engine.engine, BARE))
    yield DockerRuntime(engine, place, node="own", workspace="outages", ground=SharedGround(jobs_folder))
    engine.close()


@pytest.fixture
def counting(own: DockerRuntime) -> str:
    """Start a job that counts; return its attempt."""
    submitted(own, Launch(job=job_file("job.1", ["sh", "-c", COUNTS])))
    wait_until(lambda: own.logs("job.1", 0).data)
    return "job.1"


def patiently(call: Callable[[], Exit]) -> Exit:
    """Call again while the engine does not answer."""
    while True:
        with contextlib.suppress(PlaceUnavailable):
            return call()
        time.sleep(0.1)


def whole_log(own: DockerRuntime, attempt: str) -> list[bytes]:
    """Return the lines of an ended job's log, read from the beginning."""
    return own.logs(attempt, 0).data.splitlines()


def test_restarted_with_live_restore(own: DockerRuntime, own_engine: Daemon, counting: str, jobs_folder: Path):
    """A job outlives its engine, and so does the reading of its log where it stood."""
    own_engine.restart("--live-restore")  # it was started without, and ends with its engine
    patiently(lambda: ended(own, counting, 30))
    submitted(own, Launch(job=job_file("job.2", ["sh", "-c", COUNTS])))
    wait_until(lambda: own.logs("job.2", 0).data)
    read = own.logs("job.2", 0)
    own_engine.stop()
    with pytest.raises(PlaceUnavailable):
        own.status("job.2")
    own_engine.start("--live-restore")
    assert own.status("job.2").alive
    more = wait_until(lambda: own.logs("job.2", read.offset).data)
    (jobs_folder / "job.2/dla/tmp/go").touch()
    assert ended(own, "job.2").succeeded
    lines = whole_log(own, "job.2")
    assert (read.data + more).splitlines() == lines[: len((read.data + more).splitlines())]
    assert lines[-1] == b"end"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_restarted(own: DockerRuntime, own_engine: Daemon, counting: str, how: signal.Signals):
    """An engine that ended, or crashed, and took its containers with it: the job was killed, and its log is kept."""
    own_engine.stop(how)
    for _ in range(3):
        with pytest.raises(PlaceUnavailable):
            own.status(counting)
    own_engine.start()
    found = ended(own, counting, 30)
    assert found.reason in {ExitReason.KILLED, ExitReason.LOST}
    assert "engine" in found.message
    assert whole_log(own, counting)[0] == b"0"


def test_silent_for_a_while(own: DockerRuntime, own_engine: Daemon, counting: str, jobs_folder: Path):
    """A stopped daemon: two hundred followers on eight threads wait once, conclude nothing, and see the right end later."""
    own_engine.pause()
    time.sleep(0.3)  # a look that others share may be so old
    waited: list[float] = []

    def ask() -> None:
        began = time.monotonic()
        with pytest.raises(PlaceUnavailable):
            own.status(counting)
        waited.append(time.monotonic() - began)

    for _ in range(25):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(waited) == 200
    assert sum(one > 0.5 for one in waited) <= 8
    (jobs_folder / counting / "dla/tmp/go").touch()
    own_engine.resume()
    found = patiently(lambda: ended(own, counting))
    assert found.succeeded
    assert whole_log(own, counting)[-1] == b"end"


def test_cancel_while_silent(own: DockerRuntime, own_engine: Daemon, counting: str):
    """A stop that did not reach the engine is asked for again, and then counts."""
    own_engine.pause()
    with pytest.raises(PlaceUnavailable):
        own.cancel(counting, ExitReason.PREEMPTED)
    own_engine.resume()
    time.sleep(5.1)
    own.cancel(counting, ExitReason.PREEMPTED)
    assert ended(own, counting).reason is ExitReason.PREEMPTED


def test_away_while_it_is_launched(own: DockerRuntime, own_engine: Daemon):
    """A launch that the engine's silence cut is finished later, once."""
    own_engine.pause()
    launch = Launch(job=job_file("job.1", ["sh", "-c", "echo once"]))
    with pytest.raises(PlaceUnavailable):
        submitted(own, launch)
    own_engine.resume()
    time.sleep(5.1)
    submitted(own, launch)
    assert ended(own, "job.1").succeeded
    assert whole_log(own, "job.1") == [b"once"]
