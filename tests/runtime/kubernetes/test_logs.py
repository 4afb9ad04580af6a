"""Logs by byte offset, though the server knows none."""

from __future__ import annotations

import threading
import time
import uuid
from functools import partial
from pathlib import Path

import pytest
from fakes.kubernetes_api import FakeCluster, Play, Refused, ScriptedKubelet
from fixtures_kubernetes import ClusterAccess
from kubernetes_jobs import connected, job_of, pod_of, until

from airflow_dla.errors import PlaceUnavailable
from airflow_dla.runtime.kubernetes.cluster import Cluster
from airflow_dla.runtime.kubernetes.facts import Pod
from airflow_dla.runtime.kubernetes.logs import Logs
from airflow_dla.runtime.kubernetes.streams import LogStream


@pytest.fixture
def running(cluster: Cluster, kubelet: ScriptedKubelet) -> str:
    """Return a pod whose container runs on and writes what the test writes."""
    kubelet.script = lambda pod, container: Play(code=None)
    cluster.create("jobs", job_of("a"))
    return pod_of(cluster, "a", "Running")


@pytest.fixture
def stream(cluster: Cluster, running: str):
    """Return its output."""
    stream = LogStream(cluster, running, "main")
    yield stream
    stream.close()


def read_all(stream: LogStream, offset: int = 0, size: int = -1, **how: bool) -> bytes:
    """Read on until so many bytes came, or nothing comes for a while."""
    found, until_s = b"", time.monotonic() + (5 if size >= 0 else 0.3)
    while time.monotonic() < until_s and len(found) != size:
        found += stream.read(offset + len(found), **how)
    return found


def opened(fake: FakeCluster, *, follow: bool = True) -> int:
    """Return how often a log was asked for."""
    return sum(path.endswith("/log") and ("follow" in query) == follow for _, path, query in fake.asked)


def test_reading_on_costs_one_connection(stream: LogStream, kubelet: ScriptedKubelet, running: str, fake: FakeCluster):
    """However often it is read."""
    assert stream.read(0) == b""
    found = b""
    for number in range(20):
        kubelet.write(running, b"line %d\n" % number)
        found += read_all(stream, len(found), len(b"line %d\n" % number))
    assert found.splitlines() == [b"line %d" % number for number in range(20)]
    assert (opened(fake, follow=False), opened(fake)) == (1, 1)


def test_a_line_is_taken_back_for_free(stream: LogStream, kubelet: ScriptedKubelet, running: str, fake: FakeCluster):
    """Readers of whole lines ask again from the beginning of the one that has not ended."""
    kubelet.write(running, b"one\n" + b"x" * 20_000)
    found = read_all(stream, 0, 4 + 16 * 1024)
    assert found == b"one\n" + b"x" * 16 * 1024
    kubelet.write(running, b"end\n")
    assert read_all(stream, 4, 20_004) == b"x" * 20_000 + b"end\n"
    assert opened(fake) == 1


def test_any_offset_is_the_same_byte(stream: LogStream, kubelet: ScriptedKubelet, running: str):
    """Backwards, forwards, and in slices of any size."""
    text = b"".join(b"%05d\n" % number for number in range(2000))
    kubelet.write(running, text)
    assert read_all(stream, 0, len(text)) == text
    assert read_all(stream, 7, len(text) - 7) == text[7:]
    assert until(lambda: stream.read(6000, 13)) == text[6000:6013]
    assert until(lambda: stream.read(3, 5)) == text[3:8]
    assert until(lambda: stream.read(8, 5)) == text[8:13]


def test_a_connection_that_breaks_is_no_break(stream: LogStream, kubelet: ScriptedKubelet, running: str, fake: FakeCluster):
    """Each byte comes once."""
    found = b""
    for number in range(3):
        kubelet.write(running, b"".join(b"%d of %d\n" % (line, number) for line in range(50)))
        found += read_all(stream, len(found), sum(len(b"%d of %d\n" % (line, number)) for line in range(50)))
        fake.cut()
        until(partial(broken, stream, len(found)))
        stream._opens_at = 0.0
    assert found.splitlines() == [b"%d of %d" % (line, number) for number in range(3) for line in range(50)]


def broken(stream: LogStream, offset: int) -> bool:
    """Return whether a read found its connection cut."""
    try:
        stream.read(offset)
    except PlaceUnavailable:
        return True
    return stream._wire is None


def test_rotation_loses_no_place(stream: LogStream, kubelet: ScriptedKubelet, running: str, fake: FakeCluster):
    """Followed or cut off, what comes in the new file is read on."""
    kubelet.write(running, b"old\n")
    assert read_all(stream, 0, 4) == b"old\n"
    output = next(iter(kubelet.outputs.values()))
    output.rotate()
    kubelet.write(running, b"new\n")
    assert read_all(stream, 4, 4) == b"new\n"
    fake.cut()
    until(lambda: broken(stream, 8))
    output.rotate()
    time.sleep(0.01)
    kubelet.write(running, b"newest\n")
    stream._opens_at = 0.0
    assert read_all(stream, 8, 7) == b"newest\n"


def test_who_begins_amid_a_log_skips(cluster: Cluster, kubelet: ScriptedKubelet, running: str, fake: FakeCluster):
    """And follows from there on; where the file does not reach so far any more, from its end."""
    text = b"".join(b"%06d\n" % number for number in range(30_000))
    kubelet.write(running, text)
    cold = LogStream(cluster, running, "main")
    assert read_all(cold, 200_000, 10_000) == text[200_000:]
    kubelet.write(running, b"more\n")
    assert read_all(cold, 210_000, 5) == b"more\n"
    assert (opened(fake, follow=False), opened(fake)) == (1, 1)
    cold.close()
    late = LogStream(cluster, running, "main")
    assert late.read(1_000_000) == b""
    kubelet.write(running, b"after\n")
    assert read_all(late, 1_000_000, 6) == b"after\n"
    late.close()


def test_little_is_held(stream: LogStream, kubelet: ScriptedKubelet, running: str):
    """Of any log no more than a slice, of a line without an end neither."""
    kubelet.write(running, b"y" * 4_000_000)
    for _ in range(50):
        stream.read(3_000_000, 100_000)
        assert len(stream._held) < 400_000
    assert until(lambda: stream.read(3_000_000, 100_000)) == b"y" * 100_000


def test_the_end_is_read_whole(stream: LogStream, kubelet: ScriptedKubelet, running: str, cluster: Cluster):
    """Also what came after the connection that was open; then there is no more, for ever."""
    kubelet.write(running, b"one\n")
    assert read_all(stream, 0, 4) == b"one\n"
    kubelet.write(running, b"last words")
    kubelet.finish(running)
    pod_of(cluster, "a", "Succeeded")
    assert read_all(stream, 4, 10, last=True) == b"last words"
    assert stream.read(14, last=True) == b""
    assert stream.ended
    assert stream.read(0, 3, last=True) == b"one"


@pytest.mark.parametrize("line", [b"one\n", b"1" * 16 * 1024])
def test_a_node_without_watchers_is_asked_now_and_then(
    cluster: Cluster, kubelet: ScriptedKubelet, running: str, fake: FakeCluster, line: bytes
):
    """What it says of itself is no part of the log, also amid a line; the less there is the seldomer it is asked."""
    fake.watchers = 0
    stream = LogStream(cluster, running, "main", slots=threading.Semaphore(1))
    kubelet.write(running, line)
    assert read_all(stream, 0, len(line)) == line
    for number in range(3):
        stream._opens_at = 0.0
        kubelet.write(running, b"%d\n" % number)
        assert read_all(stream, len(line) + 2 * number, 2) == b"%d\n" % number
    assert opened(fake) == 1
    for rest_s in (2, 4, 8, 8):
        stream._opens_at = 0.0
        read_all(stream, len(line) + 6)
        assert stream._rest_s == rest_s
    stream.close()


def test_few_are_followed(cluster: Cluster, kubelet: ScriptedKubelet, running: str, fake: FakeCluster):
    """The others are read as well; a place is free when one of the few is closed."""
    slots = threading.Semaphore(1)
    first, second = (LogStream(cluster, running, "main", slots=slots) for _ in range(2))
    kubelet.write(running, b"one\n")
    assert first.read(0) == second.read(0) == b"one\n"
    assert first.read(4) == second.read(4) == b""
    assert (opened(fake), opened(fake, follow=False)) == (1, 3)
    first.close()
    second._opens_at = 0.0
    second.read(4)
    assert opened(fake) == 2
    second.close()
    assert slots.acquire(blocking=False)


def test_a_connection_that_broke_before_the_end(
    stream: LogStream, kubelet: ScriptedKubelet, running: str, cluster: Cluster, fake: FakeCluster
):
    """Is no reason to tell of what has ended a part only."""
    kubelet.write(running, b"one\n")
    assert read_all(stream, 0, 4) == b"one\n"
    fake.cut()
    kubelet.write(running, b"two\n")
    kubelet.finish(running)
    pod_of(cluster, "a", "Succeeded")
    assert stream.read(0, last=True) == b"one\ntwo\n"


def test_a_server_that_ends_a_stream_is_asked_again(stream: LogStream, kubelet: ScriptedKubelet, running: str, fake: FakeCluster):
    """Not more often than once a second."""
    kubelet.write(running, b"one\n")
    assert read_all(stream, 0, 4) == b"one\n"
    kubelet.finish(running)
    assert read_all(stream, 4) == b""
    assert opened(fake) <= 2


def test_what_cannot_be_read(cluster: Cluster, kubelet: ScriptedKubelet, fake: FakeCluster, stream: LogStream, running: str):
    """Not started: nothing yet. Gone: why. No server: come again."""
    fake.rules.answer_next(Refused(500, "InternalError", "dial tcp 192.0.2.1:10250: connect: connection refused"))
    with pytest.raises(PlaceUnavailable, match="connection refused"):
        stream.read(0)
    kubelet.script = lambda pod, container: Play(waits="ImagePullBackOff")
    cluster.create("jobs", job_of("b"))
    waiting = LogStream(cluster, pod_of(cluster, "b"), "main")
    assert waiting.read(0) == b""
    assert not waiting.ended
    gone = LogStream(cluster, "nowhere", "main")
    assert gone.read(0) == b""
    assert gone.ended
    assert "not found" in gone.refusal


# --- of attempts ---


def pod_at(cluster: Cluster, name: str) -> Pod:
    """Return a pod as it is now."""
    found = cluster.get("pods", name)
    assert found is not None
    return Pod.from_document(found)


def test_a_log_outlives_its_pod(cluster: Cluster, kubelet: ScriptedKubelet, running: str, tmp_path: Path):
    """Kept before it is collected, it is read by the same offsets, also by those who remember its pod."""
    logs = Logs(cluster, lambda attempt: tmp_path / "logs" / attempt)
    kubelet.write(running, b"one\ntwo\n")
    pod = pod_at(cluster, running)
    assert until(lambda: logs.read("0d9f.2", pod, 4, 100)) == b"two\n"
    kubelet.finish(running)
    pod_of(cluster, "a", "Succeeded")
    ended = pod_at(cluster, running)
    assert b"".join(logs.whole("0d9f.2", ended)) == b"one\ntwo\n"
    logs.keep("0d9f.2", ended)
    cluster.delete("jobs", "a")
    until(lambda: cluster.get("pods", running) is None)
    for known in (None, pod, ended):
        assert logs.read("0d9f.2", known, 4, 100) == b"two\n"
        assert b"".join(logs.whole("0d9f.2", known)) == b"one\ntwo\n"
    assert [file.name for file in (tmp_path / "logs").iterdir()] == ["0d9f.2"]


def test_what_nobody_reads_any_more_is_let_go(cluster: Cluster, kubelet: ScriptedKubelet, running: str, tmp_path: Path):
    """After ten minutes, so that its place among those that are followed is another's."""
    clock = [0.0]
    logs = Logs(cluster, lambda attempt: tmp_path / attempt, clock=lambda: clock[0])
    pod = pod_at(cluster, running)
    kubelet.write(running, b"one\n")
    assert logs.read("left.1", pod, 0, 100) == b"one\n"
    assert logs.read("left.1", pod, 4, 100) == b""
    clock[0] += 599
    logs.read("read.1", pod, 0, 100)
    assert list(logs._streams) == ["left.1", "read.1"]
    clock[0] += 2
    assert logs.read("read.1", pod, 4, 100) == b""
    assert list(logs._streams) == ["read.1"]
    assert logs._slots._value == 63
    logs.forget("read.1")
    assert logs._slots._value == 64


def test_a_log_that_nobody_kept_is_nothing(cluster: Cluster, running: str, tmp_path: Path):
    """Of a pod that is gone, or never was."""
    logs = Logs(cluster, lambda attempt: tmp_path / attempt)
    pod = pod_at(cluster, running)
    cluster.delete("pods", running, grace_s=0)
    until(lambda: cluster.get("pods", running) is None)
    assert logs.read("0d9f.2", pod, 0, 100) == b""
    logs.keep("0d9f.2", pod)
    assert logs.read("0d9f.2", None, 0, 100) == b""
    assert list(tmp_path.iterdir()) == []


# --- a real one's ---

WRITES = """
import sys, time
for number in range(300):
    print(number, "of the first", flush=True)
sys.stdout.write("x" * 50_000 + "\\n"); sys.stdout.flush()
for number in range(20):
    time.sleep(0.1)
    print("later", number, flush=True)
    print("and elsewhere", number, file=sys.stderr, flush=True)
"""


@pytest.mark.kubernetes
def test_a_real_log_is_the_same_however_it_is_read(named_cluster: ClusterAccess):
    """Followed, followed with breaks, begun amid it, and at once when it has ended."""
    cluster = Cluster(partial(connected, named_cluster), name="k8s", namespace=named_cluster.namespace)
    name = f"log-{uuid.uuid4().hex[:8]}"
    cluster.create("jobs", job_of(name, named_cluster.image, ["python3", "-c", WRITES]))
    try:
        pod = pod_of(cluster, name, "Running", "Succeeded")
        streams = [LogStream(cluster, pod, "main") for _ in range(3)]
        found = [b"", b"", b""]
        while pod_at(cluster, pod).phase == "Running":
            for at, stream in enumerate(streams):
                found[at] += stream.read(len(found[at]), 5000)
            streams[1].close()
            streams[2].close()
            streams[2] = LogStream(cluster, pod, "main")
        for at, stream in enumerate(streams):
            while (data := stream.read(len(found[at]), last=True)) or not stream.ended:
                found[at] += data
        plain = cluster.log(pod, "main")
        assert plain.count(b"\n") == 341
        assert [text == plain for text in found] == [True, True, True]
    finally:
        cluster.delete("jobs", name)
