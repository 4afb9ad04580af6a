"""Settings of an engine or a cluster, as every place reads them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.docker import overrides as of_engines
from airflow_dla.runtime.kubernetes import overrides as of_clusters
from airflow_dla.runtime.overrides import capability

PLACES = [of_engines, of_clusters]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"environment": {"A": "b"}}, r"'environment' is never open; use agent\(env"),
        ({"memory": "1g"}, "what is granted"),
        ({"user": "root"}, r"overrides\.user must be uid:gid in numbers"),
        ({"user": "00:0"}, "uid:gid in numbers"),
        ({"privilegd": True}, "did you mean 'privileged'"),
        ({"dns": "10.0.0.1"}, "must be a list"),
    ],
)
def test_refused(place: Any, overrides: dict[str, Any], told: str):
    """What no place opens, none knows or none can read is refused with what to write instead."""
    with pytest.raises(InvalidSpec, match=told):
        place.asked(overrides)


@pytest.mark.parametrize("place", PLACES)
def test_no_setting_is_both_open_and_closed(place: Any):
    """What a place knows it reads, or never opens."""
    for name in place.SETTINGS:
        with pytest.raises(InvalidSpec) as caught:
            place.asked({name: object()})
        assert "never open" not in str(caught.value)


def test_capabilities():
    """With the kernel's prefix or without, in any case."""
    assert capability("CAP_sys_ptrace", "x") == capability("SYS_PTRACE", "x") == "SYS_PTRACE"
