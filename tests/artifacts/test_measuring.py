"""Digests without a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dla.artifacts import Store, manifest_of
from airflow_dla.errors import InvalidSpec


def test_the_digest_is_the_one_that_publishing_gives(tmp_path: Path) -> None:
    """Also of files in folders, and of those that may be run."""
    folder = tmp_path / "out"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "a").write_bytes(b"a" * 100)
    (folder / "run").write_text("#!/bin/sh")
    (folder / "run").chmod(0o755)
    assert manifest_of(folder, kind="model").reference == Store(str(tmp_path / "store")).publish(folder, kind="model")


def test_what_cannot_be_published_is_not_measured(tmp_path: Path) -> None:
    """An empty folder is refused as it is by a store."""
    with pytest.raises(InvalidSpec, match="holds no file"):
        manifest_of(tmp_path, kind="model")
