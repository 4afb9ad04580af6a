"""When time alone changes the answer."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.allocation import Policy, TeamShare
from airflow_dla.allocation.timing import next_change
from airflow_dla.specs import Demand, Grant, Held, Request


def ask(name: str = "a", **more: Any) -> Demand:
    """Make a demand that was created at 1000."""
    return Demand(id=name, request=Request.from_mapping({"cpu": 1}), created_at=more.pop("created_at", 1000.0), **more)


def runs(**more: Any) -> Held:
    """Make a live grant."""
    return Held(demand=ask("h", **more), grant=Grant(id="h", node="n1", amounts={"cpu": 1.0}), since=0.0)


TEAM = (TeamShare(name="default", guaranteed={"cpu": 1.0}, reclaim_after_s=300.0),)


@pytest.mark.parametrize(
    ("held", "waiting", "policy", "expected"),
    [
        ([], [], {}, None),
        ([runs()], [], {"ageing_s": 60.0}, None),
        ([], [ask()], {}, None),
        ([], [ask()], {"teams": TEAM}, 1300.0),
        ([], [ask(deadline=1000.0 + 3600.0)], {}, 2800.0),
        ([], [ask(), ask("b", created_at=1030.0)], {"ageing_s": 600.0}, 1600.0),
        ([], [ask(), ask("b", created_at=901.0)], {"ageing_s": 200.0}, 1120.0),
        ([], [ask(), ask("b")], {"ageing_s": 600.0}, None),
        ([runs(preemptible=True)], [], {"strategy": "auction"}, 1200.0),
        ([runs()], [], {"strategy": "auction"}, None),
    ],
)
def test_the_earliest_change_counts(held: list[Held], waiting: list[Demand], policy: dict[str, Any], expected: float | None) -> None:
    """Reclaim, deadline, ageing where somebody else waits, and terms; nothing else."""
    assert next_change(held, waiting, Policy(**policy), 1100.0) == expected
