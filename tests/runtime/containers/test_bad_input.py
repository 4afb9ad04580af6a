"""What cannot run: each ends in the right state, with a message that says what would do."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import job_file, submitted

from airflow_dla.errors import JobLost, LaunchRefused
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit, ExitReason, Grant

Run = Callable[..., Exit]

#: An engine with an init starts anything, and the init says what it was; one without refuses the start.
_FAILED = {ExitReason.USER_ERROR, ExitReason.REFUSED}


class _Closed(BaseHTTPRequestHandler):
    """A registry that knows nobody."""

    def do_GET(self) -> None:
        """Ask for a name and a password, whatever was given."""
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="closed"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def closed_registry() -> Iterator[str]:
    """Return the address of a registry on this host that refuses everybody."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Closed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_no_such_image(run: Run, docker: DockerRuntime):
    """An image that no registry has is refused with its name, and leaves nothing behind."""
    found = run(["true"], "127.0.0.1:1/none:1")
    assert found.reason is ExitReason.REFUSED
    assert re.search(r"image '127\.0\.0\.1:1/none:1' cannot be pulled: .*connection refused; can the engine's host reach", found.message)
    assert docker.jobs() == {"job.1": False}
    assert docker.kept() == {}


def test_registry_that_refuses_the_credentials(run: Run, closed_registry: str):
    """A registry's 401 names the connection that holds the login."""
    found = run(["true"], f"{closed_registry}/team/train:7")
    assert found.reason is ExitReason.REFUSED
    assert re.search(r"no basic auth credentials|unauthorized", found.message)
    assert "login" in found.message or "connection" in found.message


@pytest.mark.parametrize(("command", "said"), [
    (["nosuch"], "command not found: 'nosuch'"),
    (["sh", "-c", "true"], "there is no shell 'sh'; name the program itself"),
    (["/dla/job.json"], "may not be executed; chmod"),
])  # fmt: skip
def test_what_cannot_start(run: Run, shell_less_image: str, command: list[str], said: str):
    """A missing command, a missing shell and a file that is no program are told apart."""
    found = run(command, shell_less_image)
    assert found.reason in _FAILED
    assert said in found.message


def test_a_program_for_another_processor(run: Run, base_image: str):
    """What the kernel cannot execute is said to be for another processor, or to lack its first line."""
    work = "import os; x = '/dla/tmp/x'; open(x, 'wb').write(b'\\x7fELF' + bytes(60)); os.chmod(x, 0o755); os.execv(x, [x])"
    found = run(["python3", "-c", work], base_image)
    assert found.reason is ExitReason.USER_ERROR
    assert "is for another processor, or a script without #!" in found.message


@pytest.mark.parametrize(("asked", "said"), [
    ({"volumes": {"/host": "/etc:ro"}}, "host folder '/etc' for /host is not allowed on place 'docker'"),
    ({"volumes": {"/host": "/var/run/docker.sock"}}, "hands over the host"),
    ({"volumes": {"/data": "somebodys-volume"}}, "volume 'somebodys-volume' for /data is not allowed"),
    ({"overrides": {"privileged": True}}, "privileged=True is not allowed .* policy.privileged"),
    ({"overrides": {"user": "0:0"}}, "user '0:0' is not allowed"),
    ({"overrides": {"network": "host"}}, "network='host' is not allowed .* policy.host_network"),
    ({"overrides": {"cap_add": ["SYS_ADMIN"]}}, "cap_add asks for SYS_ADMIN"),
])  # fmt: skip
def test_what_the_place_forbids(docker: DockerRuntime, bare_image: str, asked: dict[str, Any], said: str):
    """A forbidden mount, volume, right, user or network is refused by name before anything is made."""
    with pytest.raises(LaunchRefused, match=said):
        submitted(docker, Launch(job=job_file(entrypoint=["true"]), image=bare_image, **asked))
    assert docker.kept() == {}


def test_forbidden_image(docker: DockerRuntime, bare_image: str):
    """An image that the policy does not allow is refused though the engine has it."""
    docker.place = replace(docker.place, policy=replace(docker.place.policy, images=("python:*",)))
    with pytest.raises(LaunchRefused, match=r"is not allowed on place 'docker', which allows python:\*"):
        submitted(docker, Launch(job=job_file(entrypoint=["true"]), image=bare_image))


def test_a_job_folder_of_another_job_cannot_be_mounted(docker: DockerRuntime, bare_image: str, jobs_folder: Path):
    """The folder of other jobs is not for jobs, whatever pattern allows it."""
    docker.place = replace(docker.place, policy=replace(docker.place.policy, mounts=("/var/*:rw",)))
    with pytest.raises(LaunchRefused, match="word for word"):
        submitted(docker, Launch(job=job_file(entrypoint=["true"]), image=bare_image, volumes={"/x": f"{jobs_folder}/other.1"}))


def test_a_function_needs_a_python(docker: DockerRuntime, bare_image: str):
    """A function for an image without Python is refused, and says what would do."""
    with pytest.raises(LaunchRefused, match="has no python3 on its PATH, which the function work:main needs"):
        submitted(docker, Launch(job=job_file(entrypoint="work:main"), image=bare_image))


def test_a_gpu_that_the_engine_cannot_hand_out(docker: DockerRuntime, bare_image: str):
    """A fault of the engine's host is no fault of the job: it is lost there, and says what would do."""
    amounts = {"cpu": 0.5, "memory": 0.0625, "gpu": 1.0}
    grant = Grant(id="job.1", node="laptop", amounts=amounts, gpu_ids=("GPU-1",))
    with pytest.raises(JobLost, match=r"install nvidia-container-toolkit|compare nvidia-smi -L"):
        submitted(docker, Launch(job=job_file("job.1", ["true"], grant=grant), image=bare_image))
    assert not docker.status("job.1").alive
