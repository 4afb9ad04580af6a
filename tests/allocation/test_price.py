"""Strategy ``price``: whole bundles packed as well as a solver of whole numbers would."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from airflow_dla.allocation import Policy, plan
from airflow_dla.allocation.market import clear
from airflow_dla.allocation.packing import Room, pack
from airflow_dla.specs import Demand, Node, Request


def test_prices_see_what_sizes_do_not():
    """Memory is scarce and CPUs are not: many jobs with little memory are worth more than few with much."""
    asked = [Demand(id=f"a{n}", request=Request.from_mapping({"cpu": 1, "memory": "8GiB"})) for n in range(4)]
    asked += [Demand(id=f"b{n}", request=Request.from_mapping({"cpu": 4, "memory": "1GiB"}), created_at=9.0) for n in range(4)]
    answer = plan([Node(name="n1", capacity={"cpu": 20.0, "memory": 8.0})], [], asked, Policy(strategy="price"), 0.0)
    assert set(answer.grants) == {f"b{n}" for n in range(4)}


def test_a_packing_that_order_alone_does_not_find():
    """Two nodes of 10 for 6, 5, 5 and 4: only 6 with 4 and 5 with 5 serves all."""
    asked = [Demand(id=f"j{cpu}{n}", request=Request.from_mapping({"cpu": cpu})) for n, cpu in enumerate((5, 6, 4, 5))]
    nodes = [Node(name=name, capacity={"cpu": 10.0}) for name in ("n1", "n2")]
    answer = plan(nodes, [], asked, Policy(strategy="price"), 0.0)
    assert (len(answer.grants), answer.status) == (4, "optimal")


@pytest.mark.parametrize("seed", range(3))
def test_a_packing_fits_and_is_near_the_best(seed: int):
    """Within 5 % of what HiGHS finds, and never more on a node than it has."""
    rng = np.random.default_rng(seed)
    count, nodes, resources = 24, 2, 3
    size, free = rng.uniform(0.02, 0.3, (count, resources)), np.ones((nodes, resources))
    value = rng.choice([1.0, 2.0, 4.0], count)
    price = clear(value, size, free.sum(axis=0)).price
    order = np.argsort(-value / (size @ price), kind="stable")
    where = pack(Room(size, free, np.ones((count, nodes), dtype=bool), np.arange(nodes)), value, order, price)
    for node in range(nodes):
        assert (size[where == node].sum(axis=0) <= free[node] + 1e-9).all()
    once = np.kron(np.eye(count), np.ones(nodes))
    hold = np.vstack([np.kron(size[:, r], np.eye(nodes)[n]) for n in range(nodes) for r in range(resources)])
    best = milp(
        -np.repeat(value, nodes), integrality=np.ones(count * nodes), bounds=Bounds(0, 1),
        constraints=[LinearConstraint(once, ub=1.0), LinearConstraint(hold, ub=1.0)], options={"mip_rel_gap": 0.01, "time_limit": 5},
    )  # fmt: skip
    assert value[where >= 0].sum() >= -best.fun * 0.95
