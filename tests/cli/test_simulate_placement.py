"""``airflow dla simulate PODS.csv``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn0,16000,65536,2,T4\nn1,16000,65536,1,A10\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np0,4000,1024,1,500\np1,4000,1024,1,1000\np2,4000,1024,0,0\n"


def files(folder: Path, *, nodes: str = NODES, pods: str = PODS) -> tuple[str, str, str]:
    """Write a cluster and a list; return the arguments that name them."""
    (folder / "nodes.csv").write_text(nodes, encoding="utf-8")
    (folder / "pods.csv").write_text(pods, encoding="utf-8")
    return str(folder / "pods.csv"), "--cluster", str(folder / "nodes.csv")


def test_places_a_list_for_every_seed(dla: Any, tmp_path: Path):
    """The document has the mean and every seed; the table says the same."""
    found = dla("simulate", *files(tmp_path), "--inflate", "1.3", "--seeds", "3", "--json")
    document = found.document
    assert found.status == 0
    assert [seed["seed"] for seed in document["seeds"]] == [42, 43, 44]
    assert document["gpu_allocation_pct"] == pytest.approx(sum(seed["gpu_allocation_pct"] for seed in document["seeds"]) / 3)
    assert 0 <= document["fragmentation_pct"] <= 100 - document["gpu_allocation_pct"]
    assert document["wall_s"] > 0
    assert f"{document['gpu_allocation_pct']:.2f} %" in dla("simulate", *files(tmp_path), "--seeds", "3").out


def test_a_pod_keeps_to_its_gpu_models(dla: Any, tmp_path: Path):
    """Pods of one model leave the other's GPU free."""
    pods = "cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n1000,64,1,1000,T4|V100M16\n"
    found = dla("simulate", *files(tmp_path, pods=pods), "--seeds", "1", "--json").document
    assert found["gpu_allocation_pct"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("nodes", "pods", "said"),
    [
        (NODES, PODS + "p3,4000,1024,one,1000\n", "pods.csv:5: num_gpu must be a whole number >= 0, got 'one'"),
        (NODES, PODS + "p3,4000,1024,1,1001\n", "pods.csv:5: gpu_milli must be a whole number between 0 and 1000, got '1001'"),
        (NODES, PODS + "p3,4000,1024,2,0\n", "pods.csv:5: gpu_milli must be between 1 and 1000 where num_gpu is 2, got 0"),
        (NODES, PODS + "p3,nan,1024,1,500\n", "cpu_milli must be a whole number"),
        (NODES, PODS + "p3,4000\n", "pods.csv:5: num_gpu must be a whole number >= 0, got ''"),
        (NODES, PODS + "p3,1,1,1,1,T4\n", "pods.csv:5: has more fields than the header names"),
        (NODES, "a,b\n", "pods.csv:1: the header must name"),
        (NODES, PODS.splitlines()[0] + "\n", "at least one pod"),
        ("sn,cpu_milli,memory_mib,gpu\nn0,1,1,0\n", PODS, "at least one node with a GPU"),
        (NODES, "cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,0,0\n", "requests a GPU"),
    ],
)
def test_refuses_a_bad_file(dla: Any, tmp_path: Path, nodes: str, pods: str, said: str):
    """A malformed line is named with its file, its number and what was expected."""
    ended = dla("simulate", *files(tmp_path, nodes=nodes, pods=pods), "--json")
    assert (ended.status, ended.out) == (1, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--inflate", "nan"), "inflate must be a number > 0, got nan"),
        (("--placement", "worst-fit"), "priced, fgd, best-fit, random"),
    ],
)
def test_refuses_a_bad_argument(dla: Any, tmp_path: Path, more: tuple[str, str], said: str):
    """What breaks a rule is one message."""
    ended = dla("simulate", *files(tmp_path), *more)
    assert ended.status == 1
    assert said in ended.err


def test_needs_a_cluster(dla: Any, tmp_path: Path):
    """A list alone cannot be placed."""
    assert "--cluster" in dla("simulate", files(tmp_path)[0]).err
