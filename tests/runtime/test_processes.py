"""Processes told apart for ever."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from contracts.runtime import wait_until

from airflow_dla.runtime.processes import boot_id, is_alive, marked_with, members, signal_if


def start_ticks(pid: int) -> int:
    """Return when a process started."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_alive_is_one_certain_process():
    """Another boot, another start or a zombie is not the process that was meant."""
    with subprocess.Popen(["sleep", "60"]) as process:
        ticks = start_ticks(process.pid)
        assert is_alive(process.pid, boot=boot_id(), start_ticks=ticks)
        assert not is_alive(process.pid, boot="another", start_ticks=ticks)
        assert not is_alive(process.pid, boot=boot_id(), start_ticks=ticks + 1)
        process.kill()
        wait_until(lambda: not is_alive(process.pid, boot=boot_id(), start_ticks=ticks))
        assert Path(f"/proc/{process.pid}").exists(), "it was to be a zombie still"
    assert not is_alive(process.pid, boot=boot_id(), start_ticks=ticks)


def test_signals_reach_only_what_still_fits():
    """A signal is sent only where the condition holds, and to nothing that has ended."""
    with subprocess.Popen(["sleep", "60"]) as process:
        assert not signal_if(process.pid, signal.SIGKILL, lambda _: False)
        assert process.poll() is None
        assert signal_if(process.pid, signal.SIGKILL, lambda _: True)
        process.wait()
        assert not signal_if(process.pid, signal.SIGKILL, lambda _: True)


def test_marks_are_inherited(tmp_path: Path):
    """What a marked process starts is found, wherever it went; what only says the mark is not."""
    mark = f"DLA_JOB_DIR={tmp_path}"
    with subprocess.Popen(
        ["sh", "-c", "setsid sleep 60 & sleep 60"], env={mark.partition("=")[0]: str(tmp_path), "PATH": "/usr/bin:/bin"}
    ) as process:
        found = wait_until(lambda: len(marked_with(mark.encode())) == 3 and marked_with(mark.encode()))
        assert process.pid in found
        assert not marked_with(mark.encode() + b"x")
        for pid in found:
            signal_if(pid, signal.SIGKILL, lambda _: True)
        deadline = time.monotonic() + 5
        while marked_with(mark.encode()) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert marked_with(mark.encode()) == set()


def test_members_of_groups_that_are_gone(tmp_path: Path):
    """A control group that does not exist has no members."""
    (tmp_path / "cgroup.procs").write_text("12\n13\n")
    assert members([str(tmp_path), str(tmp_path / "gone")]) == {12, 13}
