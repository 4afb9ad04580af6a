"""How much of a disk a job's files take, and who stops one that takes too much."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_dla.agents.disk import DiskWatch, taken

_MIB = 2**20


def filled(path: Path, size: int = _MIB) -> Path:
    """Write a file that takes its size on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def test_what_counts(tmp_path: Path) -> None:
    """Blocks, not sizes; a file of two names once; nothing that a link leads to, and nothing that is passed over."""
    first = filled(tmp_path / "job" / "out" / "a")
    (tmp_path / "job" / "b").hardlink_to(first)
    filled(tmp_path / "job" / "in" / "mine")
    filled(tmp_path / "job" / "in" / "data" / "input")
    filled(tmp_path / "elsewhere" / "c")
    (tmp_path / "job" / "link").symlink_to(tmp_path / "elsewhere")
    with (tmp_path / "job" / "sparse").open("wb") as file:
        file.truncate(100 * _MIB)
    assert taken(tmp_path / "job", {str(tmp_path / "job/in/data")}) == pytest.approx(2 * _MIB, abs=64 * 1024)


def test_no_more_is_counted_than_need_be(tmp_path: Path) -> None:
    """What is too much is too much, however many files are left."""
    for number in range(5):
        filled(tmp_path / str(number))
    assert taken(tmp_path, enough=2 * _MIB) == pytest.approx(3 * _MIB, abs=64 * 1024)
    assert taken(tmp_path / "gone") == 0


def test_a_watch_says_what_would_do(tmp_path: Path) -> None:
    """It looks once a second, and names what was taken and granted."""
    now = [0.0]
    watch = DiskWatch(tmp_path, 1 / 1024, "/dla", clock=lambda: now[0])
    assert watch.look() == ""
    filled(tmp_path / "a", 2 * _MIB)
    now[0] = 0.5
    assert watch.look() == ""
    now[0] = 1.5
    told = watch.look()
    assert told.startswith("its files in /dla took 0.00195 GiB and more, 0.000977 GiB of disk were granted; remove what")
    assert told.endswith("ask for more (request disk=)")
    assert DiskWatch(tmp_path, None, "/dla").look() == ""
