"""Names of images and the patterns of a policy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla.runtime.images import is_allowed, spellings

NAMES = st.from_regex(r"[g-z][a-z0-9]{0,8}(/[g-z][a-z0-9]{0,8})?(:[0-9.]{1,4})?", fullmatch=True)


@pytest.mark.parametrize(
    ("image", "pattern", "allowed"),
    [
        ("python", "python", True),
        ("python", "docker.io/library/python:latest", True),
        ("docker.io/python:3.8", "python:3.*", True),
        ("localhost/train", "train", False),
        ("gpu1:5000/team/train:7", "gpu1:5000/team/*", True),
        ("evil.io/gpu1/team/train", "gpu1/*", False),
        ("python:3.8@sha256:00", "python:3.*", False),
        ("python:3.8@sha256:00", "python@*", True),
        ("0a1b2c", "docker.io/*", False),
        ("0a1b2c", "*", True),
        ("sha256:0a1b2c", "sha256:*", True),
        ("Python", "python", False),
    ],
)
def test_is_allowed(image: str, pattern: str, allowed: bool):
    """A pattern answers to every spelling of an image, and to nothing that only looks like one."""
    assert is_allowed(image, [pattern]) is allowed


@given(NAMES)
def test_spellings_name_one_image(image: str):
    """Each spelling of an image has the same full name."""
    full = spellings(image)[0]
    assert {spellings(name)[0] for name in spellings(image)} == {full}


@given(NAMES, st.sampled_from(["evil.io", "localhost", "gpu1:5000"]))
def test_other_registries_are_other_images(image: str, registry: str):
    """What is allowed from the hub is not allowed from elsewhere."""
    assert not is_allowed(f"{registry}/{image}", [*spellings(image), "docker.io/*"])
