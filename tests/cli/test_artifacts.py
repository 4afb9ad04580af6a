"""``airflow dla artifacts``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_dla.cli.reach import Reach
from airflow_dla.runtime.local import LocalRuntime

HERE = ("--conn-id", "dla_test")


@pytest.fixture
def published(reach: Reach, tmp_path: Path) -> list[str]:
    """Return the digests of two artifacts, the first of them pinned."""
    digests = []
    for name in ("kept", "loose"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "data.txt").write_text(name, encoding="utf-8")
        digests.append(reach.store.publish(folder, kind="dataset").digest)
    reach.ledger.pin(digests[0], "reference data")
    return digests


def test_verify_finds_what_is_damaged(dla: Any, reach: Reach, published: list[str]) -> None:
    """Whole artifacts pass; a changed byte is found, named, and ends with status 1."""
    assert dla("artifacts", "verify", *HERE, "--json").document["ok"]
    folder = reach.store.folder(published[1])
    assert folder is not None
    (folder / "data.txt").chmod(0o644)
    (folder / "data.txt").write_text("LOOSE", encoding="utf-8")
    ended = dla("artifacts", "verify", *HERE, "--json")
    assert (ended.status, ended.document["ok"]) == (1, False)
    assert {one["digest"]: one["ok"] for one in ended.document["artifacts"]} == {published[0]: True, published[1]: False}
    assert dla("artifacts", "verify", published[0], *HERE).status == 0
    assert "data.txt" in dla("artifacts", "verify", published[1], *HERE).out


def test_verify_what_is_not_there(dla: Any, connection: str) -> None:
    """A digest nobody published, and what is no digest, end with status 1."""
    assert dla("artifacts", "verify", f"sha256:{'0' * 64}", "--conn-id", connection).status == 1
    assert "sha256:" in dla("artifacts", "verify", "latest", "--conn-id", connection).err


def test_collection_keeps_what_is_named(dla: Any, reach: Reach, published: list[str]) -> None:
    """A dry run deletes nothing; then what no root names goes, and what is young or pinned stays."""
    assert dla("artifacts", "gc", *HERE, "--json").document["deleted"] == []
    dry = dla("artifacts", "gc", "--grace", "0", "--dry-run", *HERE, "--json").document
    assert (dry["deleted"], dry["dry_run"], reach.store.exists(published[1])) == ([published[1]], True, True)
    assert "would go" in dla("artifacts", "gc", "--grace", "0", "--dry-run", *HERE).out
    done = dla("artifacts", "gc", "--grace", "0", *HERE, "--json").document
    assert done["deleted"] == [published[1]]
    assert "reference data" in done["kept"][published[0]]
    assert not reach.store.exists(published[1])


def test_collection_forgets_jobs_of_long_ago(dla: Any, reach: Reach, published: list[str]) -> None:
    """The folder of a job that ended more than 30 days ago goes, a younger one stays."""
    (runtime,) = reach.workspace().runtimes.values()
    assert isinstance(runtime, LocalRuntime)
    for label, age_s in (("old.1", 31 * 86_400), ("young.1", 29 * 86_400)):
        folder = runtime.root / label
        folder.mkdir(parents=True)
        (folder / "exit.json").write_text('{"reason": "succeeded"}', encoding="utf-8")
        os.utime(folder, (time.time() - age_s,) * 2)
    assert dla("artifacts", "gc", "--dry-run", *HERE, "--json").document["jobs_forgotten"] == []
    assert dla("artifacts", "gc", *HERE, "--json").document["jobs_forgotten"] == ["old.1"]
    assert [path.name for path in runtime.root.iterdir()] == ["young.1"]
