"""What an engine costs its followers: lists, idle streams, and long logs; beside docker-py's own reader.

Run by hand, with ``DOCKER_HOST`` set: ``python tests/bench/bench_docker_engine.py IMAGE [CONTAINERS] [MEGABYTES]``.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from docker import APIClient

from airflow_dla.runtime.docker.engine import Engine


@contextmanager
def containers(engine: Engine, image: str, script: str, count: int, *, start: bool) -> Iterator[tuple[str, list[str]]]:
    """Make so many containers in a workspace of their own; remove them at the end."""
    workspace = uuid.uuid4().hex[:12]
    made: list[str] = []
    try:
        for i in range(count):
            labels = {"dla.workspace": workspace, "dla.attempt": f"job.{i}"}
            host = {"NetworkMode": "none"}
            made.append(
                engine.create(f"{workspace}-{i}", {"Image": image, "Cmd": ["sh", "-c", script], "Labels": labels, "HostConfig": host})
            )
            if start:
                engine.start(made[-1])
        yield workspace, made
    finally:
        for container in made:
            engine.remove(container, force=True)


def cpu_s(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the CPU seconds and the seconds of some work."""
    began, clock = time.process_time(), time.monotonic()
    work()
    return time.process_time() - began, time.monotonic() - clock


def lists(engine: Engine, workspace: str, count: int) -> None:
    """Measure a list alone, and followers who share one a second."""
    cpu, wall = cpu_s(lambda: [engine.listing(workspace) for _ in range(10)])
    print(f"list of {count} containers: {cpu * 100:.1f} ms CPU, {wall * 100:.1f} ms")  # noqa: T201
    cpu, _ = cpu_s(lambda: [engine.listing(workspace, max_age_s=60) for _ in range(10_000)])
    print(f"the same, shared: {cpu * 100:.2f} µs CPU")  # noqa: T201

    def follow() -> None:
        for _ in range(5):
            engine.listing(workspace, max_age_s=1.0)
            time.sleep(1)

    followers = [threading.Thread(target=follow) for _ in range(200)]
    cpu, wall = cpu_s(lambda: [*map(threading.Thread.start, followers), *map(threading.Thread.join, followers)])
    print(f"200 followers once a second: {cpu / wall * 100:.1f} % of a core")  # noqa: T201


def idle(engine: Engine, made: list[str]) -> None:
    """Measure a look at streams that bring nothing."""
    streams = [engine.stream(container) for container in made]
    cpu, _ = cpu_s(lambda: [stream.read(0) for stream in streams])
    print(f"opening a stream: {cpu / len(streams) * 1e3:.2f} ms CPU")  # noqa: T201
    rounds = 50
    cpu, _ = cpu_s(lambda: [stream.read(0) for _ in range(rounds) for stream in streams])
    look = cpu / rounds / len(streams)
    print(f"an idle look: {look * 1e6:.1f} µs; 200 once a second: {look * 200 * 100:.3f} % of a core")  # noqa: T201
    for stream in streams:
        stream.close()


def long_log(engine: Engine, client: Any, container: str) -> None:
    """Measure reading a whole log, ours and docker-py's."""

    def ours() -> int:
        stream, offset = engine.stream(container), 0
        while piece := stream.read(offset, last=True, patience_s=60):
            offset += len(piece)
        return offset

    def theirs() -> int:
        return sum(len(piece) for piece in client.logs(container, stream=True, follow=True))

    assert ours() == theirs()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, read in (("ours", ours), ("docker-py", theirs)) * 2:
        done: list[int] = []
        cpu, wall = cpu_s(lambda read=read, done=done: done.append(read()))
        print(f"log of {done[0] >> 20} MiB, {name}: {cpu:.2f} s CPU, {wall:.2f} s, {done[0] / cpu / 1e6:.0f} MB per CPU second")  # noqa: T201
    print(f"memory grew by {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before} KiB")  # noqa: T201


def main() -> None:
    """Measure everything."""
    image, count, megabytes = sys.argv[1], *(int(given) for given in (*sys.argv[2:], *("200", "100")[len(sys.argv) - 2 :]))
    host = os.environ["DOCKER_HOST"]
    client = APIClient(base_url=host, version="auto")
    engine = Engine(lambda: APIClient(base_url=host, version="auto"), name="here", address=host)
    with containers(engine, image, "true", count, start=False) as (workspace, _):
        lists(engine, workspace, count)
    with containers(engine, image, "sleep 600", 20, start=True) as (_, made):
        idle(engine, made)
    kinds = {
        "one line": f"head -c {megabytes << 20} /dev/zero | tr '\\0' x",
        "short lines": f"yes 'step 1000 loss 0.25 of an epoch' | head -c {megabytes << 18}",
    }
    for kind, script in kinds.items():
        with containers(engine, image, script, 1, start=True) as (_, made):
            while (found := engine.inspect(made[0])) is not None and found["State"]["Running"]:
                time.sleep(0.2)
            print(kind)  # noqa: T201
            long_log(engine, client, made[0])
    engine.close()


if __name__ == "__main__":
    main()
