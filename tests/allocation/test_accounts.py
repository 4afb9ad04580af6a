"""What teams have used and may still spend."""

from __future__ import annotations

import pytest

from airflow_dla.allocation.accounts import carried, ceilings, changed, exhausted, paid
from airflow_dla.specs import Account, Demand, Grant, Held, Request, TeamSpec

HOUR = 3600.0


def holds(team: str, gpu: float, since: float) -> Held:
    """Make a live grant of GPUs."""
    demand = Demand(id=f"{team}-{since:g}", team=team, request=Request.from_mapping({"gpu": gpu}))
    return Held(demand=demand, grant=Grant(id=demand.id, node="n1", amounts={"gpu": gpu}), since=since)


def carry(teams: list[TeamSpec], accounts: list[Account], held: list[Held], now: float) -> dict[str, Account]:
    """Bring accounts up to date, with a half-life of an hour and terms of 20 minutes."""
    return carried(teams, accounts, held, now, half_life_s=HOUR, term_s=1200.0)


def test_gpu_hours_count_from_the_grant_and_from_the_last_round() -> None:
    """Two GPUs for an hour, then for another: four."""
    team, held = TeamSpec(name="a", gpu_hours=10.0), [holds("a", 2.0, 100.0)]
    first = carry([team], [], held, 100.0 + HOUR)["a"]
    assert first.gpu_hours == pytest.approx(2.0)
    second = carry([team], [first], held, 100.0 + 2 * HOUR)["a"]
    assert second.gpu_hours == pytest.approx(4.0)


def test_past_use_tends_to_what_is_held_and_is_forgotten() -> None:
    """Half of it after one half-life; half of that when nothing is held for another."""
    first = carry([], [Account(team="a", at=0.0)], [holds("a", 4.0, 0.0)], HOUR)["a"]
    assert first.past_use == pytest.approx({"gpu": 2.0})
    assert carry([], [first], [], 2 * HOUR)["a"].past_use == pytest.approx({"gpu": 1.0})


def test_what_was_granted_in_between_counts_in_part() -> None:
    """Held for half of the time since the last round."""
    found = carry([], [Account(team="a", at=0.0)], [holds("a", 4.0, HOUR / 2)], HOUR)["a"]
    assert found.past_use == pytest.approx({"gpu": 1.0})
    assert found.gpu_hours == pytest.approx(2.0)


def test_a_new_period_begins_with_nothing_spent() -> None:
    """Periods follow each other without gaps, however late a round comes."""
    team = TeamSpec(name="a", gpu_hours=1.0, period_s=10 * HOUR)
    found = carry([team], [Account(team="a", at=25 * HOUR, gpu_hours=5.0, period_at=0.0)], [], 25 * HOUR)["a"]
    assert (found.gpu_hours, found.period_at) == (0.0, 20 * HOUR)


def test_tokens_are_refilled_once_in_a_term() -> None:
    """To what the team has, not on top of it; before the first refill as well."""
    team = TeamSpec(name="a", tokens=8.0)
    first = carry([team], [], [], 1000.0)
    assert first["a"].tokens == 8.0
    spent = paid(first, [("a", 3.0), ("a", 1.0)])
    assert spent["a"].tokens == 4.0
    assert carry([team], list(spent.values()), [], 2000.0)["a"].tokens == 4.0
    assert carry([team], list(spent.values()), [], 2200.0)["a"].tokens == 8.0
    assert paid(first, [("a", 9.0)])["a"].tokens == 0.0


def test_a_budget_is_for_a_team_and_all_below_it() -> None:
    """The child is out of GPU-hours because its parent is."""
    teams = [TeamSpec(name="p", gpu_hours=5.0), TeamSpec(name="c", parent="p"), TeamSpec(name="other")]
    accounts = {"p": Account(team="p", gpu_hours=2.0), "c": Account(team="c", gpu_hours=3.0)}
    assert {name: team.name for name, team in exhausted(teams, accounts).items()} == {"p": "p", "c": "p"}


def test_the_lowest_ceiling_on_the_way_up_counts() -> None:
    """A child may have no more than its parent."""
    teams = [TeamSpec(name="p", max_priority=3), TeamSpec(name="c", parent="p", max_priority=5), TeamSpec(name="free")]
    assert ceilings(teams) == {"p": 3, "c": 3}


def test_only_accounts_that_changed_are_written() -> None:
    """A round a moment later writes nothing, unless tokens were spent or it must."""
    before = [Account(team="a", at=100.0, tokens=4.0)]
    same = {"a": Account(team="a", at=100.5, tokens=4.0)}
    assert not changed(same, before)
    assert changed(same, before, {"a"})
    assert changed({"a": Account(team="a", at=100.5, tokens=3.0)}, before)
    assert changed({"a": Account(team="a", at=101.0, tokens=4.0)}, before)
