"""Jobs in real containers, run as followers run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from contracts.runtime import job_file, ran

from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit

#: Runs a job to its end, in an image, with further fields of its `JobFile`.
Run = Callable[..., Exit]


@pytest.fixture
def run(docker: DockerRuntime) -> Run:
    """Return a function that runs a command, or a launch, to its end."""

    def run_(what: list[str] | Launch, image: str | None = None, attempt: str = "job.1", **fields: Any) -> Exit:
        return ran(docker, what if isinstance(what, Launch) else Launch(job=job_file(attempt, what, **fields), image=image))

    return run_


@pytest.fixture
def image(request: pytest.FixtureRequest) -> str:
    """Return the image whose fixture the parameter names."""
    return str(request.getfixturevalue(request.param))
