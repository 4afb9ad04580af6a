"""Claims and folders of nodes."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.kubernetes.volumes import mounted, volumes


@pytest.mark.parametrize(
    ("written", "source", "folder", "read_only"),
    [
        ("pvc:cache", "cache", "", False),
        ("pvc:cache:ro", "cache", "", True),
        ("pvc:cache/models/llm:rw", "cache", "models/llm", False),
        ({"source": "pvc:cache/models", "read_only": True}, "cache", "models", True),
        ("/srv/data:ro", "/srv/data", "", True),
        ("/srv/data", "/srv/data", "", False),
    ],
)
def test_what_can_be_mounted(written: Any, source: str, folder: str, read_only: bool):
    """A claim, a folder of one, or a folder of the node; read-only where it says so."""
    (found,) = volumes({"/data": written})
    assert (found.target, found.source, found.folder, found.read_only) == ("/data", source, folder, read_only)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"/data": "cache"}, r"volumes\./data: 'cache' is no volume of a cluster; write 'pvc:cache' for a claim"),
        ({"/data": "pvc:"}, r"must be the name of an object of the cluster.*got 'pvc:'"),
        ({"/data": "pvc:Cache"}, r"must be the name of an object of the cluster"),
        ({"/data": "pvc:cache/../other"}, r"must be written without '\.', '\.\.' and doubled slashes"),
    ],
)
def test_what_cannot(given: dict[str, Any], said: str):
    """The message names the folder, the value and the rule."""
    with pytest.raises(InvalidSpec, match=said):
        volumes(given)


def test_a_claim_is_one_volume_of_a_pod():
    """However many of its folders are mounted; a folder of a node is not made where it is missing."""
    origins, mounts = mounted(volumes({"/a": "pvc:cache/a", "/b": "pvc:cache/b:ro", "/c": "/srv/c:ro"}))
    assert origins == [
        {"name": "asked-0", "persistentVolumeClaim": {"claimName": "cache"}},
        {"name": "asked-1", "hostPath": {"path": "/srv/c", "type": "Directory"}},
    ]
    assert mounts == [
        {"name": "asked-0", "mountPath": "/a", "subPath": "a"},
        {"name": "asked-0", "mountPath": "/b", "subPath": "b", "readOnly": True},
        {"name": "asked-1", "mountPath": "/c", "readOnly": True},
    ]
