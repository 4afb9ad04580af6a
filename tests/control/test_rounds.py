"""Tests of the allocation round as the loops call it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fixtures_workspace import NODE, job_spec

from airflow_dla.allocation import Policy
from airflow_dla.control import Workspace, decide, refuse_never_grantable, run_round
from airflow_dla.errors import NeverGrantable
from airflow_dla.ledger import Snapshot
from airflow_dla.specs import Account, Demand, Grant, Held, Node, Request, TeamSpec


def test_a_round_grants_what_fits_and_gives_a_reason_for_the_rest(workspace: Workspace) -> None:
    """Of two jobs of three CPUs on four, one is granted and one told why not."""
    first, second = (workspace.ledger.open_attempt(job_spec(task, request={"cpu": 3})) for task in ("a", "b"))
    outcome = run_round(workspace)
    assert outcome.granted == (first.id,)
    waiting = workspace.ledger.attempts([second.id])[second.id]
    assert waiting.reason is not None
    assert waiting.reason.binding == "cpu"
    assert waiting.reason.shortfall == pytest.approx(2.0)


def test_a_round_is_skipped_when_nothing_changed(workspace: Workspace) -> None:
    """A second round without news decides nothing."""
    workspace.ledger.open_attempt(job_spec())
    assert not run_round(workspace).skipped
    assert run_round(workspace).skipped
    assert not run_round(workspace, force=True).skipped


def test_decide_is_pure() -> None:
    """The decision depends on the snapshot alone."""
    demand = Demand(id="x", request=Request.from_mapping({"cpu": 2}))
    snapshot = Snapshot(now=1.0, nodes=(Node(name="n", capacity={"cpu": 4.0}),), pending=(demand,))
    policy = Policy()
    assert decide(snapshot, policy) == decide(snapshot, policy)
    assert decide(snapshot, policy).grants["x"].amounts == {"cpu": 2.0}


def test_what_no_node_can_give_is_refused_at_once(workspace: Workspace) -> None:
    """A demand larger than every node names the largest and is never queued."""
    with pytest.raises(NeverGrantable, match="cpu") as caught:
        refuse_never_grantable(workspace, Demand(id="x", request=Request.from_mapping({"cpu": 64})))
    assert NODE in str(caught.value)


NOW = 10_000.0


def ask(name: str, gpu: float = 1, **more: Any) -> Demand:
    """Make a demand for GPUs."""
    return Demand(id=name, request=Request.from_mapping({"gpu": gpu}), created_at=more.pop("created_at", NOW), **more)


def runs(demand: Demand, since: float = 0.0) -> Held:
    """Make a live grant of what a demand asks."""
    amounts = {name: found.wanted for name, found in demand.request.amounts.items()}
    return Held(demand=demand, grant=Grant(id=demand.id, node="n", amounts=amounts), since=since)


def seen(held: list[Held], pending: list[Demand], gpus: float = 4.0, now: float = NOW, **more: Any) -> Snapshot:
    """Make what a round reads: one node with GPUs."""
    return Snapshot(now=now, nodes=(Node(name="n", capacity={"gpu": gpus}),), held=tuple(held), pending=tuple(pending), **more)


def test_a_round_preempts_and_says_so() -> None:
    """The decision names who stops; who waits is told."""
    found = decide(seen([runs(ask("batch", 4, preemptible=True))], [ask("urgent", 2, priority=1)]), Policy())
    assert set(found.preempted) == {"batch"}
    assert "room is being made on n: batch stops" in found.reasons["urgent"].text


def test_a_priority_above_the_teams_ceiling_counts_as_the_ceiling() -> None:
    """Nobody stops for it; within the ceiling somebody does."""
    held, waits = [runs(ask("batch", 4, preemptible=True, priority=3))], [ask("urgent", 2, priority=9, team="a")]
    assert not decide(seen(held, waits, teams=(TeamSpec(name="a", max_priority=3),)), Policy()).preempted
    assert decide(seen(held, waits, teams=(TeamSpec(name="a", max_priority=4),)), Policy()).preempted


def test_a_deadline_raises_what_waits() -> None:
    """An hour before its deadline nothing; half an hour before, it goes before an older one, and the round knew when."""
    waits = [ask("old", 4, created_at=0.0), ask("due", 4, deadline=NOW + 4000.0)]
    first = decide(seen([], waits), Policy())
    assert set(first.grants) == {"old"}
    assert first.again_at == NOW + 4000.0 - 1800.0
    assert set(decide(seen([], waits, now=first.again_at), Policy()).grants) == {"due"}


def test_a_team_whose_gpu_hours_are_spent_starts_nothing_with_gpus() -> None:
    """Until its period is over; without GPUs it goes on."""
    team = TeamSpec(name="a", gpu_hours=10.0, period_s=86_400.0)
    account = Account(team="a", at=NOW, gpu_hours=10.0, period_at=0.0)
    cpus = Demand(id="cpus", team="a", request=Request.from_mapping({"cpu": 1}))
    nodes = (Node(name="n", capacity={"gpu": 4.0, "cpu": 4.0}),)
    snapshot = Snapshot(now=NOW, nodes=nodes, pending=(ask("x", team="a"), cpus), teams=(team,), accounts=(account,))
    found = decide(snapshot, Policy())
    assert set(found.grants) == {"cpus"}
    assert found.reasons["x"].binding == "budget"
    assert "has spent its 10 GPU-hours" in found.reasons["x"].text
    assert found.reasons["x"].expected_start == 86_400.0
    late = dataclasses.replace(snapshot, now=86_400.0)
    assert "x" in decide(late, Policy()).grants


def test_accounts_are_kept_where_there_are_teams() -> None:
    """What is held is counted, and looked at again in a while; without teams nobody counts."""
    held = [runs(ask("j", 2, team="a"), since=NOW - 3600.0)]
    found = decide(seen(held, [], teams=(TeamSpec(name="a"),)), Policy())
    assert [(account.team, account.gpu_hours) for account in found.accounts] == [("a", 2.0)]
    assert found.again_at == NOW + 300.0
    assert decide(seen(held, []), Policy()).accounts == ()
    assert decide(seen(held, []), Policy()).again_at is None
    assert decide(seen(held, []), Policy(strategy="fair")).accounts


def test_quotas_and_guarantees_of_teams_hold() -> None:
    """A quota of the connection and one of the team: the smaller counts."""
    teams = (TeamSpec(name="a", quota={"gpu": 3.0}), TeamSpec(name="b", guaranteed={"gpu": 1.0}, lend={"gpu": 0.0}))
    waits = [ask(f"a{n}", team="a") for n in range(4)]
    assert len(decide(seen([], waits, teams=teams), Policy()).grants) == 3
    assert len(decide(seen([], waits, teams=teams), Policy(quotas={"a": {"gpu": 2.0}})).grants) == 2
    assert len(decide(seen([], waits, gpus=3.0, teams=teams), Policy()).grants) == 2


def test_tokens_are_spent_and_refilled_in_terms() -> None:
    """What an auction costs is taken from the team's account; who cannot pay waits for the next term."""
    teams = (TeamSpec(name="a", tokens=1.5),)
    waits = [ask(f"{team}{n}", 2, team=team, weight=1.0) for team in ("a", "b") for n in range(3)]
    found = decide(seen([], waits, teams=teams), Policy(strategy="auction"))
    (account,) = [one for one in found.accounts if one.team == "a"]
    spent = sum(1 for name in found.grants if name.startswith("a"))
    assert account.tokens is not None
    assert account.tokens <= 1.5 - 0.9 * spent or spent == 0
    assert found.again_at is not None


def test_a_term_that_is_over_is_sold_again_once() -> None:
    """The one who is outbid stops, the accounts remember that it was sold."""
    held = [runs(ask("a", 4, preemptible=True), since=NOW - 1200.0)]
    waits = [ask("b", 4, weight=4.0)]
    before = Account(team="default", at=NOW - 1.0)
    found = decide(seen(held, waits, accounts=(before,)), Policy(strategy="auction"))
    assert set(found.preempted) == {"a"}
    again = decide(seen(held, waits, now=NOW + 1.0, accounts=found.accounts), Policy(strategy="auction"))
    assert not again.preempted


def test_past_use_makes_a_team_wait_under_fair() -> None:
    """Of two alike the one goes first whose team held less lately."""
    accounts = (Account(team="a", at=NOW, past_use={"gpu": 4.0}), Account(team="b", at=NOW))
    waits = [ask("x", 4, team="a", created_at=0.0), ask("y", 4, team="b")]
    assert set(decide(seen([], waits, accounts=accounts), Policy(strategy="fair")).grants) == {"y"}
    assert set(decide(seen([], waits), Policy(strategy="fair")).grants) == {"x"}


def test_what_time_alone_changes_is_named() -> None:
    """A young job may be preempted after two minutes."""
    held = [runs(ask("batch", 4, preemptible=True), since=NOW - 30.0)]
    assert decide(seen(held, [ask("urgent", 2, priority=1)]), Policy()).again_at == NOW + 90.0
