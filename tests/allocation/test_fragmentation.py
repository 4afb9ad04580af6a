"""Expected fragments, stranded GPUs, and what the policies make of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dla.allocation.fragmentation import Fragments, Kinds, Priced, Stranding


def kinds(*rows: tuple[float, int, int, float], allowed: list[list[bool]] | None = None) -> Kinds:
    """Make kinds of CPU, GPUs, share and weight."""
    return Kinds(
        need=np.array([[row[0]] for row in rows], dtype=float),
        gpus=np.array([row[1] for row in rows], dtype=np.intp),
        share=np.array([row[2] for row in rows], dtype=np.intp),
        allowed=np.array(allowed or [[True]] * len(rows), dtype=bool),
        weight=np.array([row[3] for row in rows], dtype=float),
    )


def expected(of: Kinds, cpu: float, devices: list[int], *, node_type: int = 0) -> float:
    """Return the expected fragments of one node."""
    return float(Fragments(of).expected(np.array([[cpu]]), np.array([devices]), np.array([node_type]))[0])


@pytest.mark.parametrize(
    ("cpu", "devices", "fragments"),
    [
        (8.0, [1000, 1000], 0.0),
        (8.0, [1000, 400], 400.0),
        (8.0, [400, 400], 800.0),
        (3.0, [1000, 1000], 2000.0),
    ],
)
def test_fragments_are_what_a_demand_cannot_use(cpu: float, devices: list[int], fragments: float):
    """Of a demand of a GPU and 4 CPUs: rests, or all of it when the CPUs are too few."""
    assert expected(kinds((4.0, 1, 1000, 1.0)), cpu, devices) == fragments


def test_a_gang_needs_all_its_devices():
    """One device is a fragment to who needs two."""
    assert expected(kinds((0.0, 2, 1000, 1.0)), 8.0, [1000, 500]) == 1500.0


def test_fragments_are_an_expectation():
    """Half of the demands can use the rest."""
    assert expected(kinds((0.0, 1, 1000, 0.5), (0.0, 1, 250, 0.5)), 8.0, [500]) == 250.0


def test_types_of_nodes_count():
    """What a demand may not use is a fragment to it."""
    of = kinds((0.0, 1, 1000, 1.0), allowed=[[True, False]])
    assert (expected(of, 8.0, [1000]), expected(of, 8.0, [1000], node_type=1)) == (0.0, 1000.0)


def test_typical_demands_leave_out_the_rare():
    """The last twentieth is not looked at; weights sum to one again."""
    of = kinds((0.0, 1, 1000, 96.0), (0.0, 0, 0, 0.0), (0.0, 1, 10, 4.0)).typical()
    assert of.share.tolist() == [1000]
    assert of.weight.tolist() == [1.0]


def test_few_cpus_strand_gpus():
    """None strand all, twice; the fewer there are the worse, and five times as many as needed are no matter."""
    of = Stranding(kinds((4.0, 1, 1000, 1.0)))
    none, half, enough, many = of.expected(np.array([[0.0], [16.0], [32.0], [160.0]]), np.full((4, 8), 1000)).tolist()
    assert none == 16_000.0
    assert none > half > enough > many
    assert many == pytest.approx(0.0, abs=1.0)


def test_a_node_without_free_gpus_strands_none():
    """However few its CPUs are."""
    of = Stranding(kinds((4.0, 1, 1000, 1.0)))
    assert of.expected(np.array([[0.0], [16.0]]), np.zeros((2, 8), dtype=int)).tolist() == [0.0, 0.0]


def test_without_gpu_demands_nothing_is_stranded():
    """Nobody brings CPUs to a GPU."""
    assert Stranding(kinds((4.0, 0, 0, 1.0))).expected(np.zeros((1, 1)), np.array([[1000]])).tolist() == [0.0]


def test_a_share_costs_what_it_takes_away():
    """0.5 in a rest of 0.5 costs half a GPU, in one of 0.6 no more; where it does not fit, everything."""
    costs = Priced(kinds((0.0, 1, 500, 1.0))).seat_costs(500)
    assert costs[[499, 500, 600, 1000]].tolist() == [np.inf, 500.0, 500.0, 500.0]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 3), st.sampled_from([250, 400, 1000]), st.integers(1, 5)), min_size=1, max_size=5
    ),
    cpu=st.integers(0, 12),
    devices=st.lists(st.sampled_from([0, 100, 250, 600, 1000]), min_size=1, max_size=4),
)
def test_fragments_lie_between_nothing_and_all_that_is_free(rows: list[tuple[int, int, int, int]], cpu: int, devices: list[int]):
    """Expected fragments are a part of what is free, whatever the order of devices; more CPUs never add to them."""
    of = kinds(*[(float(need), gpus, share if gpus else 0, float(weight)) for need, gpus, share, weight in rows]).typical()
    found = expected(of, cpu, devices)
    assert -1e-9 <= found <= sum(devices) + 1e-9
    assert expected(of, cpu, devices[::-1]) == pytest.approx(found)
    assert expected(of, cpu + 3, devices) <= found + 1e-9
