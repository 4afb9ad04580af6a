"""Tests of the desk where the triggers of one event loop ask together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from airflow_dla.control import Workspace, ask
from airflow_dla.ledger import Decision, Lease
from airflow_dla.specs import Demand, Request
from airflow_dla.triggers.desk import GONE, desk_of


def demand(name: str, cpu: float | str) -> Demand:
    """Return a demand that belongs to no job."""
    return Demand(id=name, request=Request.from_mapping({"cpu": cpu}))


def test_all_who_wait_are_asked_for_in_one_go(workspace: Workspace) -> None:
    """One is granted, one is told why not, one is gone; there is one desk for them."""
    ask(workspace, [demand("fits", 3), demand("waits", 2)])

    async def wait() -> list[Any]:
        desk = desk_of(workspace)
        assert desk_of(workspace) is desk
        with desk.waiting("fits") as one, desk.waiting("waits") as other, desk.waiting("nobody") as third:
            return [(await answers.get())[0] for answers in (one, other, third)]

    granted, told, gone = asyncio.run(wait())
    assert isinstance(granted, Lease)
    assert "waits as number 1" in told.text
    assert gone == GONE


def test_each_loop_has_a_desk_of_its_own(workspace: Workspace) -> None:
    """A closed loop's desk serves nobody."""

    async def mine() -> Any:
        return desk_of(workspace)

    assert asyncio.run(mine()) is not asyncio.run(mine())


def test_a_held_grant_says_that_it_cannot_change(workspace: Workspace) -> None:
    """Its lease is renewed, and a round that wants it smaller waits in vain no more."""
    answer = ask(workspace, [demand("held", "1-4")])["held"]
    assert isinstance(answer, Lease)
    target = replace(answer.grant, amounts={"cpu": 1.0})
    workspace.ledger.round(lambda _: Decision(targets={"held": target}), holder="h", lease_s=60.0, force=True)

    async def hold() -> None:
        with desk_of(workspace).holding("held"):
            while workspace.ledger.leases()[0].target is not None:  # noqa: ASYNC110 - the ledger sets no event
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(hold(), 10))
    (lease,) = workspace.ledger.leases()
    assert lease.grant.amounts["cpu"] == 4.0
    assert lease.holder == workspace.follower
    assert workspace.ledger.snapshot().held[0].rigid
