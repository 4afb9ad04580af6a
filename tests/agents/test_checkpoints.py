"""When which checkpoint is saved."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from contracts.runtime import wait_until

from airflow_dla.agents.checkpoints import CheckpointSaver, quiet_copy
from airflow_dla.agents.protocol import JobFolder


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    """Return a job's folder with an empty checkpoint."""
    (tmp_path / "checkpoint").mkdir()
    return JobFolder(tmp_path)


def write(path: Path, text: str, age_s: float = 0.0) -> None:
    """Write a file that was last changed so many seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age_s, time.time() - age_s))


def test_versions_come_first_and_once(folder: JobFolder):
    """The newest whole version is saved, each once; a half-written one never."""
    saved: list[str] = []
    saver = CheckpointSaver(folder, lambda path: saved.append(path.name))
    write(folder.checkpoint / "s", "1", 9)
    write(folder.versions / "1" / "s", "1")
    write(folder.versions / "2.partial" / "s", "1")
    saver.look()
    wait_until(lambda: saved == ["1"])
    saver.finish(hard=True)
    write(folder.versions / "2" / "s", "1")
    saver.finish(hard=True)
    assert saved == ["1", "2"]


def test_plain_folder_when_it_is_quiet(folder: JobFolder):
    """A plain folder is saved when nothing in it moves; after a kill what moved last may be half-written."""
    saved: list[str] = []
    saver = CheckpointSaver(folder, lambda path: saved.append((path / "s").read_text()))
    write(folder.checkpoint / "s", "moving")
    saver.finish(hard=True)
    assert saved == []
    saver.finish(hard=False)
    assert saved == ["moving"]
    write(folder.checkpoint / "s", "quiet", 5)
    saver.finish(hard=True)
    saver.finish(hard=False)
    assert saved == ["moving", "quiet"]


def test_what_was_restored_is_not_saved_again(folder: JobFolder):
    """A checkpoint that lay there before the start is no news."""
    write(folder.checkpoint / "s", "restored", 5)
    saved: list[Path] = []
    CheckpointSaver(folder, saved.append).finish(hard=False)
    assert saved == []


def test_a_failing_store_does_not_end_the_job(folder: JobFolder, capsys: pytest.CaptureFixture[str]):
    """A save that fails is told and tried again."""
    tries: list[Path] = []

    def save(path: Path) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise OSError("full")

    saver = CheckpointSaver(folder, save)
    write(folder.versions / "1" / "s", "1")
    saver.finish(hard=False)
    saver.finish(hard=False)
    assert len(tries) == 2
    assert "checkpoint not saved: full" in capsys.readouterr().out


def test_quiet_copy_of_what_moves(tmp_path: Path):
    """Nothing is copied from an empty folder or from one that was just written."""
    source = tmp_path / "s"
    source.mkdir()
    assert quiet_copy(source, tmp_path / "t", 0.0) is None
    write(source / "x", "1")
    assert quiet_copy(source, tmp_path / "t", 60.0) is None
    assert quiet_copy(source, tmp_path / "t", 0.0) is not None
