"""Real processes: a local runtime in a folder of its own, and jobs with code."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import job_file

from airflow_dla.artifacts import Store
from airflow_dla.runtime import Launch
from airflow_dla.runtime.local import LocalRuntime


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an artifact store of its own."""
    return Store(str(tmp_path / "store"))


@pytest.fixture
def local(tmp_path: Path):
    """Return a local runtime; whatever still runs in it at the end is ended."""
    runtime = LocalRuntime(tmp_path / "jobs", node="laptop")
    yield runtime
    for label, alive in runtime.jobs().items():
        if alive:
            keeper = (runtime.root / label / "keeper.json").read_text()
            pytest.fail(f"{label} was left running: {keeper}")


@pytest.fixture
def launch(tmp_path: Path, store: Store) -> Callable[..., Launch]:
    """Return a function that ships code as an artifact and makes a launch."""

    def launch_(code: str = "", entrypoint: Any = "work:main", attempt: str = "job.1", *, secrets: Any = None, **fields: Any) -> Launch:
        if code:
            folder = tmp_path / f"code-{abs(hash(code))}"
            folder.mkdir(exist_ok=True)
            (folder / "work.py").write_text(textwrap.dedent(code))
            fields["code"] = store.publish(folder, kind="code")
        return Launch(job=job_file(attempt, entrypoint, store=store.url, **fields), secrets=secrets or {})

    return launch_
