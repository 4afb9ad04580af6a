"""Lists placed in one pass: laws that hold for every placement policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dla.allocation.fragmentation import PLACEMENTS, Kinds
from airflow_dla.allocation.one_pass import Nodes, OnePass, inflated, one_pass, placement_policy
from airflow_dla.errors import InvalidSpec

LAW = settings(max_examples=25, deadline=None)

Pod = tuple[int, int, int, int, int]


@st.composite
def lists(draw: Any) -> tuple[Nodes, Kinds, np.ndarray]:
    """Make a few nodes of two types and a list of pods: CPUs, memory, GPUs, share and a type."""
    count = draw(st.integers(1, 4))
    nodes = Nodes(
        room=np.array([[draw(st.integers(0, 16)), draw(st.integers(0, 64))] for _ in range(count)], dtype=float),
        gpus=np.array([draw(st.integers(0, 4)) for _ in range(count)], dtype=np.intp),
        types=np.array([draw(st.integers(0, 1)) for _ in range(count)], dtype=np.intp),
    )
    pods: list[Pod] = draw(st.lists(_pods(), min_size=1, max_size=5, unique=True))
    arrivals = np.array(draw(st.lists(st.integers(0, len(pods) - 1), max_size=30)), dtype=np.intp)
    return nodes, _kinds(pods, arrivals), arrivals


def _pods() -> st.SearchStrategy[Pod]:
    share = st.tuples(st.just(1), st.sampled_from([50, 190, 330, 470, 500, 810, 1000]))
    several = st.tuples(st.integers(2, 4), st.sampled_from([400, 1000]))
    gpus = st.one_of(st.just((0, 0)), share, several)
    return st.tuples(st.integers(0, 6), st.integers(0, 24), gpus, st.integers(1, 3)).map(lambda pod: (pod[0], pod[1], *pod[2], pod[3]))


def _kinds(pods: list[Pod], arrivals: np.ndarray) -> Kinds:
    return Kinds(
        need=np.array([pod[:2] for pod in pods], dtype=float),
        gpus=np.array([pod[2] for pod in pods], dtype=np.intp),
        share=np.array([pod[3] for pod in pods], dtype=np.intp),
        allowed=np.array([[bool(pod[4] & 1), bool(pod[4] & 2)] for pod in pods], dtype=bool),
        weight=np.bincount(arrivals, minlength=len(pods)).astype(float),
    )


def run(nodes: Nodes, kinds: Kinds, arrivals: np.ndarray, name: str) -> OnePass:
    """Place a list by a policy."""
    return one_pass(nodes, kinds, arrivals, placement_policy(name, nodes, kinds, np.random.default_rng(1)))


@pytest.mark.parametrize("name", PLACEMENTS)
@LAW
@given(problem=lists())
def test_what_fits_is_placed_within_capacity(name: str, problem: tuple[Nodes, Kinds, np.ndarray]):
    """Replayed step by step: never over capacity, whole GPUs exclusive, types kept; dropped only what fits nowhere."""
    nodes, kinds, arrivals = problem
    found = run(nodes, kinds, arrivals, name)
    room, devices = nodes.room.copy(), nodes.devices()
    for kind, node, seats in zip(arrivals.tolist(), found.node.tolist(), found.devices, strict=True):
        reached = (devices >= kinds.share[kind]).sum(axis=1) >= kinds.gpus[kind] if kinds.gpus[kind] else True
        fits = (room >= kinds.need[kind]).all(axis=1) & kinds.allowed[kind, nodes.types] & reached
        if node < 0:
            assert not fits.any()
            continue
        assert fits[node]
        assert len(set(seats)) == len(seats) == kinds.gpus[kind]
        room[node] -= kinds.need[kind]
        devices[node, list(seats)] -= kinds.share[kind]
        assert devices.min(initial=0) >= 0
    left = nodes.gpus.sum() * 1000 - devices.sum()
    assert found.gpu_allocation_pct == pytest.approx(100 * left / max(1, nodes.gpus.sum() * 1000))
    assert -1e-9 <= found.fragmentation_pct <= 100 - found.gpu_allocation_pct + 1e-9


@pytest.mark.parametrize("name", PLACEMENTS)
@LAW
@given(problem=lists())
def test_the_same_seed_gives_the_same_pass(name: str, problem: tuple[Nodes, Kinds, np.ndarray]):
    """Nothing but the arguments decides."""
    first, second = run(*problem, name), run(*problem, name)
    assert first.node.tolist() == second.node.tolist()
    assert first.devices == second.devices


@pytest.mark.parametrize("name", ["priced", "fgd", "best-fit"])
@LAW
@given(problem=lists(), turn=st.permutations(range(3)))
def test_equal_nodes_are_interchangeable(name: str, problem: tuple[Nodes, Kinds, np.ndarray], turn: list[int]):
    """With three copies of every node, exchanging the copies changes nothing but their names."""
    nodes, kinds, arrivals = problem
    count = len(nodes.gpus)
    copies = np.tile(np.arange(count), 3)
    tripled = Nodes(nodes.room[copies], nodes.gpus[copies], nodes.types[copies])
    permuted = np.concatenate([np.arange(count) + part * count for part in turn])
    exchanged = Nodes(tripled.room[permuted], tripled.gpus[permuted], tripled.types[permuted])
    first, second = run(tripled, kinds, arrivals, name), run(exchanged, kinds, arrivals, name)
    assert first.node.tolist() == second.node.tolist()
    assert first.gpu_allocation_pct == second.gpu_allocation_pct


def _one_kind(share: int) -> Kinds:
    return Kinds(np.zeros((1, 0)), np.array([1]), np.array([share]), np.ones((1, 1), dtype=bool), np.array([1.0]))


def test_a_list_is_inflated_to_what_there_is():
    """Ten GPUs at 1.3 are thirteen requests: every one of the list first, then drawn ones."""
    order = inflated(np.zeros(5, dtype=np.intp), _one_kind(1000), capacity=10_000, inflate=1.3, draws=np.random.default_rng(42))
    assert len(order) == 13
    assert sorted(order[:5].tolist()) == [0, 1, 2, 3, 4]


def test_a_longer_list_is_cut_off():
    """A list that requests more than that stops there."""
    order = inflated(np.zeros(50, dtype=np.intp), _one_kind(500), capacity=10_000, inflate=1.3, draws=np.random.default_rng(42))
    assert len(order) == 26
    assert len(set(order.tolist())) == 26


@pytest.mark.parametrize("inflate", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_to_inflate_by_nothing(inflate: float):
    """It must be a number above zero."""
    with pytest.raises(InvalidSpec, match="inflate must be a number > 0"):
        inflated(np.zeros(1, dtype=np.intp), _one_kind(500), capacity=1000, inflate=inflate, draws=np.random.default_rng(42))


def test_refuses_a_list_that_requests_no_gpu():
    """It would be drawn from for ever."""
    kinds = Kinds(np.zeros((1, 0)), np.array([0]), np.array([0]), np.ones((1, 1), dtype=bool), np.array([1.0]))
    with pytest.raises(InvalidSpec, match="requests a GPU"):
        inflated(np.zeros(1, dtype=np.intp), kinds, capacity=1000, inflate=1.3, draws=np.random.default_rng(42))


def test_an_unknown_policy_is_refused():
    """The message lists the known ones."""
    nodes = Nodes(np.zeros((1, 0)), np.array([1]), np.array([0]))
    with pytest.raises(InvalidSpec, match="priced, fgd, best-fit, random"):
        placement_policy("worst-fit", nodes, _one_kind(500), np.random.default_rng(42))


def test_prices_pack_what_fragments_alone_do_not():
    """On a generated list with shares that leave waste, prices allocate more than FGD, and FGD more than chance."""
    draws = np.random.default_rng(7)
    shares = np.array([1000, 810, 470, 320, 650, 230, 160])
    weight = np.array([40.0, 15.0, 15.0, 10.0, 10.0, 5.0, 5.0])
    cpu = np.array([11.0, 3.0, 8.0, 4.0, 12.0, 4.0, 4.0])
    kinds = Kinds(cpu[:, None], np.ones(7, dtype=np.intp), shares, np.ones((7, 1), dtype=bool), weight)
    nodes = Nodes(np.full((20, 1), 90.0), np.full(20, 8), np.zeros(20, dtype=np.intp))
    arrivals = draws.choice(7, size=320, p=weight / weight.sum())
    allocated = {name: run(nodes, kinds, arrivals, name).gpu_allocation_pct for name in ("priced", "fgd", "random")}
    assert allocated["priced"] >= allocated["fgd"] >= allocated["random"]
