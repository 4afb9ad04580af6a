"""The job's container beside a helper: found by its attempt's mark, measured, and killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_dla.agents.neighbour import Neighbour
from airflow_dla.agents.usage import own_groups


class Processes:
    """A folder as ``/proc`` of a pod: a number, an environment and a control group of each."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        (proc / "sys").mkdir()

    def add(self, pid: int, group: str, *variables: str) -> None:
        """Add one that runs; without variables it is one that we may not look into."""
        folder = self.proc / str(pid)
        folder.mkdir()
        (folder / "cgroup").write_text(f"0::/../{group}\n")
        if variables:
            (folder / "environ").write_bytes(b"".join(f"{one}\0".encode() for one in variables))


@pytest.fixture
def there(tmp_path: Path) -> Processes:
    """Return the processes of a pod: what holds it together, ours, the job's, and those of a sidecar."""
    found = Processes(tmp_path)
    found.add(1, "pause", "PATH=/bin")
    found.add(7, "mate", "TMPDIR=/control")
    found.add(8, "main", "PATH=/bin", "DLA_ATTEMPT=job.1", "DLA_JOB=job")
    found.add(9, "main", "PATH=/bin")
    found.add(10, "main")
    found.add(11, "proxy", "NOTE=DLA_ATTEMPT=job.1")
    return found


def test_members(there: Processes):
    """All of the job's container, whatever became of their environments; nobody else."""
    assert Neighbour("job.1", there.proc).members() == {8, 9, 10}


def test_another_attempt(there: Processes):
    """An attempt that does not run here has no processes, nor groups."""
    other = Neighbour("job.11", there.proc)
    assert other.members() == set()
    assert other.groups() is None


@pytest.fixture
def child() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Return an attempt, and a process that would run on and has its mark."""
    attempt = uuid.uuid4().hex
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], env={"DLA_ATTEMPT": attempt}, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield attempt, process
        process.kill()


def test_groups_as_it_sees_them(child: tuple[str, subprocess.Popen[bytes]]):
    """Its control groups are looked at through its own root."""
    attempt, process = child
    found = Only(attempt, process.pid).groups()
    assert found == own_groups(Path(f"/proc/{process.pid}/root/sys/fs/cgroup"))


def test_kill(child: tuple[str, subprocess.Popen[bytes]]):
    """What is deaf to SIGTERM ends."""
    attempt, process = child
    only = Only(attempt, process.pid)
    assert only.kill()
    assert process.wait(5) == -signal.SIGKILL
    assert only.members() == set()


class Only(Neighbour):
    """A neighbour of whom one process is known: in this test all are in one control group."""

    def __init__(self, attempt: str, pid: int) -> None:
        super().__init__(attempt)
        self._pid = pid

    def members(self) -> set[int]:
        """Return the one, while it runs."""
        return super().members() & {self._pid}
