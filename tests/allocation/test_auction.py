"""Strategy ``auction``: clearing prices, budgets, and the truth as the best bid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from airflow_dla.allocation import Plan, Policy, plan, vcg
from airflow_dla.allocation.market import clear
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Demand, Node, Request

LAW = settings(max_examples=60, deadline=None)
BIDDERS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=7)


def ask(name: str, cpu: Any, **more: Any) -> Demand:
    """Make a demand for CPUs."""
    return Demand(id=name, request=Request.from_mapping({"cpu": cpu}), **more)


def decide(pending: list[Demand], cpu: float = 4.0, **policy: Any) -> Plan:
    """Auction one node."""
    return plan([Node(name="n1", capacity={"cpu": cpu})], [], pending, Policy(strategy="auction", **policy), 0.0)


@pytest.mark.parametrize("seed", range(15))
def test_prices_are_the_duals_of_the_whole_programme(seed: int):
    """The value at the clearing prices is what HiGHS finds for all bids at once, within 1e-9."""
    rng = np.random.default_rng(seed)
    count, resources = int(rng.integers(1, 900)), int(rng.integers(1, 5))
    value, bundle = rng.uniform(0.1, 5.0, count), rng.uniform(0.0, 3.0, (count, resources)) * (rng.random((count, resources)) < 0.7)
    supply = bundle.sum(axis=0) * rng.uniform(0.1, 1.1, resources)
    found = clear(value, bundle, supply)
    best = linprog(-value, A_ub=bundle.T, b_ub=supply, bounds=(0, 1), method="highs-ds")
    assert found.value == pytest.approx(-best.fun, rel=1e-9)
    assert (found.price >= 0).all()


def test_the_highest_value_for_money_wins_and_all_pay_one_price():
    """Four CPUs, bids 4, 2 and 1 for two each: the two best win, at the price of the third."""
    asked = [ask("a", 2, weight=4.0), ask("b", 2, weight=2.0), ask("c", 2, weight=1.0)]
    answer = decide(asked, 4.5)
    assert set(answer.grants) == {"a", "b"}
    assert answer.prices == pytest.approx({"cpu": 0.5})
    assert answer.payments == pytest.approx({"a": 1.0, "b": 1.0})


def test_a_step_of_priority_doubles_a_bid():
    """Priority 2 with weight 1 beats weight 3."""
    assert set(decide([ask("a", 4, weight=3.0), ask("b", 4, priority=2)]).grants) == {"b"}


def test_where_all_fits_nothing_costs_anything():
    """No shortage, no price."""
    answer = decide([ask("a", 2), ask("b", 2)])
    assert (answer.prices, answer.payments) == ({"cpu": 0.0}, {"a": 0.0, "b": 0.0})


def test_who_cannot_pay_waits_and_learns_why():
    """A budget of one token does not buy what costs two."""
    asked = [ask("a", 2, weight=4.0, team="rich"), ask("b", 2, weight=3.0, team="poor"), ask("c", 2, weight=2.0, team="rich")]
    answer = decide(asked, 3.0, budgets={"poor": 1.0})
    assert set(answer.grants) == {"a"}
    assert (answer.waiting["b"].binding, answer.waiting["c"].binding) == ("budget", "cpu")
    assert "budget of team poor" in answer.waiting["b"].text


@LAW
@given(bidders=BIDDERS, supply=st.integers(0, 20))
def test_nobody_pays_more_than_it_is_worth(bidders: Any, supply: int):
    """Individually rational, feasible, and the best for all together."""
    value, wanted = (np.array(column, dtype=float) for column in zip(*bidders, strict=True))
    amounts, payments = vcg(value, wanted, float(supply))
    assert (amounts <= wanted).all()
    assert amounts.sum() <= supply + 1e-9
    assert (payments >= 0).all()
    assert (payments <= value * amounts + 1e-9).all()
    best = linprog(-value, A_ub=np.ones((1, len(value))), b_ub=[supply], bounds=[(0, most) for most in wanted])
    assert float(value @ amounts) == pytest.approx(-best.fun)


@LAW
@given(bidders=BIDDERS, supply=st.integers(0, 20), lie=st.integers(0, 12))
def test_the_truth_is_the_best_bid(bidders: Any, supply: int, lie: int):
    """Truthful: whatever another value a bidder names, it gains nothing."""
    value, wanted = (np.array(column, dtype=float) for column in zip(*bidders, strict=True))
    amounts, payments = vcg(value, wanted, float(supply))
    told = value.copy()
    told[0] = lie
    others_amounts, others_payments = vcg(told, wanted, float(supply))
    assert value[0] * others_amounts[0] - others_payments[0] <= value[0] * amounts[0] - payments[0] + 1e-9


@LAW
@given(bidders=BIDDERS, supply=st.integers(0, 20))
def test_a_payment_is_what_the_others_lose(bidders: Any, supply: int):
    """The closed form equals solving again without each bidder."""
    value, wanted = (np.array(column, dtype=float) for column in zip(*bidders, strict=True))
    amounts, payments = vcg(value, wanted, float(supply))
    for who in range(len(value)):
        rest = np.arange(len(value)) != who
        alone, _ = vcg(value[rest], wanted[rest], float(supply))
        lost = float(value[rest] @ alone) - float(value[rest] @ amounts[rest])
        assert payments[who] == pytest.approx(lost, abs=1e-9)


def test_an_auction_refuses_what_is_no_number():
    """NaN and negative bids."""
    with pytest.raises(InvalidSpec, match="value of an auction"):
        vcg(np.array([np.nan]), np.ones(1), 1.0)
    with pytest.raises(InvalidSpec, match="supply of an auction"):
        vcg(np.ones(1), np.ones(1), -1.0)
    with pytest.raises(InvalidSpec, match=r"policy.budgets.blue must be >= 0"):
        Policy(budgets={"blue": -1.0})
