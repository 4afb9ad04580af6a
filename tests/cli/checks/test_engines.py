"""What the doctor says of Docker places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow.providers.docker", reason="extra docker is not installed")

from fakes.docker_engine import FakeEngine, nothing_in_it

from airflow_dla.cli.checks import guarded
from airflow_dla.cli.checks.engines import check_engine, check_forgotten, check_offered_once, check_registry, engine_found
from airflow_dla.hooks.connections import RegistryLogin
from airflow_dla.hooks.places import LOCAL
from airflow_dla.hooks.settings import Settings
from airflow_dla.ledger import NodeRow
from airflow_dla.specs import Node, PlaceSpec

PLACE = PlaceSpec(name="gpu1", kind="docker")
INFO = {"CgroupVersion": "2", "CgroupDriver": "systemd", "NCPU": 8, "MemTotal": 2**35, "Runtimes": {"runc": {}, "nvidia": {}}}
VERSION = {"ApiVersion": "1.47", "Version": "27.3"}


def test_an_engine_that_can_all_is_well() -> None:
    """What was found stands in the message."""
    found = engine_found(PLACE, INFO, VERSION)
    assert (found.name, found.state) == ("place gpu1", "ok")
    assert found.message == "engine 27.3, API 1.47; cgroup v2 by systemd; 8 CPUs, 32.0 GiB; GPUs by nvidia"


@pytest.mark.parametrize(
    ("info", "version", "state", "said"),
    [
        ({}, {"ApiVersion": "1.40"}, "fail", "speaks API 1.40, and 1.41 is the oldest"),
        ({"Runtimes": {"runc": {}}}, {}, "ok", "no runtime for GPUs"),
        ({"SecurityOptions": ["name=rootless"], "CgroupDriver": "none"}, {}, "warn", "rootless; .*no limit is in force"),
        ({"MemoryLimit": False, "PidsLimit": False}, {}, "warn", "limits of memory are not in force; limits of processes are not"),
    ],
)
def test_what_an_engine_lacks(info: dict[str, Any], version: dict[str, str], state: str, said: str) -> None:
    """A limit that is not in force is a warning, an engine too old a failure; both say what to do."""
    found = engine_found(PLACE, {**INFO, **info}, {**VERSION, **version})
    assert found.state == state
    assert re.search(said, found.message)
    assert bool(found.fix) == (state != "ok")


def test_a_runtime_that_is_not_there_fails() -> None:
    """Jobs of the place could not start; those there are stand in the fix."""
    found = engine_found(PlaceSpec(name="gpu1", kind="docker", runtime="kata"), INFO, VERSION)
    assert (found.state, "no runtime 'kata'" in found.message, "nvidia, runc" in found.fix) == ("fail", True, True)


def test_an_engine_is_asked(tmp_path: Path) -> None:
    """One that is away is a failure with its reason; a registry that refuses, too."""
    engine = FakeEngine(tmp_path / "d.sock", nothing_in_it)
    place = PlaceSpec(name="gpu1", kind="docker", url=engine.address)
    try:
        assert check_engine(place).message.startswith("engine 20.10.24, API 1.41")
        refused = guarded("registry", lambda: check_registry(place, RegistryLogin("reg", "reg.example.org", "dla", "s3cret")))
        assert (refused.state, "connection 'reg'" in refused.message, "s3cret" in refused.message) == ("fail", True, False)
    finally:
        engine.close()
    assert guarded("place", lambda: check_engine(place)).state == "fail"


@pytest.mark.parametrize(
    ("capacity", "of_place", "state"),
    [({}, {}, "warn"), ({"cpu": 1}, {}, "warn"), ({"cpu": 1, "memory": 1}, {}, "ok"), ({}, {"cpu": 1, "memory": 1}, "ok")],
)
def test_what_two_places_offer(capacity: dict[str, Any], of_place: dict[str, Any], state: str) -> None:
    """A host's CPUs and memory are offered once where one of the two says what it has."""
    places = (LOCAL, PlaceSpec(name="gpu1", kind="docker", capacity=of_place))
    settings = Settings("lab", "sqlite://", "/store", Path("/jobs"), "h", places=places, capacity=capacity)
    assert check_offered_once(settings).state == state
    assert check_offered_once(Settings("lab", "sqlite://", "/store", Path("/jobs"), "h")).message == "local (local)"


def test_gpus_that_cannot_be_counted_are_a_warning() -> None:
    """They would be there and never be granted."""
    found = engine_found(PLACE, INFO, VERSION, counts_gpus=False)
    assert (found.state, found.fix) == ("warn", "pip install 'airflow-dla[gpu]', or name them in the place's capacity")
    assert engine_found(PLACE, {**INFO, "Runtimes": {"runc": {}}}, VERSION, counts_gpus=False).state == "ok"


def test_nodes_of_places_that_are_no_more() -> None:
    """Those that a person declared are not meant."""
    rows = [NodeRow(Node(name=name, place=place), host, 0.0) for name, place, host in [("h", "local", "h/1"), ("a1", "cluster", None)]]
    settings = Settings("lab", "sqlite://", "/store", Path("/jobs"), "h")
    assert check_forgotten(rows, settings).state == "ok"
    left = check_forgotten([*rows, NodeRow(Node(name="gpu1", place="gpu1"), "h/1", 0.0)], settings)
    assert (left.state, "nodes remove gpu1" in left.fix) == ("warn", True)
