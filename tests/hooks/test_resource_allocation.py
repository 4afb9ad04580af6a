"""Tests of the resource-allocation hook in anybody's operator."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from airflow_dla.errors import GrantLost, InvalidSpec, JobTimedOut, NeverGrantable
from airflow_dla.hooks import DlaHook, ResourceAllocationHook
from airflow_dla.hooks.resource_allocation import _Renewal
from airflow_dla.ledger import Decision, Snapshot

pytestmark = pytest.mark.usefixtures("embedded")


def test_a_grant_is_held_for_the_block_and_freed_after() -> None:
    """Amounts, node and reason are told."""
    with ResourceAllocationHook().grant(cpu=1, memory="256MiB") as grant:
        assert grant.amounts == {"cpu": 1.0, "memory": 0.25}
        assert len(DlaHook().workspace().ledger.leases()) == 1
    assert DlaHook().workspace().ledger.leases() == ()


def test_an_error_in_the_block_frees_the_grant() -> None:
    """Nothing leaks."""
    with pytest.raises(ZeroDivisionError), ResourceAllocationHook().grant(cpu=1):
        1 / 0  # noqa: B018
    assert DlaHook().workspace().ledger.leases() == ()


def test_two_that_do_not_fit_take_turns() -> None:
    """The second begins when the first has ended, never before."""
    cpus = next(iter(DlaHook(kind="worker").workspace().ledger.nodes())).node.capacity["cpu"]
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with ResourceAllocationHook().grant(cpu=cpus):
            inside += 1
            most = max(most, inside)
            time.sleep(0.1)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1


def test_a_wait_that_is_too_long_ends() -> None:
    """The demand is withdrawn, so that it blocks nobody."""
    cpus = next(iter(DlaHook(kind="worker").workspace().ledger.nodes())).node.capacity["cpu"]
    hook = ResourceAllocationHook()
    with hook.grant(cpu=cpus), pytest.raises(JobTimedOut, match="wait_timeout"), hook.grant(cpu=1, policy={"wait_timeout": "0s"}):
        pass
    assert DlaHook().workspace().ledger.leases() == ()


@pytest.mark.parametrize(("request_", "error"), [({"cpu": 4096}, NeverGrantable), ({"cpu": -1}, InvalidSpec), ({"ram": 1}, InvalidSpec)])
def test_what_can_never_be_is_refused_at_once(request_: dict[str, float], error: type[Exception]) -> None:
    """Nothing is written to the ledger."""
    with pytest.raises(error), ResourceAllocationHook().grant(**request_):
        pass


def test_the_holder_is_interrupted_when_its_grant_is_gone() -> None:
    """A block that lost its grant does not go on computing on somebody else's share."""
    workspace = DlaHook().workspace()
    hasty = replace(workspace, timing=replace(workspace.timing, renew_s=0.05))
    interrupted = []

    def work() -> None:
        try:
            with _Renewal(hasty, "no-such-grant"):
                for _ in range(1000):
                    time.sleep(0.01)
        except GrantLost:
            interrupted.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(8)
    assert interrupted == [True]


@pytest.mark.parametrize("name", ["preemptible", "run_timeout", "gang"])
def test_a_policy_that_needs_a_job_is_refused(name: str) -> None:
    """A block of anybody's code can be neither stopped at a checkpoint nor run elsewhere."""
    with pytest.raises(InvalidSpec, match=f"policy.{name} is for jobs"), ResourceAllocationHook().grant(policy={name: 1}, cpu=1):
        pass


def test_a_policy_names_team_priority_and_patience() -> None:
    """What a grant is asked with is what its demand says; it can never be preempted."""
    policy = {"team": "default", "priority": 3, "wait_timeout": "1m"}
    with ResourceAllocationHook().grant(policy=policy, cpu=1):
        (held,) = DlaHook().workspace().ledger.snapshot().held
    assert (held.demand.team, held.demand.priority, held.demand.preemptible) == ("default", 3, False)


def test_a_round_is_told_that_a_bare_grant_cannot_change() -> None:
    """A target for it is refused with the next renewal, so that nobody waits for what it would free."""
    workspace = DlaHook(kind="worker").workspace()
    hasty = replace(workspace, timing=replace(workspace.timing, renew_s=0.05))

    def less(seen: Snapshot) -> Decision:
        (held,) = seen.held
        return Decision(targets={held.grant.id: replace(held.grant, amounts={"cpu": 0.5})})

    with ResourceAllocationHook().grant(cpu="0.5-1") as grant, _Renewal(hasty, grant.id):
        workspace.ledger.round(less, holder="round", lease_s=60.0, force=True)
        end = time.monotonic() + 5
        while not workspace.ledger.snapshot().held[0].rigid and time.monotonic() < end:
            time.sleep(0.02)
        (held,) = workspace.ledger.snapshot().held
    assert (held.rigid, held.target, held.grant.amounts) == (True, None, grant.amounts)
