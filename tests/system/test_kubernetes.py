"""Jobs in pods under a real Airflow: whatever becomes of those who follow them, one pod runs an attempt and the result is right."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest
from clusters import REAL, Site
from system.pods import PodAirflow, pod_airflow
from system.processes import eventually
from system.slaughter import Slaughter

from airflow_dla.specs import AttemptState

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=["docker_site", *REAL])
def airflow(request: pytest.FixtureRequest) -> Iterator[PodAirflow]:
    """Start an Airflow whose jobs run in pods."""
    site: Site = request.getfixturevalue(request.param)
    with pod_airflow(site) as made:
        yield made


def test_an_outage_and_kills_of_task_and_triggerer_run_no_job_twice_and_lose_none(
    airflow: PodAirflow, measure: Callable[[str, float], None]
) -> None:
    """One job deferred, one synchronous, each struck while it counts (tests/bench/bench_kubernetes_kills.py: at random moments)."""
    begun = time.monotonic()
    slaughter = Slaughter(airflow, jobs=2, what=(), chance=random.Random(5), epochs=40)
    for run, follower in zip(slaughter.runs, ("triggerer", "worker"), strict=True):
        run.wait_follower(follower)
        eventually(lambda run=run: run.attempt.state is AttemptState.RUNNING, timeout=60, what=f"a pod of {run.dag}")
    for what in ("outage", "task", "triggerer"):
        assert slaughter.strike(what)
    slaughter.check()
    assert slaughter.attempts == len(slaughter.runs)
    assert [run.task["try_number"] for run in slaughter.runs] == [1, 2]
    measure(f"pods ({slaughter.summary()})", time.monotonic() - begun)
