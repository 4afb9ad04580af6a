"""Pins of data outside the store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from contracts.store import fresh, plant
from fsspec.implementations.memory import MemoryFileSystem

from airflow_dla.artifacts import check_pin, pin
from airflow_dla.artifacts.infos import etag_of, modified_at
from airflow_dla.artifacts.pins import file_pin
from airflow_dla.errors import CorruptArtifact, InvalidSpec, NotFound
from airflow_dla.specs import UriRef

_TIME = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"size": 3, "ETag": '"9b"', "VersionId": "v7", "LastModified": _TIME}, {"version": "v7"}),
        ({"size": 3, "ETag": '"9b"', "VersionId": "null", "LastModified": _TIME}, {"etag": "9b"}),
        ({"size": 3, "ETag": '"9b"', "VersionId": None}, {"etag": "9b"}),
        ({"size": 3, "generation": "1732", "etag": "CJ"}, {"version": "1732"}),
        ({"size": 3, "etag": "0x8D", "last_modified": _TIME}, {"etag": "0x8D"}),
        ({"size": 3, "ETag": 'W/"5e"'}, {"etag": "5e"}),
        ({"size": 3, "Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT"}, {"size": 3, "mtime": _TIME.timestamp()}),
        ({"size": 3, "mtime": 7.5, "created": 1.0}, {"size": 3, "mtime": 7.5}),
        ({"size": 3, "created": datetime(2026, 11, 22)}, {"size": 3, "mtime": _TIME.timestamp()}),  # noqa: DTZ001 (some say no zone)
        ({"size": 3}, {"size": 3}),
        ({"size": None, "type": "file"}, {"unverifiable": "the server tells neither version, etag, size nor time"}),
    ],
)
def test_a_pin_is_the_best_that_a_file_system_tells(info: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Version, else entity tag, else size and time; S3, GCS, Azure, HTTP, files."""
    assert file_pin(info) == expected


def test_nonsense_is_no_time_and_no_tag() -> None:
    """What cannot be read is left out of the pin."""
    assert modified_at({"mtime": "yesterday"}) is None
    assert etag_of({"ETag": '""'}) is None


def test_a_file_is_pinned_until_it_changes(tmp_path: Path) -> None:
    """Checked again it is the same; after a write it is not, and the message says what was and is."""
    (tmp_path / "data.csv").write_bytes(b"1")
    reference = pin(UriRef(uri=f"file://{tmp_path}/data.csv"))
    assert set(reference.pin) == {"size", "mtime"}
    check_pin(UriRef.from_mapping(reference.to_mapping()))
    (tmp_path / "data.csv").write_bytes(b"12")
    with pytest.raises(CorruptArtifact, match=r"it was size 1, mtime .*, it is size 2, mtime .*clear the task"):
        check_pin(reference)


@pytest.mark.parametrize("change", ["rewrite", "add", "remove", "rename"])
def test_a_folder_is_pinned_by_its_listing(tmp_path: Path, change: str) -> None:
    """Any file that comes, goes, moves or changes shows."""
    folder = plant(tmp_path / "data", {"a": b"1", "sub": {"b": b"2"}})
    reference = pin(UriRef(uri=f"file://{folder}/"))
    assert (reference.pin["files"], reference.pin["size"]) == (2, 2)
    check_pin(reference)
    {
        "rewrite": lambda: os.utime(folder / "a", (1, 1)),
        "add": lambda: plant(folder, {"c": b""}),
        "remove": (folder / "a").unlink,
        "rename": lambda: (folder / "a").rename(folder / "c"),
    }[change]()
    with pytest.raises(CorruptArtifact, match="listing"):
        check_pin(reference)


def test_an_object_is_pinned_in_memory_too() -> None:
    """Any file system of fsspec will do."""
    path = f"/pins{next(fresh)}/x"
    fs = MemoryFileSystem()
    fs.pipe_file(path, b"1")
    reference = pin(UriRef(uri=f"memory:/{path}"))
    check_pin(reference)
    fs.rm(path)
    with pytest.raises(NotFound, match="does not exist"):
        check_pin(reference)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    """Before anything is launched."""
    with pytest.raises(NotFound, match="does not exist; correct the address"):
        pin(UriRef(uri=f"file://{tmp_path}/none"))


def test_a_check_needs_a_pin(tmp_path: Path) -> None:
    """Nothing to compare with is a mistake, not a success."""
    with pytest.raises(InvalidSpec, match="no pin"):
        check_pin(UriRef(uri=f"file://{tmp_path}"))
