"""Teams: what contradicts is refused; guarantees, borrowing and lending hold for every strategy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dla.allocation import STRATEGIES, Plan, Policy, TeamShare, decayed, plan
from airflow_dla.allocation.limits import read_teams
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Demand, Node, Request


def ask(name: str, team: str, gpu: Any, **more: Any) -> Demand:
    """Make a demand for GPUs."""
    return Demand(id=name, team=team, request=Request.from_mapping({"gpu": gpu}), **more)


def decide(capacity: float, pending: list[Demand], *teams: TeamShare, **policy: Any) -> Plan:
    """Plan one round on one node."""
    return plan([Node(name="n1", capacity={"gpu": capacity})], [], pending, Policy(teams=teams, **policy), 0.0)


@pytest.mark.parametrize(
    ("teams", "message"),
    [
        ([{"name": "a"}, {"name": "a"}], "is there twice"),
        ([{"name": "a", "parent": "b"}], "the parent 'b' of team 'a' is no team; known are a"),
        ([{"name": "a", "parent": "a"}], "cycle: a -> a"),
        ([{"name": "x", "parent": "a"}, {"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}], "cycle: a -> b -> a"),
        ([{"name": "a", "lend": {"gpu": 1.0}}], "must lend at most what it and its children are guaranteed, 0 gpu, got 1"),
        ([{"name": "a", "guaranteed": {"gpu": 9.0}}], "guaranteed 9 gpu, but its quota is 8"),
        ([{"name": "a", "guaranteed": {"gpu": -1.0}}], "guaranteed.gpu must be a finite number >= 0"),
        ([{"name": "a", "borrow": {"gpu": float("nan")}}], "borrow.gpu must be a finite number >= 0"),
        ([{"name": "a", "weight": 0.0}], "weight must be a finite number > 0"),
    ],
)
def test_what_contradicts_is_refused(teams: list[dict[str, Any]], message: str):
    """Each with the team, the value and the rule."""
    with pytest.raises(InvalidSpec, match=message):
        Policy(teams=tuple(TeamShare(**team) for team in teams), quotas={"a": {"gpu": 8.0}})


def test_a_parent_lends_what_its_children_are_guaranteed():
    """The limit of a parent is held against the guarantees below it."""
    assert Policy(teams=(TeamShare(name="p", lend={"gpu": 2.0}), TeamShare(name="c", parent="p", guaranteed={"gpu": 4.0})))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_borrowing_limit_holds(strategy: str):
    """Guaranteed 2 and allowed to borrow 1: two jobs of one GPU and one more, not four."""
    answer = decide(
        8.0, [ask(f"j{n}", "a", 1) for n in range(4)], TeamShare(name="a", guaranteed={"gpu": 2.0}, borrow={"gpu": 1.0}), strategy=strategy
    )
    assert len(answer.grants) == 3
    (reason,) = answer.waiting.values()
    assert (reason.binding, reason.shortfall) == ("quota", 1.0)
    assert "team a" in reason.text


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_not_lent_stays_free(strategy: str):
    """Of 8 GPUs 4 are another team's, which lends 1: five can be had."""
    answer = decide(
        8.0, [ask(f"j{n}", "b", 1) for n in range(8)], TeamShare(name="a", guaranteed={"gpu": 4.0}, lend={"gpu": 1.0}), strategy=strategy
    )
    assert len(answer.grants) == 5
    assert {reason.binding for reason in answer.waiting.values()} == {"guarantee"}
    assert all("lend" in reason.text and reason.unblock for reason in answer.waiting.values())


def test_a_guarantee_that_is_lent_may_be_borrowed():
    """Without a lending limit all that is idle is lent."""
    assert len(decide(8.0, [ask(f"j{n}", "b", 1) for n in range(8)], TeamShare(name="a", guaranteed={"gpu": 4.0})).grants) == 8


def test_what_teams_hold_counts():
    """A team that holds its guarantee, and may not borrow, gets no more."""
    team = TeamShare(name="a", guaranteed={"gpu": 2.0}, borrow={"gpu": 0.0})
    assert not decide(8.0, [ask("j", "a", 1)], team, used={"a": {"gpu": 2.0}}).grants


def test_the_limits_of_a_parent_hold_for_its_children():
    """Two children borrow together no more than their parent may."""
    teams = [
        TeamShare(name="p", guaranteed={"gpu": 1.0}, borrow={"gpu": 1.0}),
        TeamShare(name="c1", parent="p", guaranteed={"gpu": 1.0}),
        TeamShare(name="c2", parent="p"),
    ]
    answer = decide(8.0, [ask(f"{team}-{n}", team, 1) for n in range(4) for team in ("c1", "c2")], *teams)
    assert len(answer.grants) == 3


def test_growth_keeps_the_limits_of_teams_together():
    """Two teams grow side by side into what a third lends; by weight."""
    teams = [TeamShare(name="a", guaranteed={"gpu": 2.0}, lend={"gpu": 0.0}), TeamShare(name="c", weight=2.0)]
    answer = decide(8.0, [ask("b", "b", "0-8"), ask("c", "c", "0-8")], *teams, shedding="water-filling")
    assert {name: grant.amounts["gpu"] for name, grant in answer.grants.items()} == {"b": 2.0, "c": 4.0}
    assert {reason.binding for reason in answer.shrunk.values()} == {"quota"}


def test_decay_halves_what_lies_a_half_life_back():
    """A team that stopped is forgiven; one that went on is not."""
    assert decayed({"gpu": 8.0}, {}, elapsed_s=7200, half_life_s=3600) == {"gpu": 2.0}
    assert decayed({"gpu": 8.0}, {"gpu": 8.0}, elapsed_s=99, half_life_s=3600) == {"gpu": 8.0}
    with pytest.raises(InvalidSpec, match="half_life_s > 0"):
        decayed({}, {}, elapsed_s=1, half_life_s=0)


def kueue(tree: Any, own: Any) -> list[float]:
    """Compute what is available as Kueue's resource_node.go does, team by team; what others hold too much of takes nothing kept."""

    def available(node: int) -> float:
        usage = float(tree.charged(own)[node, 0])
        if node == 0:
            return float(tree.guaranteed[0, 0]) - usage
        kept, subtree = float(tree.kept[node, 0]), float(tree.guaranteed[node, 0])
        local, above = max(0.0, kept - usage), available(int(tree.parent[node]))
        borrow = float(tree.limit[node, 0]) - subtree
        if np.isfinite(borrow):
            above = min(subtree - kept - max(0.0, usage - kept) + borrow, above)
        return local + max(0.0, above)

    return [max(0.0, available(int(node))) for node in tree.of]


@st.composite
def trees(draw: Any) -> tuple[tuple[TeamShare, ...], dict[str, dict[str, float]]]:
    """Make a random tree and what its teams hold."""
    teams = []
    for index in range(draw(st.integers(1, 6))):
        guaranteed = float(draw(st.integers(0, 5)))
        limits: dict[str, Any] = {"guaranteed": {"gpu": guaranteed}}
        if draw(st.booleans()):
            limits["borrow"] = {"gpu": float(draw(st.integers(0, 4)))}
        if draw(st.booleans()):
            limits["lend"] = {"gpu": float(draw(st.integers(0, int(guaranteed))))}
        parent = draw(st.sampled_from([None, *[team.name for team in teams]]))
        teams.append(TeamShare(name=f"t{index}", parent=parent, weight=draw(st.sampled_from([1.0, 2.0])), **limits))
    return tuple(teams), {team.name: {"gpu": float(draw(st.integers(0, 6)))} for team in teams}


@settings(max_examples=60, deadline=None)
@given(made=trees())
def test_available_is_what_kueue_says(made: Any):
    """The same recursion, written the other way round."""
    teams, used = made
    tree = read_teams(teams, [team.name for team in teams], ["gpu"], np.array([20.0]), used)
    assert tree.available(tree.used)[:, 0].tolist() == pytest.approx(kueue(tree, tree.used))


@settings(max_examples=40, deadline=None)
@given(made=trees(), sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=12))
def test_serving_in_runs_is_serving_one_by_one(made: Any, sizes: Any):
    """Whole columns decide as a loop over demands would."""
    teams, used = made
    tree = read_teams(teams, [team.name for team in teams], ["gpu"], np.array([20.0]), used)
    team = np.array([index % len(teams) for index, _ in sizes], dtype=np.intp)
    size = np.array([[float(amount)] for _, amount in sizes]).reshape(len(sizes), 1)
    own, expected = tree.used.copy(), []
    for place in range(len(sizes)):
        if (size[place] <= tree.available(own)[team[place]] + 1e-6).all():
            own = own + tree.held(team[[place]], size[[place]]) - tree.used
            expected.append(place)
    assert tree.passing(tree.used, team, size).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(made=trees(), wants=st.lists(st.integers(0, 9), min_size=6, max_size=6))
def test_growth_fits_and_leaves_nothing_that_could_be_had(made: Any, wants: Any):
    """What is shared out keeps every limit; who lacks something could get no more alone."""
    teams, used = made
    tree = read_teams(teams, [team.name for team in teams], ["gpu"], np.array([20.0]), used)
    wanted = np.array(wants[: len(teams)], dtype=float)[:, None]
    given_ = tree.growth(tree.used, wanted)
    own = tree.held(np.arange(len(teams)), given_)
    over = tree.charged(own) - np.maximum(tree.limit, tree.charged(tree.used))
    assert (over <= 1e-6).all()
    lacking = given_ < wanted - 1e-6
    assert (tree.available(own)[lacking] <= 1e-6).all()
