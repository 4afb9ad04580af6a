"""Jobs in pods of a cluster, run as followers run them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cluster_runtime import small
from contracts.runtime import ran

from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import Exit

#: Runs a job to its end, with further fields of its `JobFile`.
Run = Callable[..., Exit]


@pytest.fixture
def run(pods: KubernetesRuntime) -> Run:
    """Return a function that runs a command, or a launch, to its end."""
    return lambda what, attempt="job.1", **fields: ran(pods, what if isinstance(what, Launch) else small(what, attempt, **fields))
