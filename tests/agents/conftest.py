"""Jobs for the runner alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.runner import Ran, RunJob, run_runner


@pytest.fixture
def run_job(tmp_path: Path) -> RunJob:
    """Return a function that runs code under the runner, in one folder."""

    def run_job_(code: str = "", entrypoint: Any = "work:main", **more: Any) -> Ran:
        return run_runner(tmp_path, code, entrypoint, **more)

    return run_job_
