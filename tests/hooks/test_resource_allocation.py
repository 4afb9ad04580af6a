"""Tests of the resource-allocation hook in anybody's operator."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from airflow_dla.errors import GrantLost, InvalidSpec, JobTimedOut, NeverGrantable
from airflow_dla.hooks import DlaHook, ResourceAllocationHook
from airflow_dla.hooks.resource_allocation import _Renewal

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
