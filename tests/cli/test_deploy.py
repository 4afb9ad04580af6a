"""``airflow dla deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_dla.cli.deploy import FILES


def test_writes_what_the_package_has(dla: Any, tmp_path: Path) -> None:
    """Every file, unchanged, and says what comes next."""
    ended = dla("deploy", str(tmp_path / "made"), "--json")
    assert ended.status == 0
    assert "kubernetes/base/kustomization.yaml" in ended.document["files"]
    for name in ended.document["files"]:
        assert (tmp_path / "made" / name).read_bytes() == (FILES / name).read_bytes()
    assert "kubectl apply -k" in dla("deploy", str(tmp_path / "again")).out


def test_overwrites_nothing(dla: Any, tmp_path: Path) -> None:
    """A folder with something in it, or a file, is refused and left as it is."""
    (tmp_path / "mine").write_text("x")
    for taken in (tmp_path, tmp_path / "mine"):
        ended = dla("deploy", str(taken))
        assert ended.status == 1
        assert "not empty" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
