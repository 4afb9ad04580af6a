"""How a job is spread, and what each member is told of the whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla import torchrun
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Distributed, Grant, JobKey, parts
from airflow_dla.specs.distributed import port_of


@pytest.mark.parametrize(("raw", "nodes"), [(2, (2, 2)), ("2", (2, 2)), ("1-4", (1, 4)), ("1:4", (1, 4)), ([1, 2], (1, 2))])
def test_nodes_as_torchrun_writes_them(raw: Any, nodes: tuple[int, int]) -> None:
    """A number, or a range with a dash or torchrun's colon."""
    assert Distributed.from_mapping({"nodes": raw}).nodes == nodes


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"nodes": 0}, r"distributed\.nodes must be at least 1"),
        ({"nodes": "4-2"}, r"not end below where it begins, got '4-2'"),
        ({"nodes": "some"}, r"a number of nodes such as 2, or a range such as '1-2', got 'some'"),
        ({"nodes": True}, r"a number of nodes"),
        ({"nproc": 0}, r"distributed\.nproc must be > 0"),
        ({"nproc": "cpu"}, r"distributed\.nproc must be a number"),
        ({"max_restarts": -1}, r"distributed\.max_restarts must be >= 0"),
        ({"rdzv_backend": "c10d"}, r"unknown key 'rdzv_backend'"),
    ],
)
def test_bad_words_are_refused(raw: dict[str, Any], message: str) -> None:
    """The value, the rule and the place are named."""
    with pytest.raises(InvalidSpec, match=message):
        Distributed.from_mapping(raw)


def test_the_helper_keeps_templates() -> None:
    """What Jinja has yet to render is checked when it is known."""
    assert torchrun("{{ params.nodes }}", 2) == {"nodes": "{{ params.nodes }}", "nproc": 2, "max_restarts": 0}
    with pytest.raises(InvalidSpec, match="nodes"):
        torchrun("none")


@pytest.mark.parametrize(("nproc", "gpus", "ranks"), [("auto", 0, 1), ("auto", 2, 2), ("gpu", 2, 2), (3, 0, 3), (1, 2, 1)])
def test_processes_of_a_member(nproc: Any, gpus: int, ranks: int) -> None:
    """One for each GPU unless a number is given."""
    grant = Grant(id="j.1", node="n", gpu_ids=tuple(map(str, range(gpus))))
    assert Distributed(nproc=nproc).processes(grant) == ranks


@given(st.lists(st.integers(0, 8), min_size=1, max_size=6), st.none() | st.just("10.0.0.2"))
def test_ranks_are_told_without_gaps(gpus: list[int], address: str | None) -> None:
    """Every rank from 0 exists once, whatever the members were granted; only the others need an address."""
    grants = [Grant(id=f"j{number}.1", node="n", gpu_ids=tuple(map(str, range(count)))) for number, count in enumerate(gpus)]
    told = parts(Distributed(nodes=(1, 6), max_restarts=2), "j.1", grants, address=address, restarts=1)
    ranks = [part.first_rank + local for part in told for local in range(part.local_world_size)]
    assert ranks == list(range(told[0].world_size))
    assert {(part.run_id, part.nodes, part.world_size, part.port, part.restarts) for part in told} == {
        ("j.1", len(gpus), sum(max(1, count) for count in gpus), port_of("j.1"), 1)
    }
    assert [part.address for part in told] == ["127.0.0.1", *[address or "127.0.0.1"] * (len(gpus) - 1)]


@given(st.text(max_size=30))
def test_ports_are_below_those_of_the_system(run_id: str) -> None:
    """Nothing that the system hands out by itself comes in the way."""
    assert 20_000 <= port_of(run_id) < 30_000


def test_the_first_member_has_the_jobs_own_key() -> None:
    """Keys of others have the number; nothing changed for jobs of one member."""
    keys = [JobKey(dag="d", run="r", task="t", member=number) for number in range(3)]
    assert len({key.id for key in keys}) == 3
    assert keys[0].id == JobKey.from_mapping({"dag": "d", "run": "r", "task": "t"}).id
    assert str(keys[2]) == "d.t member 2 (r)"
