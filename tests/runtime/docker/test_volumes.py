"""Volumes on an engine."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.docker.volumes import mount, volumes


def test_forms():
    """A folder, a named volume and a mapping are all mounts of the engine."""
    found = volumes({"/c": {"source": "/srv/c", "read_only": "true"}, "/a/": "/srv/a/:rw", "/b": "cache"})
    assert [mount(volume) for volume in found] == [
        {"Type": "bind", "Source": "/srv/a", "Target": "/a", "ReadOnly": False},
        {"Type": "volume", "Source": "cache", "Target": "/b", "ReadOnly": False},
        {"Type": "bind", "Source": "/srv/c", "Target": "/c", "ReadOnly": True},
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"/data": "./data"}, "'./data' must be an absolute folder"),
        ({"/data": "~/data"}, "must be an absolute folder"),
        ({"/data": "pvc:cache"}, "'pvc:cache' must be an absolute folder of the engine's host, or a volume's name"),
    ],
)
def test_refused(given: dict[str, Any], told: str):
    """What is no folder and no volume's name is refused with the way to write it."""
    with pytest.raises(InvalidSpec, match=told):
        volumes(given)
