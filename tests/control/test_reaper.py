"""Tests of finding out what became of grants that nobody renews."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.runtime import FakeRuntime
from fixtures_workspace import job_spec

from airflow_dla.control import Follow, Listener, Timing, Workspace, launch, reap, run_round
from airflow_dla.control.silence import answered
from airflow_dla.errors import Conflict, InvalidSpec, StoreUnavailable
from airflow_dla.ledger import Attempt, Decision
from airflow_dla.runtime import Launch
from airflow_dla.specs import AttemptState, Demand, ExitReason, JobFile, Node, Request


@pytest.fixture
def hasty(workspace: Workspace) -> Workspace:
    """Return the workspace with leases that expire at once and a reaper whose turn is always come."""
    return replace(workspace, timing=Timing(lease_s=-1.0, reap_s=0.0, unfollowed_s=0.0, silent_s=0.0, bare_s=0.0))


def granted(workspace: Workspace, task: str = "t", *, deferred: bool = False, preemptible: bool = False) -> Attempt:
    """Return an attempt that holds a grant."""
    attempt = workspace.ledger.open_attempt(job_spec(task, policy={"preemptible": preemptible}), deferred=deferred)
    run_round(workspace)
    return workspace.ledger.attempts([attempt.id])[attempt.id]


def now(workspace: Workspace, attempt: Attempt) -> Attempt:
    """Return an attempt as it is now."""
    return workspace.ledger.attempts([attempt.id])[attempt.id]


def test_a_live_attempt_keeps_its_grant(hasty: Workspace, fake_runtime: FakeRuntime) -> None:
    """An expired lease frees nothing by itself."""
    patient = replace(hasty, timing=replace(hasty.timing, unfollowed_s=1e9))
    running = launch(patient, granted(patient))
    reap(patient)
    assert now(patient, running).state is AttemptState.RUNNING
    assert len(patient.ledger.leases()) == 1
    assert fake_runtime.cancels == []


def test_an_end_that_nobody_saw_is_recorded(hasty: Workspace, fake_runtime: FakeRuntime) -> None:
    """A job that ended while its follower was away gets its own end, and its grant is free."""
    running = launch(hasty, granted(hasty))
    fake_runtime.end(running.id, metrics={"acc": 1.0})
    reap(hasty)
    ended = now(hasty, running)
    assert ended.exit is not None
    assert ended.exit.metrics == {"acc": 1.0}
    assert hasty.ledger.leases() == ()


def test_a_lost_attempt_is_ended_and_cannot_come_back(hasty: Workspace, fake_runtime: FakeRuntime) -> None:
    """A submit that arrives after the reaper starts nothing: no GPU is granted twice."""
    attempt = granted(hasty)
    begun = hasty.ledger.begin_launch(attempt.id, holder="slow", lease_s=-1.0)
    reap(hasty)
    lost = now(hasty, attempt)
    assert lost.exit is not None
    assert lost.exit.reason is ExitReason.LOST
    assert begun.grant is not None
    late = JobFile(attempt=attempt.id, nonce="n", entrypoint=begun.spec.entrypoint, grant=begun.grant, store="s", checkpoint="c")
    fake_runtime.submit(Launch(job=late))
    assert not fake_runtime.status(attempt.id).alive


def test_a_grant_that_was_never_launched_is_freed(hasty: Workspace) -> None:
    """A follower that died between grant and launch gives its share back, and can launch no more."""
    attempt = granted(hasty)
    reap(hasty)
    assert hasty.ledger.leases() == ()
    with pytest.raises(Conflict):
        launch(hasty, attempt)


def test_nobody_follows_so_it_is_stopped(hasty: Workspace, fake_runtime: FakeRuntime) -> None:
    """A synchronous job whose worker never comes back is stopped in the end."""
    running = launch(hasty, granted(hasty))
    reap(hasty)
    reap(hasty)
    assert (running.id, ExitReason.STOPPED) in fake_runtime.cancels
    reap(hasty)
    assert now(hasty, running).ended


def test_a_deferred_job_is_not_blamed_for_a_dead_triggerer(hasty: Workspace, fake_runtime: FakeRuntime) -> None:
    """Only time in which a triggerer lived counts against a deferred job."""
    running = launch(hasty, granted(hasty, deferred=True))
    for _ in range(5):
        reap(hasty)
    assert fake_runtime.cancels == []
    hasty.ledger.heartbeat("t", "triggerer", "here")
    reap(hasty)
    reap(hasty)
    assert (running.id, ExitReason.STOPPED) in fake_runtime.cancels


def test_a_node_that_does_not_answer_is_written_off_only_after_a_while(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """One question in vain proves nothing; five minutes of them do."""
    timing = Timing(lease_s=-1.0, reap_s=0.0, silent_s=1e9)
    patient = replace(workspace, timing=timing)
    running = launch(patient, granted(patient))
    fake_runtime.break_down(StoreUnavailable("the engine is gone"))
    with pytest.raises(StoreUnavailable):
        reap(patient)  # the orphans of a node that does not answer cannot be looked for
    assert now(patient, running).state is AttemptState.RUNNING
    with pytest.raises(StoreUnavailable):
        reap(replace(workspace, timing=replace(timing, silent_s=0.0)))
    lost = now(patient, running)
    assert lost.exit is not None
    assert lost.exit.reason is ExitReason.LOST


def test_what_no_attempt_owns_is_stopped(hasty: Workspace, fake_runtime: FakeRuntime) -> None:
    """A process whose attempt has ended in the ledger is an orphan."""
    running = launch(hasty, granted(hasty))
    hasty.ledger.finish(running.id, fake_exit())
    reap(hasty)
    assert (running.id, ExitReason.STOPPED) in fake_runtime.cancels


def fake_exit():
    """Return the end of an attempt that was written off."""
    from airflow_dla.specs import Exit  # noqa: PLC0415

    return Exit(reason=ExitReason.LOST)


def test_a_bare_grant_is_freed_after_its_grace(hasty: Workspace) -> None:
    """A grant without an attempt lives as long as its lease and ten minutes more."""
    hasty.ledger.request(Demand(id="bare", request=Request.from_mapping({"cpu": 1})))
    run_round(hasty)
    reap(replace(hasty, timing=replace(hasty.timing, bare_s=1e9)))
    assert len(hasty.ledger.leases()) == 1
    reap(hasty)
    assert hasty.ledger.leases() == ()


def test_the_turn_comes_once_in_its_interval(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """Many followers, one reaper a minute."""
    patient = replace(workspace, timing=Timing(lease_s=-1.0, reap_s=60.0))
    running = launch(patient, granted(patient))
    reap(patient)
    fake_runtime.end(running.id)
    reap(patient)
    assert not now(patient, running).ended


def test_a_preempted_job_whose_follower_died_still_makes_way(hasty: Workspace, fake_runtime: FakeRuntime) -> None:
    """The reaper passes the stop on and records the end, so that its share is free; who follows the job next goes on."""
    running = launch(hasty, granted(hasty, preemptible=True))
    decision = Decision(preempted={running.id: "for d.big"})
    hasty.ledger.round(lambda _seen: decision, holder="round", lease_s=60.0, force=True)
    reap(hasty)
    reap(hasty)
    assert fake_runtime.cancels == [(running.id, ExitReason.PREEMPTED)]
    assert hasty.ledger.leases() == ()
    follow = Follow(hasty, now(hasty, running), Listener())
    follow.step(follow.attempt, hasty.ledger.now())
    assert follow.attempt.number == 2


def test_a_cluster_tells_of_jobs_on_each_of_its_nodes(hasty: Workspace, fake_runtime: FakeRuntime) -> None:
    """Its word says nothing of the node, which stays silent if nobody finds it there any more."""
    cluster = replace(hasty, runtimes={"k8s": fake_runtime}, clusters=frozenset({"k8s", "k8s.eu"}))
    assert cluster.runtime("k8s.a") is cluster.runtime("k8s") is fake_runtime
    assert cluster.reached("k8s.eu.a") is None
    hasty.ledger.register_node(Node(name="k8s.a", place="k8s"))
    hasty.ledger.node_answered("k8s.a", answered=False)
    answered(cluster, "k8s.a")
    assert next(row for row in hasty.ledger.nodes() if row.node.name == "k8s.a").silent_since is not None
    with pytest.raises(InvalidSpec, match=r"node 'host-1' cannot be reached from host here \(reached are: k8s\)"):
        cluster.runtime("host-1")
