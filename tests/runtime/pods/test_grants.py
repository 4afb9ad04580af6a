"""Grants of jobs in pods: held while anything runs, free when it is gone, whoever looks; members of one job reach each other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cluster_runtime import small
from clusters import REAL, Site
from contracts.runtime import submitted, wait_until
from fixtures_workspace import NODE, job_spec
from meeting import MEET

from airflow_dla.artifacts import Store
from airflow_dla.control import Crew, Follow, Listener, Timing, Workspace, begun, following, launch, reap, run_round, ship_code
from airflow_dla.errors import NotReady
from airflow_dla.ledger import Attempt
from airflow_dla.runtime.kubernetes.runtime import KubernetesRuntime
from airflow_dla.specs import ExitReason, Node

pytestmark = pytest.mark.timeout(240)

_LAST = ("sh", "-c", "echo on; while :; do sleep 0.1; done")
_SMALL = {"cpu": 0.1, "memory": "128MiB"}


@pytest.fixture
def place(workspace: Workspace, pods: KubernetesRuntime, store: Store) -> Workspace:
    """Return a workspace whose one place is the cluster."""
    workspace.ledger.register_node(Node(name="cluster", capacity={"cpu": 0.2, "memory": 4.0}), host="here")
    workspace.ledger.remove_node(NODE)
    timing = Timing(poll_s=0.1, eager_s=0.05, renew_s=1.0, reap_s=60.0)
    return replace(workspace, runtimes={"cluster": pods}, store=store, timing=timing)


def follow(place: Workspace, *command: str, lines: list[str] | None = None, **policy: Any) -> Follow:
    """Begin to follow a job of small grant."""
    spec = job_spec(entrypoint=list(command), request=_SMALL, policy=policy)
    return Follow(place, place.ledger.open_attempt(spec), Listener(log=(lines if lines is not None else []).append))


def steps(one: Follow, until: Callable[[], Any], timeout_s: float = 60.0) -> None:
    """Follow until something is true."""
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline, one.attempt
        run_round(one.workspace)
        one.step(one.workspace.ledger.attempts([one.attempt.id])[one.attempt.id], one.workspace.ledger.now())
        time.sleep(0.05)


def test_to_its_end(place: Workspace):
    """The log is passed on, the end recorded, the grant freed."""
    lines: list[str] = []
    one = follow(place, "sh", "-c", "echo one; echo two >&2", lines=lines)
    steps(one, lambda: one.over)
    assert one.attempt.exit is not None
    assert one.attempt.exit.succeeded
    assert {"one", "two"} <= set(lines)
    assert place.ledger.leases() == ()


def test_refused(place: Workspace, pods: KubernetesRuntime):
    """An image that cannot be ends the job without another attempt, and its grant is free."""
    pods.place = replace(pods.place, image="UPPER/Case:1")
    one = follow(place, "true")
    steps(one, lambda: one.over, 120)
    assert one.attempt.exit is not None
    assert (one.attempt.exit.reason, one.attempt.number) == (ExitReason.REFUSED, 1)
    assert place.ledger.leases() == ()


def test_held_until_the_pod_is_gone(place: Workspace, pods: KubernetesRuntime):
    """A deaf job that is preempted holds its grant for its grace, then goes on as another attempt of the same try."""
    lines: list[str] = []
    one = follow(place, "sh", "-c", f"trap '' TERM; {_LAST[-1]}", lines=lines, grace=2, preemptible=True)
    steps(one, lambda: "on" in lines)
    first, began = one.attempt.id, time.monotonic()
    place.ledger.want_stop(first, ExitReason.PREEMPTED)

    def gone() -> bool:
        held = first in {lease.grant.id for lease in place.ledger.leases()}
        if held or not pods.status(first).alive:
            return not held
        raise AssertionError("its grant was freed while its pod ran")

    steps(one, gone)
    assert 1.5 <= time.monotonic() - began <= 2.0 + 8.0
    one.stop(ExitReason.STOPPED)
    steps(one, lambda: one.over)
    assert one.attempt.number == 2
    assert place.ledger.leases() == ()


@pytest.mark.parametrize("how", ["delete_pod", "evict"])
def test_taken_by_others(place: Workspace, site: Site, how: str):
    """A pod that somebody deleted, or a drain evicted, costs an attempt, not an Airflow retry."""
    lines: list[str] = []
    one = follow(place, *_LAST, lines=lines, grace=1)
    steps(one, lambda: "on" in lines)
    getattr(site, how)(site.pod(one.attempt.id)["metadata"]["name"])
    steps(one, lambda: one.attempt.number == 2 and place.runtimes["cluster"].status(one.attempt.id).alive, 90)
    one.stop(ExitReason.STOPPED)
    steps(one, lambda: one.over)
    assert place.ledger.leases() == ()


@pytest.mark.parametrize("site", REAL, indirect=True)
def test_orphan(place: Workspace, pods: KubernetesRuntime):
    """What runs and no attempt owns is stopped by the reaper, and collected when its time has come; its log is kept."""
    submitted(pods, small(_LAST, "stray.1", grace_s=0.5), 60)
    wait_until(lambda: pods.logs("stray.1", 0).data)
    hasty = replace(place, timing=replace(place.timing, reap_s=0.0))

    def stopped() -> bool:
        reap(hasty)
        return not pods.jobs()["stray.1"]

    wait_until(stopped, 60)
    pods.place = replace(pods.place, keep_s=-1.0)

    def collected() -> bool:
        reap(hasty)
        return pods.kept() == {}

    wait_until(collected, 60)
    assert pods.logs("stray.1", 0).data == b"on\n"


def test_run_timeout_without_a_follower(place: Workspace):
    """A job whose follower is gone is ended by the reaper when its time is over, and its grant is free."""
    spec = job_spec(entrypoint=list(_LAST), request=_SMALL, policy={"run_timeout": 1, "grace": 0.5})
    attempt = place.ledger.open_attempt(spec)
    run_round(place)
    dead = replace(place, timing=replace(place.timing, lease_s=-1.0, reap_s=0.0))
    wait_until(lambda: _launched(dead, attempt), 60)

    def over() -> Attempt | None:
        reap(dead)
        found = place.ledger.attempts([attempt.id])[attempt.id]
        return found if found.ended else None

    found = wait_until(over, 60)
    assert found.exit.reason is ExitReason.TIMED_OUT
    assert place.ledger.leases() == ()


def _launched(place: Workspace, attempt: Attempt) -> Attempt | None:
    try:
        return launch(place, attempt)
    except NotReady:
        return None


# --- several pods of one job ---------------------------------------------------------


@pytest.fixture
def meet(place: Workspace, tmp_path: Path) -> Callable[..., tuple[Attempt, list[str]]]:
    """Return a function that runs two members to their end, with arguments of theirs."""
    (tmp_path / "meeting").mkdir()
    (tmp_path / "meeting" / "work.py").write_text(MEET)
    code = ship_code(place, tmp_path / "meeting")
    assert code is not None

    def meet_(**args: Any) -> tuple[Attempt, list[str]]:
        given = {"entrypoint": "work:meet", "args": args, "outputs": ["model"], "code": code.to_mapping(), "request": _SMALL}
        spec = begun(job_spec("meeting", distributed={"nodes": 2}, policy={"grace": 1}, **given), "cluster")
        lines: list[str] = []
        over: list[Attempt] = []
        Crew(place).join(following(place, place.ledger.open_attempt(spec), Listener(lines.append, over.append)))
        wait_until(lambda: over, 120)
        assert place.ledger.leases() == ()
        return over[0], lines

    return meet_


def test_members_reach_each_other(meet: Callable[..., tuple[Attempt, list[str]]]):
    """The second is told the address of the first; what the first measured and wrote is the job's."""
    attempt, lines = meet()
    assert attempt.exit is not None
    assert attempt.exit.succeeded, (attempt.exit, lines)
    assert dict(attempt.exit.metrics) == {"total": 3.0, "ranks": 2.0}
    assert set(attempt.exit.outputs) == {"model"}


def test_one_that_fails_ends_the_other(meet: Callable[..., tuple[Attempt, list[str]]], pods: KubernetesRuntime):
    """Nobody waits for a rank that is gone."""
    began = time.monotonic()
    attempt, _ = meet(fails=1)
    assert attempt.exit is not None
    assert "this rank gives up" in attempt.exit.message
    wait_until(lambda: not any(pods.jobs().values()), 30)
    assert time.monotonic() - began < 58
