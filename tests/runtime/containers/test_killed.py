"""Whoever launches, fetches or publishes may be killed at any moment: one container, the right result."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import launching
import pytest
from contracts.runtime import ended, submitted, wait_until

from airflow_dla.artifacts import Store
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit, ExitReason

_ROOT = Path(__file__).parents[3]


@pytest.fixture
def begin(docker: DockerRuntime, jobs_folder: Path, base_image: str, store: Store) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Return a function that starts a process that launches an attempt."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin_(attempt: str) -> subprocess.Popen[bytes]:
        arguments = [docker.place.url, str(jobs_folder), docker._workspace, base_image, attempt, store.url]
        env = {**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'tests'}"}
        begun.append(subprocess.Popen([sys.executable, launching.__file__, *arguments], env=env, stderr=subprocess.PIPE))
        return begun[-1]

    yield begin_
    for one in begun:
        one.kill()
        one.communicate()


def mate_of(jobs_folder: Path, attempt: str) -> int | None:
    """Return the process beside an attempt."""
    with suppress(OSError, ValueError):
        return int(json.loads((jobs_folder / attempt / "mate.json").read_text())["pid"])
    return None


def ran_once(docker: DockerRuntime, attempt: str, found: Exit) -> None:
    """Check that an attempt has one container that ran once, with its secret, and published.

    Whoever dies between the start and the handing over of secrets takes them along: such an attempt is lost, and another begins.
    """
    if found.reason is ExitReason.LOST and "secrets" in found.message:
        assert b"ran" not in docker.logs(attempt, 0).data
        return
    assert found.succeeded, found
    assert docker.logs(attempt, 0).data.startswith(b"ran\n7\n")
    assert docker.logs(attempt, 0).data.count(b"ran") == 1
    assert list(found.outputs) == ["model"]


def test_submitter_killed_at_random_moments(
    docker: DockerRuntime, begin: Callable[[str], subprocess.Popen[bytes]], base_image: str, store: Store
):
    """The next one finishes what the killed one began: one container for each attempt, every result right."""
    chance = random.Random(7)
    doomed = {attempt: begin(attempt) for attempt in (f"job.{number}" for number in range(1, 11))}
    for attempt, killed in doomed.items():
        wait_until(lambda attempt=attempt, killed=killed: attempt in docker.jobs() or killed.poll() is not None)
        time.sleep(chance.uniform(0.0, 0.4))
        killed.kill()
    for attempt, killed in doomed.items():
        killed.wait()
        submitted(docker, launching.launch(attempt, base_image, store.url))
    for attempt in doomed:
        ran_once(docker, attempt, ended(docker, attempt, 30))
    assert len(docker.kept()) == 10


def test_eight_submitters_at_once(docker: DockerRuntime, begin: Callable[[str], subprocess.Popen[bytes]], base_image: str, store: Store):
    """Processes that launch the same attempt at once start one container, and all of them think it theirs."""
    all_ = [begin("job.1") for _ in range(8)]
    assert [one.wait(60) for one in all_] == [0] * 8, [one.stderr.read() for one in all_ if one.stderr]
    ran_once(docker, "job.1", ended(docker, "job.1"))
    assert len(docker.kept()) == 1


def test_mate_killed_again_and_again(docker: DockerRuntime, jobs_folder: Path, base_image: str, launch: Callable[..., Launch]):
    """A mate that dies while it fetches, waits or publishes is replaced; what it did is neither lost nor done twice."""
    code = "def main(job):\n    (job.outputs['model'].path / 'n').write_text('7')\n    print('ran')\n"
    chance = random.Random(7)
    one = replace(launch(code, outputs=("model",), attempt="job.1"), image=base_image)
    victims: set[int] = set()

    def kill() -> None:
        pid = mate_of(jobs_folder, "job.1")
        if pid is not None and len(victims) < 8 and pid not in victims and chance.random() < 0.3:
            victims.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    until = time.monotonic() + 60
    found = None
    while found is None:
        assert time.monotonic() < until, victims
        with suppress(AssertionError):
            submitted(docker, one, 0.05)
            found = docker.status("job.1").exit
        kill()
    assert found.succeeded, found
    assert docker.logs("job.1", 0).data.startswith(b"ran\n")
    assert victims


def test_host_folder_removed(docker: DockerRuntime, jobs_folder: Path, base_image: str, launch: Callable[..., Launch]):
    """A job whose folder somebody deleted is not followed for ever: it can be stopped, and its mate ends."""
    code = "import time\ndef main(job):\n    print('on', flush=True)\n    time.sleep(60)\n"
    submitted(docker, replace(launch(code), image=base_image))
    wait_until(lambda: docker.logs("job.1", 0).data)
    mate = mate_of(jobs_folder, "job.1")
    shutil.rmtree(jobs_folder / "job.1", ignore_errors=True)
    assert docker.status("job.1").alive
    docker.cancel("job.1", ExitReason.STOPPED)
    found = wait_until(lambda: docker.status("job.1").exit)
    assert found.reason is ExitReason.STOPPED
    wait_until(lambda: not Path(f"/proc/{mate}").exists())
