"""Gangs: granted whole or not at all, over several nodes, and never starved."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from airflow_dla.allocation import STRATEGIES, Plan, Policy, TeamShare, plan
from airflow_dla.allocation.gangs import started_gangs
from airflow_dla.specs import Demand, Grant, Held, Node, Request

EVERY = pytest.mark.parametrize("strategy", STRATEGIES)


def member(name: str, *, gang: str | None = "g", size: int = 2, more: Any = None, **amounts: Any) -> Demand:
    """Make a member of a gang; names are served in alphabetical order."""
    return Demand(id=name, request=Request.from_mapping(amounts), gang=gang, gang_size=size, **(more or {}))


def nodes(*gpus: int) -> list[Node]:
    """Make nodes with so many GPUs each, with ids."""
    return [
        Node(
            name=f"n{index}",
            capacity={"cpu": 32.0, "gpu": float(count)},
            gpu_ids=tuple(f"{index}-{gpu}" for gpu in range(count)),
            labels={"rack": f"r{index}"},
        )
        for index, count in enumerate(gpus)
    ]


def decide(cluster: list[Node], pending: list[Demand], *, live: list[Grant] | None = None, now: float = 0.0, **policy: Any) -> Plan:
    """Plan one round."""
    return plan(cluster, live or [], pending, Policy(**policy), now)


@EVERY
def test_a_gang_is_spread_over_nodes(strategy: str) -> None:
    """Three members of four GPUs each fill three nodes of four."""
    answer = decide(nodes(4, 4, 4), [member(name, size=3, gpu=4) for name in "abc"], strategy=strategy)
    assert {grant.node for grant in answer.grants.values()} == {"n0", "n1", "n2"}
    assert len({gpu for grant in answer.grants.values() for gpu in grant.gpu_ids}) == 12


@EVERY
def test_a_gang_waits_for_its_members(strategy: str) -> None:
    """Two of three take nothing, and say who is missing."""
    answer = decide(nodes(4), [member("a", size=3, gpu=1), member("b", size=3, gpu=1)], strategy=strategy)
    reason = answer.waiting["a"]
    assert (reason.binding, reason.never) == ("gang", False)
    assert reason.text == "waits as number 1: gang g starts whole, and 2 of its 3 members are here"
    assert reason.unblock == ("start the other 1 of the 3 members of gang g", "lower gang_size to 2")


@EVERY
def test_what_does_not_fit_whole_leaves_all_to_others(strategy: str) -> None:
    """Six of eight GPUs for three members: the five that are free go to the next."""
    live = [Grant(id="old", node="n0", amounts={"gpu": 3.0}, gpu_ids=("0-0", "0-1", "0-2"))]
    asked = [*[member(name, size=3, gpu=2) for name in "abc"], member("z", gang=None, size=1, gpu="1-4")]
    answer = decide(nodes(4, 4), asked, live=live, strategy=strategy)
    assert answer.grants["z"].amounts == {"gpu": 4.0}
    assert set(answer.waiting) == {"a", "b", "c"}


def test_who_is_short_is_said_to_every_member() -> None:
    """The first member fits, the second does not beside it."""
    answer = decide(nodes(4, 4), [member("a", gpu=3), member("b", gpu=3)], live=[_held("n1", 2)])
    assert answer.waiting["a"].text == "waits as number 1: gang g starts whole: its member b needs 3 gpu, n1 has 2 free beside the others"
    assert answer.waiting["b"].text == "waits as number 2: gang g starts whole: its member b needs 3 gpu, n1 has 2 free beside the others"
    assert (answer.waiting["b"].binding, answer.waiting["b"].node, answer.waiting["b"].shortfall) == ("gpu", "n1", 1.0)
    assert answer.waiting["b"].unblock == ("wait until 1 more gpu are free on n1", "add 1 more gpu on n1")


def _held(node: str, gpus: int) -> Grant:
    ids = tuple(f"{node[1:]}-{gpu}" for gpu in range(gpus))
    return Grant(id=f"old-{node}", node=node, amounts={"gpu": float(gpus)}, gpu_ids=ids)


def test_acting_on_the_reason_starts_the_gang() -> None:
    """Once as many GPUs are free as the reason says, on the nodes it names, the gang starts."""
    asked = [member(name, size=3, gpu=4) for name in "abc"]
    answer = decide(nodes(4, 4, 4), asked, live=[_held("n0", 2), _held("n2", 1)])
    assert answer.waiting["a"].unblock[0] == "wait until 1 more gpu are free on n2 and 2 more gpu are free on n0"
    assert len(decide(nodes(4, 4, 4), asked).grants) == 3


def test_a_gang_larger_than_everything_waits_for_ever() -> None:
    """Each member fits a node, all together do not: said at once."""
    answer = decide(nodes(4, 4), [member(name, size=3, gpu=4) for name in "abc"])
    assert all(reason.never for reason in answer.waiting.values())
    assert answer.waiting["a"].text == "can never be granted: gang g asks 12 gpu in all, the nodes it may use have 8 gpu"


def test_a_member_that_can_never_start_holds_all_up() -> None:
    """The others name it."""
    answer = decide(nodes(4, 4), [member("a", gpu=1), member("b", gpu=5)])
    assert answer.waiting["b"].never
    assert answer.waiting["a"].text == "waits as number 1: gang g starts whole, and its member b can never be granted"


def test_a_gang_stands_where_its_best_member_stands() -> None:
    """The other member comes along, before others of a higher priority than its own."""
    asked = [
        member("a", gpu=2, more={"priority": 5}),
        member("b", gpu=2),
        member("c", gang=None, size=1, gpu=2, more={"priority": 3}),
    ]
    assert set(decide(nodes(4), asked).grants) == {"a", "b"}


def test_who_joins_a_gang_that_runs_waits_for_nobody() -> None:
    """A member that lost its node comes back while the others hold their grants."""
    alone = member("a", size=3, gpu=1)
    assert not decide(nodes(4), [alone]).grants
    held = Held(demand=member("b", size=3, gpu=1), grant=Grant(id="b", node="n0", amounts={"gpu": 1.0}))
    assert set(decide(nodes(4), [alone], started=started_gangs([held])).grants) == {"a"}


def test_quotas_count_for_the_whole_gang() -> None:
    """Each member is within the quota, both are not."""
    answer = decide(nodes(8), [member("a", gpu=3), member("b", gpu=3)], quotas={"default": {"gpu": 4.0}})
    assert answer.waiting["a"].binding == "quota"
    assert answer.waiting["a"].text == "waits as number 1: gang g needs 6 gpu, the quota of team default leaves 4"


def test_guarantees_of_others_count_for_the_whole_gang() -> None:
    """What other teams do not lend is not there for half a gang either."""
    teams = (TeamShare(name="default"), TeamShare(name="blue", guaranteed={"gpu": 4.0}, lend={"gpu": 0.0}))
    answer = decide(nodes(8), [member("a", gpu=3), member("b", gpu=3)], teams=teams)
    assert {reason.binding for reason in answer.waiting.values()} <= {"guarantee", "quota"}
    assert "gang g" in answer.waiting["a"].text


def test_one_that_cannot_pay_bars_its_gang() -> None:
    """In an auction a gang buys whole or not at all."""
    asked = [member("a", gpu=2), member("b", gpu=2, more={"team": "poor"}), member("c", gang=None, size=1, gpu=2)]
    answer = decide(nodes(4), asked, strategy="auction", budgets={"poor": 0.0})
    if "b" in answer.waiting and answer.waiting["b"].binding == "budget":
        assert answer.waiting["a"].text.endswith("its member b is more than its team can pay")
    assert not {"a", "b"} & set(answer.grants) or {"a", "b"} <= set(answer.grants)


def test_the_head_of_the_queue_may_be_a_gang() -> None:
    """It is promised all nodes it needs at the first moment all members fit, and later ones may not delay it."""
    live = [_held("n0", 2), _held("n1", 4)]
    ends = {"old-n0": 100.0, "old-n1": 50.0}
    asked = [member("a", gpu=4), member("b", gpu=4), member("c", gang=None, size=1, gpu=2)]
    answer = decide(nodes(4, 4), asked, live=live, ends=ends)
    assert not answer.grants
    assert (answer.waiting["a"].expected_start, answer.waiting["b"].expected_start) == (100.0, 100.0)
    assert answer.waiting["a"].text.endswith("it is promised n0, n1 at about 1970-01-01 00:01Z")
    assert answer.waiting["c"].binding == "queue"
    assert set(decide(nodes(4, 4), asked, live=live, ends=ends, runs={"c": 90.0}).grants) == {"c"}
    assert not decide(nodes(4, 4), asked, live=live, ends={}, drain_after_s=0.0).grants


def test_a_gang_that_would_fit_may_not_delay_the_head() -> None:
    """It says for whom its nodes are kept."""
    asked = [member("a", gang=None, size=1, gpu=4), member("b", gpu=1), member("c", gpu=1)]
    answer = decide(nodes(4), asked, live=[_held("n0", 2)], ends={}, drain_after_s=0.0)
    assert answer.waiting["b"].binding == "queue"
    assert "gang g would fit, but what is free on n0 is kept for the head of the queue" in answer.waiting["b"].text


def test_a_stream_of_small_ones_does_not_starve_a_gang() -> None:
    """With true ends, small jobs that keep coming leave the nodes to the gang when they end."""
    pending = [member("a", gpu=4), member("b", gpu=4)]
    ends: dict[str, float] = {}
    live: list[Grant] = []
    for turn in itertools.count():
        assert turn < 20, "starved"
        now = float(turn)
        live = [grant for grant in live if ends[grant.id] > now]
        small = [member(f"s{turn}-{copy}", gang=None, size=1, gpu=1, more={"created_at": now}) for copy in range(6)]
        runs = {demand.id: 5.0 for demand in small}
        answer = decide(nodes(4, 4), pending + small, live=live, now=now, ends={grant.id: ends[grant.id] for grant in live}, runs=runs)
        if turn == 0:
            # The nodes are busy with small ones before the gang comes.
            answer = decide(nodes(4, 4), small, live=live, now=now)
        if {"a", "b"} <= set(answer.grants):
            break
        ends |= dict.fromkeys(answer.grants, now + 5.0)
        live = live + list(answer.grants.values())
    assert turn <= 6


def test_a_gang_waits_for_devices_in_one_piece() -> None:
    """Shares that are free on two devices are no whole GPU."""
    live = [Grant(id=f"x{gpu}", node="n0", amounts={"gpu": 0.5}, gpu_ids=(f"0-{gpu}",)) for gpu in range(4)]
    answer = decide(nodes(4), [member("a", gpu=1), member("b", gpu=1)], live=live)
    assert answer.waiting["a"].text == (
        "waits as number 1: gang g starts whole: each member needs its share in one piece, as a 1 gpu, what is free is scattered"
    )


def test_gangs_of_one_name_must_agree_on_nothing() -> None:
    """The largest size that a member names counts."""
    asked = [member("a", size=1, gpu=1), member("b", size=3, gpu=1)]
    assert decide(nodes(4), asked).waiting["a"].text.endswith("2 of its 3 members are here")
    assert len(decide(nodes(4), [replace(demand, gang_size=2) for demand in asked]).grants) == 2


def test_placed_one_by_one_what_is_taken_back_is_free() -> None:
    """Where GPUs are placed by what is left of them, a gang that does not fit leaves its devices to the next."""
    asked = [
        *[member(name, size=3, gpu=3) for name in "abc"],
        member("d", gang=None, size=1, gpu=4),
        member("e", gang=None, size=1, gpu=0.5),
    ]
    answer = decide(nodes(4, 4), asked)
    assert set(answer.grants) == {"d", "e"}
    assert len(answer.grants["d"].gpu_ids) == 4
