"""Jobs in real containers, run as followers run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from contracts.runtime import ended, job_file, submitted

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import Launch
from airflow_dla.runtime.docker.runtime import DockerRuntime
from airflow_dla.specs import Exit, ExitReason

#: Runs a job to its end, in an image, with further fields of its `JobFile`.
Run = Callable[..., Exit]


@pytest.fixture
def run(docker: DockerRuntime) -> Run:
    """Return a function that runs a command, or a launch, to its end; a refused one ends so, as a follower has it."""

    def run_(what: list[str] | Launch, image: str | None = None, attempt: str = "job.1", **fields: Any) -> Exit:
        launch = what if isinstance(what, Launch) else Launch(job=job_file(attempt, what, **fields), image=image)
        try:
            submitted(docker, launch)
        except LaunchRefused as refused:
            return Exit(reason=ExitReason.REFUSED, message=str(refused))
        return ended(docker, launch.job.attempt, 60)

    return run_


@pytest.fixture
def image(request: pytest.FixtureRequest) -> str:
    """Return the image whose fixture the parameter names."""
    return str(request.getfixturevalue(request.param))
