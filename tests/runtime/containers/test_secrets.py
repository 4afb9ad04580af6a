"""Secrets reach the work and nobody else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import ended, job_file, submitted, wait_until

from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit

_SECRET = "hunter2-0f8a51"
_WAITS = "while [ ! -e /dla/tmp/go ]; do sleep 0.05; done; echo on"


def places_of_a_secret(docker: DockerRuntime, client: Any, container: str, jobs_folder: Path) -> list[str]:
    """Return where a secret is found: what the engine shows, its files and ours, command lines."""
    inspected = client.inspect_container(container)
    engine = Path(client.info()["DockerRootDir"]) / "containers" / inspected["Id"]
    shown = {
        "inspect": json.dumps(inspected),
        "top": json.dumps(client.top(container)),
        "plan": json.dumps(docker.engine.inspect(container)),
    }
    files = subprocess.run(["grep", "-rl", _SECRET, str(jobs_folder), str(engine)], capture_output=True, text=True, check=False).stdout
    own = Path("/proc", str(inspected["State"]["Pid"]))
    shown |= {"cmdline": (own / "cmdline").read_bytes().decode(), "environ": (own / "environ").read_bytes().decode()}
    return [name for name, text in shown.items() if _SECRET in text] + files.split()


@pytest.mark.parametrize(
    ("image", "see"), [("base_image", 'printf %s "$TOKEN"'), ("bare_image", "cat /run/secrets/TOKEN")], indirect=["image"]
)
def test_only_the_work_sees_them(docker: DockerRuntime, docker_engine: Any, jobs_folder: Path, image: str, see: str):
    """With a Python they come through standard input into the work's environment, without one as files in memory."""
    script = f'test "$({see})" = "{_SECRET[:7]}"-0f8a51 && {_WAITS}'
    job = job_file("job.1", ["sh", "-c", script])
    handle = submitted(docker, Launch(job=job, image=image, secrets={"TOKEN": _SECRET}))
    with docker_engine.client() as client:
        wait_until(lambda: client.inspect_container(handle["container"])["State"]["Running"])
        assert places_of_a_secret(docker, client, str(handle["container"]), jobs_folder) == []
    (jobs_folder / "job.1/dla/tmp/go").touch()
    assert ended(docker, "job.1").succeeded
    assert _SECRET.encode() not in docker.logs("job.1", 0).data
    assert not list(Path("/dev/shm").glob("dla-*/job.1/*"))


def test_none_is_left_of_a_job_that_could_not_start(run: Callable[..., Exit], shell_less_image: str):
    """Files of secrets go also when the container never ran."""
    found = run(Launch(job=job_file("job.1", ["nosuch"]), image=shell_less_image, secrets={"TOKEN": _SECRET}))
    assert "command not found" in found.message
    assert not list(Path("/dev/shm").glob("dla-*/job.1/*"))
