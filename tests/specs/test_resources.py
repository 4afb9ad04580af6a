"""Requests: amounts, ranges, units and per-GPU values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs.strategies import ranges

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import RESOURCES, Range, Request, unit_of
from airflow_dla.specs.resources import amounts


@pytest.mark.parametrize(
    ("resource", "raw", "found"),
    [
        ("cpu", 2, Range(2.0, 2.0)),
        ("cpu", "2", Range(2.0, 2.0)),
        ("cpu", "500m", Range(0.5, 0.5)),
        ("cpu", "4-8", Range(4.0, 8.0)),
        ("cpu", " 4 - 8 ", Range(4.0, 8.0)),
        ("cpu", "8/gpu", Range(8.0, 8.0, per_gpu=True)),
        ("cpu", "4-8 /gpu", Range(4.0, 8.0, per_gpu=True)),
        ("memory", 1.5, Range(1.5, 1.5)),
        ("memory", "512MiB", Range(0.5, 0.5)),
        ("memory", "1-2 GiB", Range(1.0, 2.0)),
        ("memory", "4Gi", Range(4.0, 4.0)),
        ("memory", "8GiB/gpu", Range(8.0, 8.0, per_gpu=True)),
        ("disk", "1TiB", Range(1024.0, 1024.0)),
        ("disk", "1.073741824GB", Range(1.0, 1.0)),
        ("network", "1Gbit/s", Range(125.0, 125.0)),
        ("network", "100MB/s", Range(100.0, 100.0)),
        ("gpu", "0-1", Range(0.0, 1.0)),
        ("gpu", "500m", Range(0.5, 0.5)),
    ],
)
def test_amounts(resource: str, raw: object, found: Range):
    """Every form an author may write."""
    assert Range.parse(resource, raw, "request.x") == found


@pytest.mark.parametrize("raw", ["-1", "4-", "two", "", "1 2", "4--8", "0x10", "nan", "1GiB-2GiB", "1-2-3", "1/node"])
def test_amounts_that_cannot_be_read(raw: str):
    """The message shows how to write one of this resource."""
    with pytest.raises(InvalidSpec, match=r"request\.memory: cannot read .* as an amount of memory >= 0; write 4, '4-8', '8GiB'"):
        Range.parse("memory", raw, "request.memory")


@pytest.mark.parametrize("raw", [True, None, [1], -1, float("nan"), "1e400", 10**400, "9" * 999])
def test_amounts_that_are_none(raw: object):
    """No truth value, nothing negative, nothing infinite."""
    with pytest.raises(InvalidSpec, match=r"request\.cpu must be"):
        Range.parse("cpu", raw, "request.cpu")


@pytest.mark.parametrize(
    ("resource", "raw", "known"),
    [
        ("cpu", "2GiB", "known are m"),
        ("memory", "500m", "known are B, KiB"),
        ("network", "10GiB", "known are MB/s"),
        ("memory", "2gb", "GiB"),
    ],
)
def test_units_belong_to_a_resource(resource: str, raw: str, known: str):
    """A unit of another resource is refused, with the known ones listed."""
    with pytest.raises(InvalidSpec, match=rf"request: unknown unit .* for {resource}; .*{known}"):
        Range.parse(resource, raw, "request")


def test_ranges_rise():
    """From what is needed to what is wanted."""
    with pytest.raises(InvalidSpec, match="a range goes from the minimum to what is wanted, got '8-4'"):
        Range.parse("cpu", "8-4", "request.cpu")


@pytest.mark.parametrize("resource", ["gpu", "gpu_memory"])
def test_gpus_are_not_per_gpu(resource: str):
    """It would mean nothing."""
    with pytest.raises(InvalidSpec, match=f"{resource} cannot be given per GPU"):
        Range.parse(resource, "1/gpu", "request")


@given(ranges() | ranges(per_gpu=True))
def test_a_range_is_read_back(found: Range):
    """Exactly, to the last bit."""
    assert Range.parse("cpu", found.to_plain(), "x") == found


def test_every_resource_has_an_example():
    """An author who slips is shown the way, whatever the resource."""
    for resource in RESOURCES:
        with pytest.raises(InvalidSpec, match="write 4, '4-8', '"):
            Range.parse(resource, "?", "request")


def test_unset_resources_are_left_out():
    """None is the same as not naming it."""
    assert Request.from_mapping({"cpu": 1, "gpu": None}) == Request.from_mapping({"cpu": "1"})


@pytest.mark.parametrize("raw", [{}, {"cpu": 0}, {"memory": None}])
def test_a_request_asks_for_something(raw: dict[str, Any]):
    """Nothing to grant is a mistake."""
    with pytest.raises(InvalidSpec, match="request asks for nothing; name at least one of cpu, gpu"):
        Request.from_mapping(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"cpu": "8/gpu"}, "cpu given per GPU, but no gpu is asked for"),
        ({"cpu": "8/gpu", "gpu": 0}, "cpu given per GPU, but no gpu is asked for"),
        ({"cpu": 1, "gpu_type": "h200"}, "gpu_type without a gpu; add gpu or drop gpu_type"),
        ({"cpu": 1, "gpu": 0, "gpu_type": "h200"}, "gpu_type without a gpu"),
        ({"gpu_memory": "8GiB"}, "gpu_memory without a gpu"),
        ({"gpu": 1.5}, "whole numbers of GPUs or a share of one, got 1.5"),
        ({"gpu": "0.5-2"}, "whole numbers of GPUs or a share of one, got 0.5-2.0"),
        ({"gpu": 1, "gpu_type": ""}, r"request\.gpu_type must be a non-empty string"),
        ({"ram": 1}, "unknown key 'ram'; known are cpu, gpu, gpu_memory, memory"),
        ({"memry": 1}, "did you mean 'memory'"),
        ({"mig-9g.10gb": 1}, "unknown key 'mig-9g.10gb'; .* did you mean 'mig-1g.10gb'"),
        ({"mig-1g.10gb": 0.5}, "mig-1g.10gb must be a whole number of slices, got 0.5"),
        ({"mig-1g.10gb": "1GiB"}, "unknown unit 'GiB' for mig-1g.10gb; known are none"),
        ({"mig-1g.10gb": "?"}, "cannot read '\\?' as an amount of mig-1g.10gb"),
        ({"mig-1g.10gb": "1/gpu", "gpu": 1}, "mig-1g.10gb cannot be given per GPU"),
        ({"mig-1g.10gb": 1, "gpu": 1}, "gpu beside mig-1g.10gb; a job sees whole GPUs or slices, not both"),
        ({"mig-1g.10gb": 1, "gpu_memory": "8GiB"}, "gpu_memory beside mig-1g.10gb"),
        ({"mig-1g.10gb": 1, "cpu": "4/gpu"}, "cpu given per GPU, but no gpu is asked for"),
        ({"cpu": 1, "labels": "zone=a"}, r"request\.labels must be a mapping"),
        ({"cpu": 1, "prefer": {"zone": 1}}, r"request\.prefer\.zone must be a non-empty string"),
        ("{{ params.request }}", "put templates inside the mapping"),
    ],
)
def test_requests_that_make_no_sense(raw: object, message: str):
    """Each is refused with what would do."""
    with pytest.raises(InvalidSpec, match=message):
        Request.from_mapping(raw)


@pytest.mark.parametrize("raw", [{"gpu": 0.5}, {"gpu": "0.25-1"}, {"gpu": "0-1", "cpu": "4/gpu"}, {"gpu": "1-8", "gpu_type": "h200"}])
def test_shares_and_ranges_of_gpus(raw: dict[str, Any]):
    """A share of one, or whole ones."""
    assert Request.from_mapping(raw).amounts["gpu"].wanted > 0


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"ram": 1}, "unknown key 'ram'"),
        ({"cpu": "1-2"}, "must be one amount"),
        ({"cpu": "1/gpu"}, "must be one amount"),
        (3, "must be a mapping"),
    ],
)
def test_capacities_are_plain_amounts(raw: object, message: str):
    """A machine has so much, not between so much and so much."""
    with pytest.raises(InvalidSpec, match=message):
        amounts(raw, "capacity")


@given(st.floats(min_value=0, max_value=1e12))
def test_capacities_are_exact(value: float):
    """Also when a template made them text."""
    assert amounts({"disk": str(value)}, "capacity") == {"disk": value}


def test_slices_and_labels_are_read_back():
    """As a person writes them; equal labels are equal requests, in any order."""
    raw = {"mig-3g.40gb": 1, "gpu_type": "h200", "labels": {"zone": "a", "disk": "nvme"}, "prefer": {"rack": "7"}}
    request = Request.from_mapping(raw)
    assert request.to_mapping() == raw
    assert request == Request.from_mapping(raw | {"labels": {"disk": "nvme", "zone": "a"}})
    assert request != Request.from_mapping(raw | {"labels": None})


@pytest.mark.parametrize(
    ("name", "unit"),
    [("cpu", "cores"), ("mig-1g.10gb", "slices"), ("mig-7g.80gb+me", "slices"), ("mig-8g.80gb", None), ("gpu_type", None), ("ram", None)],
)
def test_what_is_a_resource(name: str, unit: str | None):
    """One function knows all names, those of slices as well."""
    assert unit_of(name) == unit
