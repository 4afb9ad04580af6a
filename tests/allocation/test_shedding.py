"""The closed forms, held against linear programmes and against their own optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from airflow_dla.allocation.lp import solve_box
from airflow_dla.allocation.shedding import RULES, proportional, strict, water_filling
from airflow_dla.allocation.table import Floats, Ints

SPANS = st.lists(st.tuples(st.integers(0, 50), st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]), st.integers(0, 2)), min_size=1, max_size=12)
ROOMS = st.tuples(*[st.integers(0, 120)] * 3)
Rows = list[tuple[int, float, int]]
Rooms = tuple[int, int, int]
QUICK = settings(max_examples=60, deadline=None)


def instance(rows: Rows, rooms: Rooms) -> tuple[Floats, Floats, Ints, Floats]:
    """Turn drawn rows into the arrays that a rule takes."""
    span, weight, group = (np.array(column) for column in zip(*rows, strict=True))
    return span.astype(float), weight.astype(float), group.astype(np.intp), np.array(rooms, dtype=float)


@pytest.mark.parametrize("name", RULES)
@QUICK
@given(rows=SPANS, rooms=ROOMS)
def test_all_room_is_used_or_all_wants_are_met(name: str, rows: Rows, rooms: Rooms):
    """On every node: 0 <= given <= wanted, and the sum is the lesser of wants and room; a price only in a shortage."""
    span, weight, group, room = instance(rows, rooms)
    given_, price = RULES[name](span, weight, group, room)
    assert (given_ >= 0).all()
    assert (given_ <= span).all()
    wants = np.bincount(group, weights=span, minlength=3)
    assert np.bincount(group, weights=given_, minlength=3) == pytest.approx(np.minimum(wants, room), rel=1e-9, abs=1e-9)
    assert ((price > 0) == (wants > room)).all()


@QUICK
@given(rows=SPANS, rooms=ROOMS)
def test_strict_prices_are_the_duals(rows: Rows, rooms: Rooms):
    """In the order of weights, strict shedding and its price solve ``max sum(w x)``."""
    span, weight, _, room = instance(sorted(rows, key=lambda row: -row[1]), rooms)
    if span.sum() <= room[0]:
        return
    given_, price = strict(span, weight, np.zeros(len(span), dtype=np.intp), room[:1])
    best = linprog(-weight, A_ub=np.ones((1, len(span))), b_ub=room[:1], bounds=[(0, most) for most in span])
    assert weight @ given_ == pytest.approx(-best.fun, rel=1e-9, abs=1e-9)
    short = (given_ > 0) & (given_ < span)
    if short.any():
        assert price[0] == pytest.approx(-best.ineqlin.marginals[0])


@QUICK
@given(rows=SPANS, rooms=ROOMS)
def test_water_filling_solves_max_min(rows: Rows, rooms: Rooms):
    """The level is the optimum of ``max theta : x >= min(theta w, s)``, and its price the dual."""
    span, weight, _, room = instance([row for row in rows if row[0]] or [(1, 1.0, 0)], rooms)
    if span.sum() <= room[0] or not room[0]:
        return
    given_, price = water_filling(span, weight, np.zeros(len(span), dtype=np.intp), room[:1])
    level = (given_ / weight).max()
    capped = span <= level * weight * (1 + 1e-12)
    rows_ = np.vstack([np.r_[np.ones(len(span)), 0.0], *[np.r_[-np.eye(len(span))[i], weight[i]] for i in np.flatnonzero(~capped)]])
    bounds = [(most if cap else 0, most) for most, cap in zip(span, capped, strict=True)] + [(0, None)]
    best = linprog(np.r_[np.zeros(len(span)), -1.0], A_ub=rows_, b_ub=np.r_[room[0], np.zeros((~capped).sum())], bounds=bounds)
    assert level == pytest.approx(-best.fun, rel=1e-9)
    if not np.isclose(span, level * weight).any():  # where a demand is just satisfied, the dual is not unique
        assert price[0] == pytest.approx(-best.ineqlin.marginals[0])


@QUICK
@given(rows=SPANS, rooms=ROOMS)
def test_proportional_is_the_quadratic_optimum(rows: Rows, rooms: Rooms):
    """Stationarity: w (s - x) / s is the price for all who get something, and at most it for the others."""
    span, weight, _, room = instance(rows, rooms)
    given_, price = proportional(span, weight, np.zeros(len(span), dtype=np.intp), room[:1])
    some = span > 0
    marginal = weight[some] * (span - given_)[some] / span[some]
    assert (marginal <= price[0] * (1 + 1e-9) + 1e-12).all()
    assert marginal[given_[some] > 0] == pytest.approx(price[0], rel=1e-9, abs=1e-9)


def test_nodes_do_not_mix():
    """The same rows on two nodes, solved together and apart."""
    rng = np.random.default_rng(1)
    span, weight, group = rng.uniform(0, 9, 40), rng.choice([1.0, 2.0], 40), rng.integers(0, 2, 40)
    room = np.array([20.0, 90.0])
    for rule in RULES.values():
        together, prices = rule(span, weight, group, room)
        for node in (0, 1):
            own = group == node
            apart, price = rule(span[own], weight[own], np.zeros(own.sum(), dtype=np.intp), room[node : node + 1])
            assert together[own] == pytest.approx(apart)
            assert prices[node] == pytest.approx(price[0])


def test_a_node_without_demands_has_no_price():
    """Groups may be empty, and so may everything."""
    for rule in RULES.values():
        given_, price = rule(np.array([2.0]), np.ones(1), np.array([1]), np.array([5.0, 1.0, 0.0]))
        assert given_.tolist() == [1.0]
        assert price[[0, 2]].tolist() == [0.0, 0.0]
        empty, nothing = rule(np.empty(0), np.empty(0), np.empty(0, dtype=np.intp), np.array([5.0]))
        assert (len(empty), nothing.tolist()) == (0, [0.0])


def test_the_box_programme_agrees_on_several_resources():
    """HiGHS on the whole box problem is R times the closed form."""
    rng = np.random.default_rng(2)
    low, weight = rng.uniform(0, 2, (30, 3)), np.sort(rng.uniform(1, 2, 30))[::-1]
    high = low + rng.uniform(0, 5, (30, 3))
    limit = low.sum(axis=0) + 0.4 * (high - low).sum(axis=0)
    best = solve_box(np.array([1.0, 2.0, 0.0]), weight, low, high, limit)
    for resource in range(3):
        room = limit[resource : resource + 1] - low[:, resource].sum()
        given_, price = strict(high[:, resource] - low[:, resource], weight, np.zeros(30, dtype=np.intp), room)
        assert low[:, resource] + given_ == pytest.approx(best.x.reshape(30, 3)[:, resource], rel=1e-9)
        assert price[0] == pytest.approx(best.price[resource], rel=1e-9)
