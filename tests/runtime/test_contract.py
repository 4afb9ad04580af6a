"""The contract, on every runtime there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cluster_runtime import touch
from contracts.runtime import RuntimeContract, job_file
from fakes.runtime import FakeRuntime

from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker import body
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.runtime.docker.volume_ground import VolumeGround
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.runtime.local import LocalRuntime

WAIT = """
import os, time
def wait(job):
    print("ready", flush=True)
    while not os.path.exists(job.args["until"]):
        if job.stopping:
            return
        time.sleep(0.01)
"""


class TestLocal(RuntimeContract):
    """Processes of this host."""

    @pytest.fixture
    def runtime(self, local: LocalRuntime) -> LocalRuntime:
        """Return it empty."""
        return local

    @pytest.fixture
    def waiting(self, launch: Callable[..., Launch], tmp_path: Path) -> Callable[[str], Launch]:
        """Return jobs that wait for a file."""
        return lambda attempt: launch(WAIT, "work:wait", attempt, args={"until": str(tmp_path / attempt)})

    @pytest.fixture
    def finish(self, tmp_path: Path) -> Callable[[str], None]:
        """Make the file."""
        return lambda attempt: (tmp_path / attempt).touch()


@pytest.mark.timeout(300)
class TestDocker(RuntimeContract):
    """Containers of a real engine, of an image with Python."""

    @pytest.fixture
    def runtime(self, docker: DockerRuntime) -> DockerRuntime:
        """Return it empty."""
        return docker

    @pytest.fixture
    def waiting(self, launch: Callable[..., Launch], base_image: str) -> Callable[[str], Launch]:
        """Return jobs that wait for a file in their folder."""
        return lambda attempt: replace(launch(WAIT, "work:wait", attempt, args={"until": "/dla/tmp/go"}), image=base_image)

    @pytest.fixture
    def finish(self, jobs_folder: Path) -> Callable[[str], None]:
        """Make the file."""
        return lambda attempt: (jobs_folder / attempt / "dla" / "tmp" / "go").touch()


@pytest.mark.timeout(300)
class TestDockerVolume(RuntimeContract):
    """Containers of a real engine that shares no folder with this host."""

    @pytest.fixture
    def runtime(self, remote: DockerRuntime) -> DockerRuntime:
        """Return it empty."""
        return remote

    @pytest.fixture
    def waiting(self, launch: Callable[..., Launch], base_image: str) -> Callable[[str], Launch]:
        """Return jobs that wait for a file in their folder."""
        return lambda attempt: replace(launch(WAIT, "work:wait", attempt, args={"until": "/dla/tmp/go"}), image=base_image)

    @pytest.fixture
    def finish(self, volume_ground: VolumeGround) -> Callable[[str], None]:
        """Make the file, as only the engine can."""
        return lambda attempt: volume_ground.engine.put_files(
            body.name(volume_ground.workspace, attempt), "/dla/tmp", {"go": b""}, owner=(65532, 65532)
        )


@pytest.mark.timeout(300)
class TestKubernetes(RuntimeContract):
    """Pods of a real cluster, which knows of our files what is carried to it."""

    @pytest.fixture
    def runtime(self, pods: KubernetesRuntime) -> KubernetesRuntime:
        """Return it empty."""
        return pods

    @pytest.fixture
    def waiting(self, launch: Callable[..., Launch]) -> Callable[[str], Launch]:
        """Return jobs that wait for a file in their folder."""
        return lambda attempt: launch(WAIT, "work:wait", attempt, args={"until": "/dla/tmp/go"})

    @pytest.fixture
    def finish(self, pods: KubernetesRuntime) -> Callable[[str], None]:
        """Make the file, as only somebody in the pod can."""
        return lambda attempt: touch(pods, attempt, "/dla/tmp/go")


class TestFake(RuntimeContract):
    """The one in memory that other tests use."""

    @pytest.fixture
    def runtime(self) -> FakeRuntime:
        """Return it empty; its attempts say ready when they start."""
        fake = FakeRuntime()
        fake.first_words = b"ready\n"
        return fake

    @pytest.fixture
    def waiting(self) -> Callable[[str], Launch]:
        """Return jobs of no matter what."""
        return lambda attempt: Launch(job=job_file(attempt))

    @pytest.fixture
    def finish(self, runtime: FakeRuntime) -> Callable[[str], None]:
        """End an attempt that has said ready."""
        return runtime.end
