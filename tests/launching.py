"""Launches an attempt as a follower does, in a process of its own that may be killed at any moment.

python launching.py HOST JOBS WORKSPACE IMAGE ATTEMPT STORE
"""

from __future__ import annotations

import sys
from pathlib import Path

from contracts.runtime import job_file, submitted
from docker_daemon import Engine as DockerEngine

from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.runtime.docker.shared_ground import SharedGround
from airflow_dla.specs import PlaceSpec

#: Says that it ran, and leaves an output and the secret's length.
WORK = "echo ran; echo $TOKEN | wc -c; sleep 0.2; echo 7 > {outputs.model}/n"


def runtime(host: str, jobs: str, workspace: str) -> DockerRuntime:
    """Return a runtime as another process would have it."""
    place = PlaceSpec(name="docker", kind="docker", url=host)
    return DockerRuntime(
        Engine(DockerEngine(host=host).client, name="docker"), place, node="laptop", workspace=workspace, ground=SharedGround(Path(jobs))
    )


def launch(attempt: str, image: str, store: str) -> Launch:
    """Return a job with a secret and an output."""
    job = job_file(attempt, ["sh", "-c", WORK], store=store, outputs=("model",))
    return Launch(job=job, image=image, secrets={"TOKEN": "hidden"})


if __name__ == "__main__":
    host_, jobs_, workspace_, image_, attempt_, store_ = sys.argv[1:]
    submitted(runtime(host_, jobs_, workspace_), launch(attempt_, image_, store_))
