"""Volumes as agents write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.errors import InvalidSpec
from airflow_dla.runtime.volumes import Volume, is_in, overlap, read


def by_name(source: str, where: str) -> tuple[str, str]:
    """Let everything be a name."""
    return source, ""


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"/data": "/srv/../etc"}, "without '.', '..' .*write '/etc'"),
        ({"/data": "//etc"}, "doubled slashes; write '/etc'"),
        ({"/data": "/srv:z"}, "'z' in '/srv:z' must be ro or rw"),
        ({"/data": {"source": "/srv", "mode": "ro"}}, "unknown key 'mode'"),
        ({"/data": {}}, "source must be a non-empty string"),
        ({"/data": 3}, "must be a non-empty string"),
        ({"data": "/srv"}, "'data' must be an absolute folder in the container"),
        ({"/": "/srv"}, "/ cannot be mounted over"),
        ({"/dla/in": "/srv"}, "/dla/in cannot be mounted over, /dla is the job's own"),
        ({"/opt": "/srv"}, "/opt cannot be mounted over"),
        ({"/proc/x": "/srv"}, "/proc is"),
        ({"/a/../dla": "/srv"}, "without"),
        ({"/a": "/srv", "/a/": "/srv"}, "/a is mounted twice"),
        ({"/data": "/srv:/data:ro"}, "'/data:ro' in '/srv:/data:ro' must be ro or rw; write /srv:ro"),
        ({"/data": "pvc:cache:x"}, "'x' in 'pvc:cache:x' must be ro or rw; write pvc:cache:ro"),
    ],
)
def test_refused(given: dict[str, Any], told: str):
    """A path that could mean another folder, and a target that is taken, are refused with the way to write it."""
    with pytest.raises(InvalidSpec, match=told):
        read(given, by_name)


PATHS = st.lists(st.sampled_from(["a", "b", "ab", "c.d"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(PATHS, PATHS)
def test_overlap(one: str, other: str):
    """Folders overlap exactly if the parts of one begin with those of the other; either way round."""
    first, second = one.strip("/").split("/"), other.strip("/").split("/")
    first, second = [part for part in first if part], [part for part in second if part]
    shorter = min(len(first), len(second))
    assert overlap(one, other) is overlap(other, one) is (first[:shorter] == second[:shorter])
    assert is_in(one, other) is (first[: len(second)] == second)


@given(st.text(max_size=12), st.text(max_size=12))
def test_whatever_is_read_is_plain(target: str, source: str):
    """Whatever is let through has an absolute target and no way upwards."""
    try:
        found = read({target: source}, by_name)
    except InvalidSpec:
        return
    for volume in found:
        assert isinstance(volume, Volume)
        assert volume.target.startswith("/")
        assert not {"..", "."} & {*volume.target.split("/"), *(volume.source.split("/") if volume.is_folder else ())}
