"""Problems in files and their answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_dla.allocation import adjustment_mapping, allocate, answer_mapping, plan, read_live, read_problem
from airflow_dla.errors import InvalidSpec

REQUESTS = [{"name": "a", "cpu": 50}, {"name": "b", "cpu": 30}]


def answer(problem: object) -> dict[str, Any]:
    """Solve a problem as the command does."""
    cluster, pending, policy = read_problem(problem)
    return answer_mapping(plan(cluster, [], pending, policy, 0.0), pending)


def test_the_case_that_fits():
    """Exactly the keys, and whole numbers without a fraction."""
    found = answer({"capacity": {"cpu": 80}, "requests": REQUESTS})
    assert json.dumps(found) == '{"grants": {"a": {"cpu": 50}, "b": {"cpu": 30}}, "waiting": {}, "prices": {"cpu": 0.0}, "reasons": {}}'


def test_the_case_that_waits():
    """The reason is there twice: whole, and as text."""
    found = answer({"capacity": {"cpu": 60}, "requests": REQUESTS})
    assert found["grants"] == {"a": {"cpu": 50}}
    assert found["waiting"]["b"]["shortfall"] == 20.0
    assert found["reasons"] == {"b": found["waiting"]["b"]["text"]}


@pytest.mark.parametrize(("shedding", "expected"), [("strict", [50, 10]), ("proportional", [37.5, 22.5]), ("water-filling", [30, 30])])
def test_the_policy_is_read(shedding: str, expected: list[float]):
    """Ranges are shed as the file says; who got less has a text."""
    ranges = [{"name": "a", "cpu": "0-50"}, {"name": "b", "cpu": "0-30"}]
    found = answer({"capacity": {"cpu": 60}, "requests": ranges, "policy": {"shedding": shedding}})
    assert [found["grants"][name]["cpu"] for name in "ab"] == expected
    assert list(found["reasons"]) == [name for name, got, want in zip("ab", expected, (50, 30), strict=True) if got < want]


def test_requests_carry_priority_team_and_weight():
    """The later one goes first by its priority; every resource of the capacity has a price."""
    requests = [REQUESTS[0], {"name": "b", "cpu": 30, "priority": "1", "team": "blue", "weight": 2, "memory": "1GiB"}]
    found = answer({"capacity": {"cpu": 60, "memory": "8GiB", "disk": 0}, "requests": requests})
    assert list(found["grants"]) == ["b"]
    assert found["prices"] == {"cpu": 1.0, "memory": 0.0, "disk": 0.0}


def test_the_policy_takes_costs_weights_and_strategy():
    """All four keys."""
    policy = {"strategy": "greedy", "shedding": "water-filling", "costs": {"cpu": 2}, "weights": {"a": 3}}
    assert answer({"capacity": {"cpu": 40}, "requests": REQUESTS, "policy": policy})["grants"] == {"b": {"cpu": 30}}


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ([], "problem must be a mapping"),
        ({"requests": []}, "problem lacks capacity"),
        ({"capacity": {"cpu": 1}, "requests": [], "polizy": {}}, "did you mean 'policy'"),
        ({"capacity": {"ram": 1}, "requests": []}, "unknown key 'ram'"),
        ({"capacity": {"cpu": "1-2"}, "requests": []}, "capacity.cpu must be one amount"),
        ({"capacity": {"cpu": 1}, "requests": {}}, "requests must be a list"),
        ({"capacity": {"cpu": 1}, "requests": [{"cpu": 1}]}, "lacks a name"),
        ({"capacity": {"cpu": 1}, "requests": [{"name": "a"}]}, "asks for nothing"),
        ({"capacity": {"cpu": 1}, "requests": [{"name": "a", "cpu": -1}]}, "requests"),
        ({"capacity": {"cpu": 1}, "requests": [{"name": "a", "cpu": 1, "gpus": 1}]}, "did you mean 'gpu'"),
        ({"capacity": {"cpu": 1}, "requests": [{"name": "a", "cpu": 1}, {"name": "a", "cpu": 1}]}, "names must differ"),
        ({"capacity": {"cpu": 1}, "requests": [{"name": "a", "cpu": 1, "weight": 0}]}, "weight must be > 0"),
        ({"capacity": {"cpu": 1}, "requests": [], "policy": {"ends": {}}}, "unknown key 'ends'"),
        ({"capacity": {"cpu": 1}, "requests": [], "policy": {"quotas": {"a": {"ram": 1}}}}, "policy.quotas"),
        ({"capacity": {"cpu": 1}, "requests": [], "policy": {"min_gain": 2}}, "policy.min_gain must be between 0 and 1"),
        ({"capacity": {"cpu": 1}, "requests": [], "policy": {"term_s": 0}}, "policy.term_s must be > 0"),
        ({"capacity": {"cpu": 1}, "requests": [], "policy": {"strategy": "magic"}}, "policy.strategy must be one of lp, greedy"),
        ({"capacity": {"cpu": 1}, "requests": [], "policy": {"shedding": "none"}}, "policy.shedding must be one of"),
        ({"capacity": {"cpu": 1}, "requests": [], "policy": {"costs": {"ram": 1}}}, "policy.costs: unknown key 'ram'"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_place(problem: object, message: str):
    """Nothing is guessed."""
    with pytest.raises(InvalidSpec, match=message):
        read_problem(problem)


def test_teams_are_read():
    """A team that may not borrow gets its guarantee; its parent is named."""
    teams = {"blue": {"parent": "paint", "guaranteed": {"cpu": 30}}, "paint": {"borrow": {"cpu": 0}}, "red": None}
    requests = [{"name": name, "cpu": 30, "team": "blue"} for name in "ab"]
    found = answer({"capacity": {"cpu": 80}, "requests": requests, "teams": teams, "policy": {"strategy": "fair"}})
    assert found["grants"] == {"a": {"cpu": 30}}
    assert found["waiting"]["b"]["binding"] == "quota"


def test_an_auction_says_what_is_paid():
    """Payments by name, within the budgets of the file."""
    policy = {"strategy": "auction", "budgets": {"default": 5}, "ageing_s": "1h"}
    found = answer({"capacity": {"cpu": 60}, "requests": REQUESTS, "policy": policy})
    assert list(found["payments"]) == list(found["grants"])


def test_a_packing_that_may_not_be_the_best_says_so():
    """Forty large bundles of odd sizes: how far the packing may be from the best is in the answer."""
    requests = [{"name": f"j{index}", "cpu": 30 + 7 * (index % 3), "memory": 20 + 11 * (index % 4)} for index in range(300)]
    found = answer({"capacity": {"cpu": 1003, "memory": 999}, "requests": requests, "policy": {"strategy": "price"}})
    assert "of the best bound" in found["status"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"teams": []}, "teams must be a mapping"),
        ({"teams": {"a": {"lent": {}}}}, "teams.a: unknown key 'lent'"),
        ({"teams": {"a": {"parent": "b"}}}, "is no team"),
        ({"teams": {"a": {"parent": "b"}, "b": {"parent": "a"}}}, "cycle"),
        ({"teams": {"a": {"weight": 0}}}, "teams.a.weight must be > 0"),
        ({"policy": {"strategy": "fairest"}}, "must be one of lp, greedy, fair, price, auction"),
        ({"policy": {"budgets": {"a": -1}}}, "policy.budgets.a must be >= 0"),
        ({"policy": {"ageing_s": 0}}, "policy.ageing_s must be > 0"),
    ],
)
def test_what_breaks_a_rule_of_teams_is_refused(more: dict[str, Any], message: str):
    """With its place."""
    with pytest.raises(InvalidSpec, match=message):
        read_problem({"capacity": {"cpu": 1}, "requests": []} | more)


def test_several_nodes_with_labels_slices_and_a_gang():
    """The answer says where each is."""
    nodes = [
        {"name": "n1", "capacity": {"gpu": 4}, "labels": {"zone": "a"}},
        {"name": "n2", "capacity": {"gpu": 4, "mig-1g.10gb": 2}, "labels": {"zone": "b"}, "mig_ids": {"1g.10gb": ["MIG-a", "MIG-b"]}},
    ]
    requests = [
        {"name": "a", "gpu": 4, "gang": "g", "gang_size": 2},
        {"name": "b", "gpu": 4, "gang": "g", "gang_size": 2},
        {"name": "c", "mig-1g.10gb": 2, "labels": {"zone": "b"}},
        {"name": "d", "mig-1g.10gb": 1, "place": "local", "deadline": 10, "run_s": 20},
    ]
    found = answer({"nodes": nodes, "requests": requests})
    assert found["nodes"]["c"] == "n2"
    assert {found["nodes"]["a"], found["nodes"]["b"]} == {"n1", "n2"}
    assert found["reasons"]["d"].endswith("its deadline cannot be met any more, even if it starts now")


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ({"capacity": {"cpu": 1}, "nodes": [], "requests": []}, "problem has capacity and nodes"),
        ({"nodes": [{"name": "a"}, {"name": "a"}], "requests": []}, r"nodes\[1\]\.name 'a' is taken by nodes\[0\]"),
        ({"nodes": [{"name": "a", "cores": 1}], "requests": []}, r"nodes\[0\]: unknown key 'cores'"),
        ({"nodes": [], "requests": [{"name": "a", "cpu": 1, "gang_size": 0}]}, r"requests\[0\]\.gang_size must be > 0"),
    ],
)
def test_nodes_that_make_no_sense(problem: dict[str, Any], message: str):
    """Each is refused with its place."""
    with pytest.raises(InvalidSpec, match=message):
        read_problem(problem)


def live(problem: dict[str, Any]) -> dict[str, Any]:
    """Solve a problem with live grants as the command does."""
    cluster, pending, policy = read_problem(problem)
    held, now = read_live(problem)
    found = allocate(cluster, held, pending, policy, now)
    return answer_mapping(found.plan, pending) | adjustment_mapping(found.adjustment)


def test_what_is_live_shrinks_or_stops() -> None:
    """A file shows who makes room for whom."""
    running = [{"name": "etl", "cpu": "4-40", "granted": {"cpu": 30}}, {"name": "batch", "cpu": 50, "preemptible": True}]
    problem = {"capacity": {"cpu": 80}, "live": running, "requests": [{"name": "a", "cpu": 60, "priority": 5}]}
    found = live(problem)
    assert found["targets"] == {"etl": {"cpu": 20}}
    assert list(found["preempted"]) == ["batch"]
    assert "room is being made on cluster: batch stops" in found["reasons"]["a"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"cpu": 1}, r"live\[0\] lacks a name"),
        ({"name": "a", "cpu": 1, "until": 3}, "unknown key 'until'"),
        ({"name": "a", "cpu": 1, "granted": {"cpu": "1-2"}}, "must be one amount"),
        ({"name": "b", "cpu": 1}, "'b' is there twice"),
        ({"name": "a", "cpu": 1, "rigid": 3}, r"live\[0\].rigid"),
    ],
)
def test_live_entries_that_break_a_rule_are_refused(entry: dict[str, Any], message: str) -> None:
    """Each with its place."""
    with pytest.raises(InvalidSpec, match=message):
        live({"capacity": {"cpu": 1}, "live": [entry], "requests": [{"name": "b", "cpu": 1}]})
