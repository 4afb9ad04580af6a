"""Tests of the allocation round as the loops call it."""

from __future__ import annotations

import pytest
from fixtures_workspace import NODE, job_spec

from airflow_dla.control import Workspace, decide, refuse_never_grantable, run_round
from airflow_dla.errors import NeverGrantable
from airflow_dla.ledger import Snapshot
from airflow_dla.specs import Demand, Node, Request


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
    policy = run_policy()
    assert decide(snapshot, policy) == decide(snapshot, policy)
    assert decide(snapshot, policy).grants["x"].amounts == {"cpu": 2.0}


def run_policy():
    """Return the default policy."""
    from airflow_dla.allocation import Policy  # noqa: PLC0415

    return Policy()


def test_what_no_node_can_give_is_refused_at_once(workspace: Workspace) -> None:
    """A demand larger than every node names the largest and is never queued."""
    with pytest.raises(NeverGrantable, match="cpu") as caught:
        refuse_never_grantable(workspace, Demand(id="x", request=Request.from_mapping({"cpu": 64})))
    assert NODE in str(caught.value)
