"""What holds a container to its grant."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.runtime.limits import compute, devices, differ_in_compute, in_bytes, tmp
from airflow_dla.specs import Grant


def granted(node: str = "n1", gpu_ids: tuple[str, ...] = (), **amounts: float) -> Grant:
    """Return a grant of amounts."""
    return Grant(id="a.1", node=node, amounts=amounts, gpu_ids=gpu_ids)


def test_nothing_is_limited_to_nothing():
    """What was granted has a least that kernels take, what was not has no limit."""
    assert compute(granted(cpu=1e-6, memory=1e-9)) == {"cpu": 0.01, "memory": 6 * 2**20}
    assert compute(granted(gpu=1.0)) == {}
    assert in_bytes(1e-12) == 1


def test_tmp_is_a_part_of_the_memory():
    """Half of it, and no more than 1 GiB."""
    assert (tmp(granted(memory=0.5)), tmp(granted(memory=64.0)), tmp(granted())) == (0.25, 1.0, 1.0)


def test_devices():
    """GPUs and slices of them, of which there is something; their memory is no device."""
    amounts = {"gpu": 0.5, "gpu_memory": 8.0, "mig-1g.10gb": 1.0, "mig-2g.20gb": 0.0, "cpu": 1.0}
    assert devices(granted(**amounts)) == {"gpu": 0.5, "mig-1g.10gb": 1.0}


@pytest.mark.parametrize(
    ("new", "alike"),
    [
        ({"cpu": 2.0, "gpu": 1.0}, True),
        ({"cpu": 1.0, "memory": 2.0, "gpu": 1.0}, True),
        ({"gpu": 1.0}, True),
        ({"cpu": 1.0, "gpu": 2.0}, False),
        ({"cpu": 1.0, "gpu": 1.0, "shm": 1.0}, False),
        ({"cpu": 1.0, "gpu": 1.0, "node": "n2"}, False),
        ({"cpu": 1.0, "gpu": 1.0, "gpu_ids": ("GPU-8",)}, False),
    ],
)
def test_differ_in_compute(new: dict[str, Any], alike: bool):
    """CPUs and memory may differ, devices and all else may not."""
    assert differ_in_compute(granted(cpu=1.0, gpu=1.0, gpu_ids=("GPU-7",)), granted(**{"gpu_ids": ("GPU-7",), **new})) is alike
