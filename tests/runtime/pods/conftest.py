"""Jobs in pods of a cluster, run as followers run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cluster_runtime import small
from contracts.runtime import ended, submitted

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import Exit, ExitReason

#: Runs a job to its end, with further fields of its `JobFile`.
Run = Callable[..., Exit]


@pytest.fixture
def run(pods: KubernetesRuntime) -> Run:
    """Return a function that runs a command, or a launch, to its end; a refused one ends so, as a follower has it."""

    def run_(what: list[str] | Launch, attempt: str = "job.1", **fields: Any) -> Exit:
        launch = what if isinstance(what, Launch) else small(what, attempt, **fields)
        try:
            submitted(pods, launch, 60)
        except LaunchRefused as refused:
            return Exit(reason=ExitReason.REFUSED, message=str(refused))
        return ended(pods, launch.job.attempt, 60)

    return run_
