"""Tests of what an engine's host has left, with made-up facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.docker.engine import Engine
from airflow_dla.runtime.docker.facts import EngineFacts
from airflow_dla.runtime.docker.nodes import EngineNode, Use, busy_gpus, node_of, use_of
from airflow_dla.runtime.gpus import Gpu
from airflow_dla.specs import PlaceSpec

GIB = 2**30
PLACE = PlaceSpec(name="gpu1", kind="docker", labels={"zone": "a"})
HOST = EngineFacts(name="host", api_version="1.41", cpus=8, memory_bytes=32 * GIB, runtimes=("nvidia", "runc"))
GPUS = (Gpu("GPU-a", "h200", 140.0), Gpu("GPU-b", "h200", 140.0, pids=(7,)), Gpu("GPU-c", "h200", 140.0, pids=(8,)))


class MadeUpEngine:
    """An engine with one container of ours and some of others."""

    def __init__(self, *foreign: Mapping[str, Any]) -> None:
        self.others = foreign
        self.asked: list[str] = []

    def facts(self) -> EngineFacts:
        """Return a host of eight CPUs and 32 GiB."""
        return HOST

    def foreign(self, workspace: str | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the others'."""
        self.asked.append(str(workspace))
        return [{"Id": "x", "Name": "/x", "HostConfig": config} for config in self.others]

    def listing(self, workspace: str, *, max_age_s: float = 0.0) -> Mapping[str, Any]:
        """Return ours."""
        return {"j.1": SimpleNamespace(id="c0ffee")}


def test_what_others_set_aside_is_not_granted() -> None:
    """Limits count, CPU sets with their ids, and what has no limit for nothing."""
    used = sum(map(use_of, [{"NanoCpus": 15 * 10**8, "Memory": 4 * GIB}, {"CpusetCpus": "0-1"}, {}]), Use())
    node = node_of(PLACE, "gpu1", HOST, used)
    assert node.capacity == {"cpu": 4.5, "memory": 28.0}
    assert node.cpu_ids == (2, 3, 4, 5, 6, 7)
    assert node.labels == {"zone": "a"}


def test_a_wide_set_with_a_small_quota_keeps_no_cpu_for_itself() -> None:
    """Its CPUs are shared; its share is not."""
    used = use_of({"CpusetCpus": "0-7", "CpuQuota": 50_000, "CpuPeriod": 100_000})
    assert (used.cpu, used.cpu_ids) == (0.5, frozenset())


def test_gpus_have_ids_type_and_memory() -> None:
    """Those that others were given, by id or by number, are left out."""
    node = node_of(PLACE, "gpu1", HOST, use_of({"DeviceRequests": [{"DeviceIDs": ["GPU-b", "2"]}]}), GPUS)
    assert node.gpu_ids == ("GPU-a",)
    assert (node.capacity["gpu"], node.capacity["gpu_memory"], node.labels["gpu_type"]) == (1.0, 140.0, "h200")


def test_gpus_count_only_where_containers_can_have_them() -> None:
    """An engine without NVIDIA's runtime has none to grant."""
    plain = replace(HOST, runtimes=("runc",))
    assert "gpu" not in node_of(PLACE, "gpu1", plain, Use(), GPUS).capacity
    assert node_of(PlaceSpec(name="gpu1", kind="docker", runtime="mine"), "gpu1", plain, Use(), GPUS).capacity["gpu"] == 3


def test_gpus_of_several_types_have_no_type() -> None:
    """A request for a type goes to a node whose GPUs are all of it."""
    assert "gpu_type" not in node_of(PLACE, "gpu1", HOST, Use(), (GPUS[0], Gpu("GPU-t", "t4", 16.0))).labels


def test_slices_are_granted_by_profile() -> None:
    """A GPU in slices is never granted whole; a slice that others have is left out."""
    sliced = Gpu("GPU-m", "a100", 80.0, slices=(("1g.10gb", "MIG-1"), ("1g.10gb", "MIG-2"), ("3g.40gb", "MIG-3")))
    node = node_of(PLACE, "gpu1", HOST, Use(gpu_ids=frozenset({"MIG-1"})), (sliced,))
    assert node.gpu_ids == ()
    assert node.mig_ids == {"1g.10gb": ("MIG-2",), "3g.40gb": ("MIG-3",)}
    assert node.capacity["mig-1g.10gb"] == 1.0


def test_the_place_says_otherwise() -> None:
    """Its capacity overrides what is found, ids included."""
    place = PlaceSpec(name="gpu1", kind="docker", capacity={"cpu": 2, "memory": "8GiB", "gpu": 2, "network": 100})
    node = node_of(place, "gpu1", HOST, Use(), GPUS)
    assert node.capacity | {"gpu_memory": 0} == {"cpu": 2.0, "memory": 8.0, "gpu": 2.0, "network": 100.0, "gpu_memory": 0}
    assert (node.cpu_ids, node.gpu_ids) == ((0, 1), ("GPU-a", "GPU-b"))
    with pytest.raises(InvalidSpec, match="place 'gpu1': capacity: unknown key 'ram'"):
        node_of(PlaceSpec(name="gpu1", kind="docker", capacity={"ram": 2}), "gpu1", HOST)


def test_a_gpu_that_others_compute_on_is_used() -> None:
    """Processes of our containers, and those that cannot be seen, are not others'."""
    groups = {7: "0::/system.slice/docker-c0ffee.scope", 8: "0::/user.slice"}
    assert busy_gpus(GPUS, {"c0ffee"}, lambda pid: groups.get(pid, "")) == {"GPU-c"}
    assert busy_gpus(GPUS, {"c0ffee"}, lambda _: "") == frozenset()


def test_a_node_is_discovered_live() -> None:
    """Each look asks the engine and the driver again; what the local place has is left out."""
    engine = MadeUpEngine({"NanoCpus": 10**9})
    groups = {7: "/docker/c0ffee", 8: "/user.slice"}
    watched = EngineNode(
        engine, place=PLACE, name="gpu1", workspace="w", labels={"images": "yes"},
        taken=Use(cpu=2.0, memory_gib=2.0, gpu_ids=frozenset("0")),
        gpus=lambda: GPUS, groups=lambda pid: groups[pid],
    )  # fmt: skip
    (first,) = watched.discover()
    assert (first.capacity["cpu"], first.capacity["memory"], first.gpu_ids) == (5.0, 30.0, ("GPU-b",))
    assert first.labels == {"zone": "a", "gpu_type": "h200", "images": "yes"}
    (whole,) = watched.whole()
    assert (whole.capacity["cpu"], whole.gpu_ids) == (6.0, ("GPU-b", "GPU-c"))
    engine.others = ()
    (later,) = watched.discover()
    assert later.capacity["cpu"] == 6.0
    assert engine.asked == ["w", "w"]


def test_an_engine_elsewhere_has_not_this_hosts_gpus() -> None:
    """What it has stands in the place's capacity; its containers get them by their numbers."""
    far = replace(PLACE, url="tcp://gpu1:2376", capacity={"gpu": 2, "gpu_type": "h100"})
    (found,) = EngineNode(MadeUpEngine(), place=far, name="gpu1", workspace="w", labels={}, gpus=lambda: GPUS).discover()
    assert (found.gpu_ids, found.labels["gpu_type"]) == (("0", "1"), "h100")


CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "NanoCpus": st.integers(0, 64 * 10**9),
        "CpusetCpus": st.sampled_from(["", "0", "0-3", "1,5", "0-63"]),
        "Memory": st.integers(0, 64 * GIB),
        "DeviceRequests": st.none() | st.just([{"DeviceIDs": ["GPU-a"]}]) | st.just([{"DeviceIDs": None, "Count": -1}]),
    },
)


@given(st.lists(CONFIGS, max_size=4))
def test_nothing_is_granted_twice_and_nothing_below_zero(configs: list[dict[str, Any]]) -> None:
    """Whatever others have, what is left is between nothing and what there is, and more use leaves no more."""
    some = node_of(PLACE, "gpu1", HOST, sum(map(use_of, configs[1:]), Use()), GPUS)
    more = node_of(PLACE, "gpu1", HOST, sum(map(use_of, configs), Use()), GPUS)
    for resource in ("cpu", "memory"):
        assert 0.0 <= more.capacity[resource] <= some.capacity[resource]
    assert set(more.cpu_ids) <= set(some.cpu_ids) <= set(range(8))
    assert set(more.gpu_ids) <= set(some.gpu_ids)


def test_a_container_of_others_is_seen_with_its_limits(engine: Engine, workspace: str, make: Callable[..., str]) -> None:
    """On a real engine: it counts for another workspace, and not for its own."""
    limits = {"NanoCpus": 5 * 10**8, "CpusetCpus": "0", "Memory": 2**26}
    container = make("sleep 60", HostConfig=limits)
    engine.start(container)
    seen = {found["Id"]: use_of(found["HostConfig"]) for found in engine.foreign("another")}
    assert seen[container] == Use(cpu=0.5, memory_gib=1 / 16)
    assert container not in {found["Id"] for found in engine.foreign(workspace)}
    (node,) = EngineNode(engine, place=PLACE, name="gpu1", workspace=workspace, labels={}).discover()
    assert 0 <= node.capacity["cpu"] <= engine.facts().cpus
