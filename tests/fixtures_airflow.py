"""A task's context without a running Airflow, and an embedded workspace of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

RUN_AFTER = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class FakeRun:
    """The part of a DAG run that operators read."""

    run_type: str = "manual"
    data_interval_end: datetime | None = RUN_AFTER
    logical_date: datetime | None = RUN_AFTER
    run_after: datetime = RUN_AFTER


@dataclass
class FakeInstance:
    """The part of a task instance that operators use."""

    task_id: str
    dag_id: str = "d"
    run_id: str = "r"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 2
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, *, key: str, value: Any) -> None:
        """Remember what was pushed."""
        self.pushed[key] = value


@dataclass
class FakeOutletEvent:
    """What a task says of an asset."""

    extra: dict[str, Any] = field(default_factory=dict)
    added: list[Any] = field(default_factory=list)

    def add(self, asset: Any, extra: dict[str, Any]) -> None:
        """Remember an asset of an alias."""
        self.added.append((asset, extra))


class FakeOutletEvents(dict[Any, FakeOutletEvent]):
    """Makes an event for any outlet."""

    def __missing__(self, key: Any) -> FakeOutletEvent:
        return self.setdefault(key, FakeOutletEvent())


def context(task_id: str, **instance: Any) -> dict[str, Any]:
    """Return a context as a task's first try sees it."""
    return {"ti": FakeInstance(task_id, **instance), "dag_run": FakeRun(), "outlet_events": FakeOutletEvents()}


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an Airflow home of its own, where the embedded workspace comes to be."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    return home


@pytest.fixture
def dag_folder(tmp_path: Path) -> Path:
    """Return a folder with an agent's code, as it would lie beside a DAG file."""
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "agent_code.py").write_text(AGENT_CODE)
    (folder / "script.py").write_text("import sys\nprint('acc=0.5', sys.argv[1:])\n")
    return folder


AGENT_CODE = """
import time


def write(job):
    time.sleep(job.args.get("sleep", 0))
    (job.outputs["out"].path / "value.txt").write_text(str(job.args.get("value", 1)))
    return {"accuracy": job.args.get("accuracy", 0.9)}


def count(job):
    for number in range(400):
        print("count", number, flush=True)
        time.sleep(job.args["sleep"] / 400)


def forget(job):
    return {}


def fail(job):
    raise ValueError("the data is empty")
"""

MakeTask = Callable[..., Any]


@pytest.fixture
def make_task(dag_folder: Path) -> MakeTask:
    """Return a function that makes an operator inside a DAG whose file lies in the folder."""
    from airflow.sdk import DAG  # noqa: PLC0415 - only tests of the shell need Airflow

    def make(operator: type, task_id: str = "t", **kwargs: Any) -> Any:
        with DAG("d", schedule=None) as dag:
            task = operator(task_id=task_id, **kwargs)
        dag.fileloc = str(dag_folder / "dag.py")
        task.quick_s = 0.3 if "sleep" in (kwargs.get("args") or {}) else 10.0
        return task

    return make
