"""Jobs in pods of a cluster, run as followers run them: of the one that is named, and of a fake whose pods really run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster_runtime import closed, runtime_at
from clusters import Site
from contracts.runtime import ended, job_file, submitted

from airflow_dla.artifacts import Store
from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime import Launch
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import Exit, ExitReason

#: Runs a job to its end, with further fields of its `JobFile`.
Run = Callable[..., Exit]
#: Makes the runtime of a site, as one more process would; all are closed with the test.
Runtimes = Callable[..., KubernetesRuntime]


@pytest.fixture
def site(named_site: Site) -> Site:
    """Return the cluster."""
    return named_site


@pytest.fixture
def workspace_id(site: Site) -> Iterator[str]:
    """Return the identity of a workspace of its own; nothing of it is left, and none of its pods may run at the end."""
    identity = uuid.uuid4().hex
    yield identity
    assert site.clear(identity) == []


@pytest.fixture
def runtimes(site: Site, workspace_id: str, store: Store) -> Iterator[Runtimes]:
    """Return a function that makes a runtime of the workspace."""
    made: list[KubernetesRuntime] = []

    def make(at: Site = site, *, goods: Store = store, **place: Any) -> KubernetesRuntime:
        made.append(runtime_at(at, workspace_id, goods, **place))
        return made[-1]

    yield make
    for runtime in made:
        closed(runtime)


@pytest.fixture
def pods(runtimes: Runtimes) -> KubernetesRuntime:
    """Return a runtime on the cluster."""
    return runtimes()


@pytest.fixture
def run(pods: KubernetesRuntime) -> Run:
    """Return a function that runs a command, or a launch, to its end; a refused one ends so, as a follower has it."""

    def run_(what: list[str] | Launch, attempt: str = "job.1", **fields: Any) -> Exit:
        launch = what if isinstance(what, Launch) else Launch(job=job_file(attempt, what, **fields))
        try:
            submitted(pods, launch, 60)
        except LaunchRefused as refused:
            return Exit(reason=ExitReason.REFUSED, message=str(refused))
        return ended(pods, launch.job.attempt, 60)

    return run_
