"""What the doctor looks at, one by one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes.runtime import FakeRuntime

from airflow_dla.cli.checks import Check, guarded
from airflow_dla.cli.checks.connection import check_connection, check_metadata, check_statsd
from airflow_dla.cli.checks.host import check_capacity, check_disk, check_jobs_folder, check_packages, gpus
from airflow_dla.cli.checks.ledger import check_clock, check_file_system, check_schema, check_writable
from airflow_dla.cli.checks.places import check_executor, check_nodes, check_place, check_shared, check_triggerer
from airflow_dla.cli.reach import Reach
from airflow_dla.errors import NotFound
from airflow_dla.hooks.settings import embedded_settings
from airflow_dla.ledger import NodeRow, SqlLedger
from airflow_dla.runtime import Status
from airflow_dla.specs import Node


def reach_with(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> Reach:
    """Return a workspace whose connection says this."""
    monkeypatch.setenv("AIRFLOW_CONN_DLA_X", json.dumps({"conn_type": "dla", "extra": extra}))
    return Reach("dla_x")


def test_an_error_is_a_failure_with_its_message() -> None:
    """A look that raises fails, and keeps what to do."""

    def look() -> Check:
        raise NotFound("gone")

    assert guarded("x", look, "find it") == Check("x", "fail", "gone", "find it")


def test_metadata() -> None:
    """A database that does not answer is a warning: other connections still work."""

    def fails() -> None:
        raise RuntimeError("no such table\nlong SQL")

    assert check_metadata(lambda: None).state == "ok"
    found = check_metadata(fails)
    assert found.state == "warn"
    assert "SQL" not in found.message


def test_passwords_are_found_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in the ledger's or the store's URL fails, says where it belongs, and is not shown."""
    for extra in ({"ledger": "postgresql://u:hush-hush@h/db"}, {"store": "https://h/x?token=hush-hush"}):
        found = check_connection(reach_with(monkeypatch, **extra))
        assert found.state == "fail"
        assert "hush" not in str(found)
        assert "connection" in found.fix


def test_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A good connection is shown; an unknown field fails."""
    assert check_connection(reach_with(monkeypatch, store="/srv/store")).state == "ok"
    assert check_connection(reach_with(monkeypatch, stor="/srv/store")).state == "fail"
    assert check_connection(Reach("absent")).state == "fail"


def test_statsd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot be resolved loses metrics."""
    assert check_statsd(embedded_settings("x")).state == "ok"
    assert check_statsd(reach_with(monkeypatch, statsd_host="127.0.0.1").settings).state == "ok"
    assert check_statsd(reach_with(monkeypatch, statsd_host="no-such-host.invalid").settings).state == "warn"


def test_ledger(reach: Reach) -> None:
    """A ledger that is there and writable passes, with its clock."""
    assert [check.state for check in (check_schema(reach), check_writable(reach.ledger), check_clock(reach.ledger))] == ["ok"] * 3


def test_ledger_without_schema(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A ledger that was never made names the command that makes it."""
    found = check_schema(reach_with(monkeypatch, ledger=f"sqlite:///{tmp_path}/ledger.db"))
    assert (found.state, found.fix) == ("fail", "run `airflow dla ledger upgrade`")


@pytest.mark.parametrize(("ahead", "state"), [(-3600.0, "warn"), (0.0, "ok"), (4.0, "ok"), (6.0, "warn")])
def test_clock(ahead: float, state: str) -> None:
    """Clocks more than five seconds apart are a warning."""
    ledger = SimpleNamespace(now=lambda: time.time() + ahead)
    assert check_clock(cast("SqlLedger", ledger)).state == state


def test_ledger_disk(tmp_path: Path) -> None:
    """A local file passes, another kind of database keeps its own disk."""
    assert check_file_system(f"sqlite:///{tmp_path}/ledger.db").message.startswith(str(tmp_path))
    assert check_file_system("postgresql://h/db").state == "ok"


@pytest.mark.parametrize(
    ("option", "state"),
    [
        ("LocalExecutor", "ok"),
        ("CeleryExecutor", "ok"),
        ("airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor", "fail"),
        ("LocalExecutor,KubernetesExecutor:k8s", "warn"),
    ],
)
def test_executor(option: str, state: str) -> None:
    """Jobs in a task's pod end with it."""
    assert check_executor(option).state == state


def test_triggerer() -> None:
    """Where Airflow runs on several hosts, a triggerer must be on this one to follow deferred tasks."""
    follower = ("id", "triggerer", "me")
    assert check_triggerer("LocalExecutor", [], "me").state == "ok"
    assert check_triggerer("CeleryExecutor", [follower], "me").state == "ok"
    assert check_triggerer("CeleryExecutor", [follower], "other").state == "warn"
    assert check_triggerer("CeleryExecutor", [("id", "worker", "me")], "me").state == "warn"


def test_nodes() -> None:
    """A node that does not answer is named, with for how long."""
    rows = [NodeRow(Node(name="a"), "a/1/2", 90.0), NodeRow(Node(name="b"), "b/1/2", 40.0, silent_since=40.0)]
    assert check_nodes(rows[:1], 100.0).state == "ok"
    assert check_nodes(rows, 100.0).message == "no answer from b (for 60 s)"
    assert check_shared("s3://bucket", rows).state == "ok"
    assert check_shared("file:///store", rows[:1]).state == "ok"
    assert check_shared("file:///store", rows).state == "warn"


def test_capacity(tmp_path: Path) -> None:
    """More than the host has is a warning, naming what."""
    assert check_capacity({"cpu": 2, "memory": 8, "disk": 9}, {"cpu": 2, "memory": 8}).state == "ok"
    assert "cpu 64 of 2" in check_capacity({"cpu": 64}, {"cpu": 2}).message
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    assert gpus(tmp_path) == 2
    (tmp_path / "kfd").touch()
    assert gpus(tmp_path) is None


def test_disk_folders_and_packages(tmp_path: Path) -> None:
    """Room is looked for where folders will be; packages are found without importing them."""
    assert str(tmp_path / "not" / "yet") in check_disk([tmp_path / "not" / "yet"]).message
    assert check_disk([Path("/proc")]).state == "fail"  # which has no room at all
    assert check_jobs_folder(tmp_path).state == "ok"
    assert check_packages(["json"]).state == "ok"
    assert check_packages(["json", "no_such_package"]).state == "warn"


class Noted(FakeRuntime):
    """Says which limits are in force."""

    def __init__(self, note: str) -> None:
        super().__init__()
        self.note = note

    def status(self, attempt: str) -> Status:
        """Add the note."""
        found = super().status(attempt)
        return Status(alive=found.alive, exit=found.exit, note=self.note if found.alive else "")


def test_place(tmp_path: Path) -> None:
    """A probe job runs and is ended; limits that nobody enforces are a warning."""
    runtime = Noted("cgroup v2: 0.5 cpu, 256 MiB")
    found = check_place(runtime, "file:///store", tmp_path)
    assert (found.state, list(runtime.jobs().values())) == ("ok", [False])
    assert "cgroup v2: 0.5 cpu" in found.message
    assert check_place(Noted("no cgroup may be made here; memory of 256 MiB watched"), "file:///store", tmp_path).state == "warn"
