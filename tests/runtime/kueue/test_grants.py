"""Grants of jobs that Kueue admits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clusters import REAL, Site
from contracts.runtime import ended, submitted, wait_until
from fixtures_workspace import NODE, job_spec
from meeting import MEET
from queues import POLITE, large, pods_of

from airflow_dla.artifacts import Store
from airflow_dla.control import Crew, Follow, Listener, Timing, Workspace, begun, following, run_round, ship_code
from airflow_dla.errors import NotReady
from airflow_dla.ledger import Attempt
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import ExitReason, Grant, Node

pytestmark = pytest.mark.timeout(180)

Runtimes = Callable[..., KubernetesRuntime]


def test_a_grant_does_not_change(queued: KubernetesRuntime):
    """Kueue counts what it has admitted, so a running job keeps that."""
    submitted(queued, large("a.1"), 60)
    assert not queued.resize("a.1", Grant(id="a.1", node="cluster", amounts={"cpu": 0.2, "memory": 0.125}))
    queued.cancel("a.1", ExitReason.STOPPED)
    ended(queued, "a.1", 60)


@pytest.fixture
def place(workspace: Workspace, queued: KubernetesRuntime, store: Store) -> Workspace:
    """Return a workspace whose one place is the cluster, where everything is granted."""
    workspace.ledger.register_node(Node(name="cluster", capacity={"cpu": 100.0, "memory": 100.0}), host="here")
    workspace.ledger.remove_node(NODE)
    timing = Timing(poll_s=0.1, eager_s=0.05, renew_s=1.0, reap_s=60.0)
    return replace(workspace, runtimes={"cluster": queued}, store=store, timing=timing)


@pytest.mark.parametrize("site", REAL, indirect=True)
def test_members_meet(place: Workspace, tmp_path: Path):
    """Each member is admitted and let go by itself; they find each other, and the whole ends well."""
    (tmp_path / "work.py").write_text(MEET)
    code = ship_code(place, tmp_path)
    assert code is not None
    request = {"cpu": 0.1, "memory": "128MiB"}
    given = {"entrypoint": "work:meet", "args": {}, "outputs": ["model"], "code": code.to_mapping(), "request": request}
    spec = begun(job_spec("meeting", distributed={"nodes": 2}, policy={"grace": 1}, **given), "cluster")
    over: list[Attempt] = []
    Crew(place).join(following(place, place.ledger.open_attempt(spec), Listener(lambda line: None, over.append)))
    wait_until(lambda: over, 120)
    assert over[0].exit is not None
    assert dict(over[0].exit.metrics) == {"total": 3.0, "ranks": 2.0}
    assert place.ledger.leases() == ()


def test_another_attempt_without_a_retry(place: Workspace, site: Site, queued: KubernetesRuntime):
    """One that made way goes on as another attempt of the same try, which waits for Kueue anew."""
    lines: list[str] = []
    spec = job_spec(entrypoint=list(POLITE), request={"cpu": 0.4, "memory": "128MiB"}, policy={"grace": 1})
    one = Follow(place, place.ledger.open_attempt(spec), Listener(log=lines.append))

    def steps(until: Callable[[], Any]) -> None:
        def step() -> Any:
            run_round(place)
            one.step(place.ledger.attempts([one.attempt.id])[one.attempt.id], place.ledger.now())
            return until()

        wait_until(step, 90)

    steps(lambda: "on" in lines)
    with pytest.raises(NotReady):
        queued.submit(large("other.1", priority=100))
    steps(lambda: one.attempt.number == 2)
    submitted(queued, large("other.1", priority=100), 60)
    assert not pods_of(site, one.attempt.id)
    queued.cancel("other.1", ExitReason.STOPPED)
    ended(queued, "other.1", 60)
    steps(lambda: queued.status(one.attempt.id).alive)
    one.stop(ExitReason.STOPPED)
    steps(lambda: one.over)
    assert one.attempt.number == 2
    assert place.ledger.leases() == ()
