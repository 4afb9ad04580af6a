"""The grant as the job feels it, within five in a hundred; changed while it runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contracts.runtime import ended, job_file, submitted, wait_until
from docker_daemon import Engine as DockerEngine

from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.facts import EngineFacts
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit, ExitReason, Grant

Run = Callable[..., Exit]

#: Burns CPU in one thread, and says every two seconds the share that it got.
_BURN = """
import os, time
while not os.path.exists("/dla/tmp/go"):
    used, began = time.process_time(), time.monotonic()
    while time.monotonic() - began < 2.0:
        pass
    print((time.process_time() - used) / (time.monotonic() - began), flush=True)
"""

#: Takes memory until there is no more, and says after each MiB how much it had.
_TAKE = """
import os, sys
taken = []
while True:
    piece = bytearray(1 << 20)
    taken.append(piece)
    os.write(1, b"%d\\n" % len(taken))
"""

#: Holds 150 MiB until it is told to end.
_HOLD = """
import os, time
held = bytearray(b"x") * (150 << 20)
print("on", flush=True)
while not os.path.exists("/dla/tmp/go"):
    time.sleep(0.02)
"""


def grant(**amounts: float) -> Grant:
    """Return a grant of the first attempt."""
    return Grant(id="job.1", node="laptop", amounts=amounts)


def shares(docker: DockerRuntime) -> list[float]:
    """Return the shares of a CPU that a job said it got."""
    return [float(line) for line in docker.logs("job.1", 0).data.split()]


def test_cpu(docker: DockerRuntime, base_image: str, jobs_folder: Path):
    """A tenth of a CPU is a tenth of its time and never more, also after a live resize; a busy host may give less for a while."""
    job = job_file("job.1", ["python3", "-c", _BURN], grant=grant(cpu=0.1, memory=0.25))
    submitted(docker, Launch(job=job, image=base_image))
    first = wait_until(lambda: [share for share in shares(docker) if share >= 0.1 * 0.95], 40)
    assert docker.resize("job.1", grant(cpu=0.15, memory=0.25))
    past = len(shares(docker)) + 1  # the first after it is of both
    second = wait_until(lambda: [share for share in shares(docker)[past:] if share >= 0.15 * 0.95], 40)
    (jobs_folder / "job.1/dla/tmp/go").touch()
    assert ended(docker, "job.1").succeeded
    assert max(first) <= 0.1 * 1.05
    assert max(second) <= 0.15 * 1.05


def test_memory(run: Run, docker: DockerRuntime, base_image: str):
    """256 MiB are 256 MiB: what the job takes and what its interpreter needs, without swap."""
    found = run(["python3", "-c", _TAKE], base_image, grant=grant(cpu=1.0, memory=0.25))
    taken = int(docker.logs("job.1", 0).data.split()[-1])
    assert found.reason.value == "out_of_memory"
    assert 256 * 0.93 <= taken <= 256  # the interpreter holds 7 MiB or so itself


def test_disk(run: Run, docker: DockerRuntime, bare_image: str):
    """Who fills more of /dla than was granted is killed within seconds, grace or not, and told why."""
    script = "trap '' TERM; cd /dla/out; for i in 1 2 3 4; do head -c 16000000 /dev/urandom > $i; echo $i; sleep 0.3; done; sleep 60"
    began = time.monotonic()
    found = run(["sh", "-c", script], bare_image, grant=grant(cpu=0.5, memory=0.0625, disk=32 / 1024), grace_s=60)
    assert time.monotonic() - began < 20
    assert found.reason is ExitReason.USER_ERROR
    assert re.match(r"its files in /dla took 0\.0\d+ GiB and more, 0\.0312 GiB of disk were granted; remove what", found.message)
    assert docker.logs("job.1", 0).data.startswith(b"1\n2\n")


def test_disk_that_is_granted(run: Run, bare_image: str):
    """A job that stays below its grant is left alone, and a deleted file is room again."""
    script = "cd /dla/tmp; for i in 1 2 3; do head -c 24000000 /dev/urandom > f; sleep 1.2; rm f; done"
    assert run(["sh", "-c", script], bare_image, grant=grant(cpu=0.5, memory=0.0625, disk=32 / 1024)).succeeded


def test_cpu_set(run: Run, docker: DockerRuntime, base_image: str):
    """CPUs that were granted by number are those that the job may run on."""
    given = Grant(id="job.1", node="laptop", amounts={"cpu": 1.0, "memory": 0.25}, cpu_ids=(0,))
    run(["python3", "-c", "import os; print(os.sched_getaffinity(0))"], base_image, grant=given)
    assert docker.logs("job.1", 0).data == b"{0}\n"


def test_memory_in_use_is_not_taken(docker: DockerRuntime, base_image: str, jobs_folder: Path):
    """A shrink below what the job holds is refused, and what held before holds; a smaller one is done, and the job is told."""
    job = job_file("job.1", ["python3", "-c", _HOLD], grant=grant(cpu=1.0, memory=0.25))
    submitted(docker, Launch(job=job, image=base_image))
    wait_until(lambda: docker.logs("job.1", 0).data)
    assert docker.resize("job.1", grant(cpu=0.5, memory=0.1)) is False
    limits = docker.engine.inspect(docker.submit(Launch(job=job, image=base_image))["container"])["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"]) == (2**28, 10**9)
    assert docker.resize("job.1", grant(cpu=0.5, memory=0.2)) is True
    assert json.loads((jobs_folder / "job.1/dla/grant.json").read_text())["amounts"] == {"cpu": 0.5, "memory": 0.2}
    (jobs_folder / "job.1/dla/tmp/go").touch()
    assert ended(docker, "job.1").succeeded


def test_processes(run: Run, docker: DockerRuntime, bare_image: str):
    """A job that forks without end reaches its own limit, not the host's."""
    docker.place = replace(docker.place, policy=replace(docker.place.policy, pids=20))
    found = run(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do sleep 30 & done"], bare_image)
    assert not found.succeeded
    assert b"can't fork" in docker.logs("job.1", 0).data


class _Claiming(Engine):
    """The engine, as if its images lay on XFS."""

    def facts(self) -> EngineFacts:
        """Return what makes a limit on disk worth asking for; the engine itself then refuses it."""
        return replace(super().facts(), storage_driver="overlay2", backing_filesystem="xfs")


def test_no_quotas_on_disk(run: Run, docker: DockerRuntime, docker_engine: DockerEngine, bare_image: str):
    """Where an engine can limit disk only by what its file system lacks, the job runs without that limit."""
    docker.engine = _Claiming(docker_engine.client, name="docker", address=docker_engine.host)
    docker.place = replace(docker.place, policy=replace(docker.place.policy, read_only=False))
    grant = Grant(id="job.1", node="laptop", amounts={"cpu": 0.5, "memory": 0.125, "disk": 1.0})
    found = run(["true"], bare_image, grant=grant)
    docker.engine.close()
    assert found.succeeded, found
