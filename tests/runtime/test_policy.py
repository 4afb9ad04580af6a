"""What every place that runs images refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from launches import launch

from airflow_dla.errors import LaunchRefused
from airflow_dla.runtime.policy import GUARDED, image_of, refuse_folder
from airflow_dla.runtime.volumes import Volume
from airflow_dla.specs import PlaceSpec

Make = Callable[..., Any]


def place(policy: dict[str, Any] | None = None, **fields: Any) -> PlaceSpec:
    """Return a place of a policy and other fields."""
    return PlaceSpec.from_mapping({"name": "gpu1", "kind": "docker", "policy": policy or {}, **fields})


def test_image(job: Make):
    """The agent's image goes before the place's, which needs no pattern; none at all is refused."""
    named, unnamed = launch(job(), image="python:3.12"), launch(job(), image=None)
    assert image_of(named, place(image="base")) == "python:3.12"
    assert image_of(unnamed, place({"images": ["python:*"]}, image="base")) == "base"
    with pytest.raises(LaunchRefused, match=r"'gpu1' has none of its own; name one with agent\(image="):
        image_of(unnamed, place())
    with pytest.raises(LaunchRefused, match=r"'evil.io/x' is not allowed on place 'gpu1', which allows python:\*"):
        image_of(launch(job(), image="evil.io/x"), place({"images": ["python:*"]}))


@pytest.mark.parametrize(
    ("mounts", "source", "told"),
    [
        ([], "/srv/data:ro", "is not allowed on place 'gpu1', which allows none"),
        (["/srv/*"], "/srv/data:ro", None),
        (["/srv/*"], "/srv/a/b:ro", None),
        (["/srv/*"], "/srv/data", "may only be read .*'/srv/data:ro'"),
        (["/srv/*:rw"], "/srv/data", None),
        (["/srv/*:ro"], "/srv/data", "may only be read"),
        (["/srv/*"], "/srv:ro", "is not allowed"),
        (["*:rw"], "/etc:ro", "word for word"),
        (["*:rw"], "/", "word for word"),
        (["*:rw"], "/var", "word for word"),
        (["*:rw"], "/dev/shm", "word for word"),
        (["*:rw"], "/run/docker.sock", "word for word"),
        (["*:rw"], "/srv/docker.sock", "word for word"),
        (["*:rw"], "/work/dk", "word for word"),
        (["*:rw"], "/jobs", "word for word"),
        (["*:rw"], "/jobs/x.1", "word for word"),
        (["*:rw"], "/home/me/data", None),
        (["/etc/ssl/certs"], "/etc/ssl/certs:ro", None),
        (["/etc/ssl/certs"], "/etc/ssl/certs/x:ro", "word for word"),
        (["/run/docker.sock:rw"], "/run/docker.sock", None),
    ],
)
def test_host_folders(mounts: list[str], source: str, told: str | None):
    """A host folder needs a pattern, one that hands over the host its own name, and writing is allowed by itself."""
    where = place({"mounts": mounts}, url="unix:///work/dk/engine.socket")
    path, _, option = source.partition(":")
    asked = Volume(target="/data", source=path, read_only=option == "ro")
    if told is None:
        refuse_folder(asked, path, "", where, [*GUARDED, "/jobs"])
        return
    with pytest.raises(LaunchRefused, match=told):
        refuse_folder(asked, path, "", where, [*GUARDED, "/jobs"])
