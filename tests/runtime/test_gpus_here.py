"""What only a machine with NVIDIA GPUs can show: they are found, and a job sees those it was granted and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from contracts.runtime import ended, job_file, submitted

from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.runtime.gpus import Gpu, nvidia_gpus
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import Grant

pytestmark = pytest.mark.gpu

COUNT = """
import torch

def main(job):
    free, total = torch.cuda.mem_get_info()
    return {"count": torch.cuda.device_count(), "total_gib": total / 2**30, "works": float(torch.ones(8, device="cuda").sum())}
"""


@pytest.fixture
def gpus() -> tuple[Gpu, ...]:
    """Return this host's GPUs."""
    found = nvidia_gpus()
    if not found:
        pytest.skip("GPU: nvidia-ml-py is not installed, or finds no GPU")
    return found


def granted(*ids: str) -> Grant:
    """Return a grant of some GPUs."""
    return Grant(id="job.1", node="laptop", amounts={"cpu": 1.0, "memory": 4.0, "gpu": float(len(ids))}, gpu_ids=ids)


def test_what_the_driver_tells(gpus: tuple[Gpu, ...]):
    """Each has an id of its own, a type and memory."""
    assert len({gpu.id for gpu in gpus}) == len(gpus)
    assert all(gpu.id.startswith("GPU-") and gpu.type and gpu.memory_gib > 1 for gpu in gpus)


BUSY = """
import time
import torch

def main(job):
    held = torch.ones(2**28, device="cuda")
    until = time.monotonic() + 6
    while time.monotonic() < until:
        held = held * 1.0001
        torch.cuda.synchronize()
"""


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_a_job_uses_of_its_gpu(gpus: tuple[Gpu, ...], local: LocalRuntime, launch: Callable[..., Launch], share: float):
    """A job that holds 1 GiB and more and computes all the time is seen to, also when it has a share."""
    whole = granted(gpus[0].id)
    submitted(local, launch(BUSY, grant=replace(whole, amounts={**whole.amounts, "gpu": share})))
    peaks = ended(local, "job.1", 120).peaks
    assert 1 <= peaks["gpu_memory"] <= gpus[0].memory_gib
    assert 0.5 <= peaks["gpu"] <= 1
    assert 2 <= peaks["gpu_s"] <= 8


def test_a_local_job_sees_its_gpu(gpus: tuple[Gpu, ...], local: LocalRuntime, launch: Callable[..., Launch]):
    """One device, whichever of the host's it is, and it computes."""
    submitted(local, launch(COUNT, grant=granted(gpus[-1].id)))
    found = ended(local, "job.1", 120).metrics
    assert (found["count"], found["works"]) == (1, 8)
    assert found["total_gib"] == pytest.approx(gpus[-1].memory_gib, rel=0.05)


def test_a_container_sees_its_gpu(gpus: tuple[Gpu, ...], docker: DockerRuntime, base_image: str):
    """The engine hands out the granted device and no other."""
    if "nvidia" not in docker.engine.facts().runtimes:
        pytest.skip("GPU: the engine has no nvidia runtime")
    job = job_file("job.1", ["nvidia-smi", "-L"], grant=granted(gpus[0].id))
    submitted(docker, replace(Launch(job=job), image=base_image))
    assert ended(docker, "job.1", 120).succeeded
    said = docker.logs("job.1", 0).data.decode()
    assert [gpu.id for gpu in gpus if gpu.id in said] == [gpus[0].id]
