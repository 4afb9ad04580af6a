"""A long line of a container, followed to its end: bytes, seconds, CPU, and by how much this process grew.

    python tests/bench/bench_docker_log.py ENGINE IMAGE [MEGABYTES]

ENGINE as ``unix:///run/docker.sock``, IMAGE one with ``sh`` and ``head``. A gigabyte by default.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
import uuid
from pathlib import Path

import docker

from airflow_dla.control.lines import read
from airflow_dla.errors import NotReady
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.runtime.docker.shared_ground import SharedGround
from airflow_dla.specs import Grant, JobFile, PlaceSpec
from airflow_dla.specs.agents import Entrypoint

_SLICE = 1 << 20


def main(host: str, image: str, megabytes: int = 1000) -> None:
    """Run a job that prints one line, and follow it."""
    engine = Engine(lambda: docker.APIClient(base_url=host, version="auto", timeout=30), name="bench", address=host)
    place = PlaceSpec(name="bench", kind="docker", url=host, image=image)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        runtime = DockerRuntime(engine, place, node="bench", workspace=uuid.uuid4().hex, ground=SharedGround(Path(folder)))
        submit(runtime, f"head -c {megabytes}000000 /dev/zero")
        grown, began, used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), time.process_time()
        size = followed(runtime)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown
        sys.stdout.write(
            f"{size} bytes in {time.monotonic() - began:.1f} s, {time.process_time() - used:.1f} s CPU, grown {grown / 1024:.1f} MiB\n"
        )
        runtime.collect("job.1")
        engine.close()
    assert size == megabytes * 10**6


def submit(runtime: DockerRuntime, script: str) -> None:
    """Launch the job."""
    grant = Grant(id="job.1", node="bench", amounts={"cpu": 1.0, "memory": 0.25})
    entrypoint = Entrypoint.parse(["sh", "-c", script], "entrypoint")
    job = JobFile(attempt="job.1", entrypoint=entrypoint, grant=grant, nonce="n0nce", store="file:///nowhere", checkpoint="job")
    while True:
        try:
            runtime.submit(Launch(job=job))
        except NotReady:
            time.sleep(0.1)
        else:
            return


def followed(runtime: DockerRuntime) -> int:
    """Read the log as a follower does; return its length."""
    offset = 0
    while True:
        alive = runtime.status("job.1").alive
        piece = runtime.logs("job.1", offset, limit=_SLICE)
        offset += (consumed := read(piece.data, "n0nce", last=not alive and len(piece.data) < _SLICE).consumed)
        if not consumed:
            if not alive:
                return offset
            time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
