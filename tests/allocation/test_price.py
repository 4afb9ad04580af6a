"""Strategy ``price``: whole bundles packed as well as a solver of whole numbers would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from airflow_dla.allocation import Policy, plan
from airflow_dla.allocation.market import clear
from airflow_dla.allocation.packing import Room, pack
from airflow_dla.allocation.price import choose
from airflow_dla.allocation.table import Floats, Ints
from airflow_dla.specs import Demand, Node, Request


def test_prices_see_what_sizes_do_not() -> None:
    """Memory is scarce and CPUs are not: many jobs with little memory are worth more than few with much."""
    asked = [Demand(id=f"a{n}", request=Request.from_mapping({"cpu": 1, "memory": "8GiB"})) for n in range(4)]
    asked += [Demand(id=f"b{n}", request=Request.from_mapping({"cpu": 4, "memory": "1GiB"}), created_at=9.0) for n in range(4)]
    answer = plan([Node(name="n1", capacity={"cpu": 20.0, "memory": 8.0})], [], asked, Policy(strategy="price"), 0.0)
    assert set(answer.grants) == {f"b{n}" for n in range(4)}


def test_a_packing_that_order_alone_does_not_find() -> None:
    """Two nodes of 10 for 6, 5, 5 and 4: only 6 with 4 and 5 with 5 serves all."""
    asked = [Demand(id=f"j{cpu}{n}", request=Request.from_mapping({"cpu": cpu})) for n, cpu in enumerate((5, 6, 4, 5))]
    nodes = [Node(name=name, capacity={"cpu": 10.0}) for name in ("n1", "n2")]
    answer = plan(nodes, [], asked, Policy(strategy="price"), 0.0)
    assert (len(answer.grants), answer.status) == (4, "optimal")


def draw(count: int, nodes: int, seed: int) -> tuple[Room, Floats]:
    """Draw bundles of three resources, about a third more than fit."""
    rng = np.random.default_rng(seed)
    value, size = rng.choice([1.0, 2.0, 4.0], count), rng.uniform(0.05, 1.0, (count, 3))
    free = np.full((nodes, 3), 0.7 * size.sum(axis=0).mean() / nodes)
    return Room(size, free, np.ones((count, nodes), dtype=bool), np.arange(nodes)), value


def by_strategy(room: Room, value: Floats) -> tuple[Ints, float]:
    """Pack as the strategy does."""
    market = clear(value, room.size, room.free.sum(axis=0))
    return choose(room, value, np.argsort(-value / (room.size @ market.price + 1e-9), kind="stable"), market)


@pytest.mark.parametrize(("count", "nodes"), [(24, 2), (24, 6)])
@pytest.mark.parametrize("seed", range(3))
def test_a_packing_fits_and_is_near_the_best(count: int, nodes: int, seed: int) -> None:
    """Within 1 % of what HiGHS finds, whether nodes hold many bundles or few, and never more on a node than it has."""
    room, value = draw(count, nodes, seed)
    where, bound = by_strategy(room, value)
    for node in range(nodes):
        assert (room.size[where == node].sum(axis=0) <= room.free[node] + 1e-9).all()
    once = np.kron(np.eye(count), np.ones(nodes))
    hold = np.vstack([np.kron(room.size[:, r], np.eye(nodes)[n]) for n in range(nodes) for r in range(3)])
    best: Any = milp(
        -np.repeat(value, nodes), integrality=np.ones(count * nodes, dtype=np.intp), bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, ub=1.0), LinearConstraint(hold, ub=room.free.ravel())],
        options={"mip_rel_gap": 0.001, "time_limit": 2},
    )  # fmt: skip
    assert -best.fun * 0.99 <= value[where >= 0].sum() <= bound * (1 + 1e-9)


def test_whole_sets_find_what_one_by_one_does_not() -> None:
    """Where nodes hold three bundles each, choosing their sets is worth several per cent."""
    room, value = draw(60, 12, 0)
    market = clear(value, room.size, room.free.sum(axis=0))
    order = np.argsort(-value / (room.size @ market.price), kind="stable")
    searched, (where, _) = pack(room, value, order, market.price), by_strategy(room, value)
    assert value[where >= 0].sum() > 1.01 * value[searched >= 0].sum()


def test_the_unit_of_value_chooses_nothing() -> None:
    """The same packing whatever a bundle's value is counted in."""
    room, value = draw(40, 8, 1)
    assert by_strategy(room, value)[0].tolist() == by_strategy(room, value * 3.7)[0].tolist()
