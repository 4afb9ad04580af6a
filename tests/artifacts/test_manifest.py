"""Manifests: what is read, refused and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dla import artifacts
from airflow_dla.artifacts import FileEntry, Manifest
from airflow_dla.artifacts.manifest import inner_path
from airflow_dla.errors import InvalidSpec

_paths = st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1), min_size=1, max_size=3)


def entry(path: str = "a") -> FileEntry:
    """Return the entry of an empty file."""
    return FileEntry(path=path, size=0, sha256="0" * 64)


@given(st.lists(_paths.map("/".join), min_size=1, max_size=4, unique=True), st.randoms())
def test_the_order_of_files_does_not_matter(paths: list[str], chance: object) -> None:
    """Whatever order a file system lists them in, the digest is one."""
    good = [path for path in paths if not {".", ".."} & set(path.split("/"))] or ["a"]
    mixed = list(good)
    chance.shuffle(mixed)
    first, second = (Manifest(kind="model", files=tuple(map(entry, some))) for some in (good, mixed))
    assert first.digest == second.digest
    assert Manifest.from_mapping(first.to_mapping()) == first


@given(st.text(max_size=20))
def test_a_path_is_inside_or_refused(path: str) -> None:
    """No text names anything outside the folder."""
    try:
        parts = inner_path(path, "path").split("/")
    except InvalidSpec:
        return
    assert all(part not in {"", ".", ".."} and "\0" not in part for part in parts)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"files": []}, "at least one file"),
        ({"files": [{"path": "a", "size": 0, "sha256": "0" * 64}] * 2}, "'a' twice"),
        ({"files": [{"path": "a", "size": -1, "sha256": "0" * 64}]}, "size must be >= 0"),
        ({"files": [{"path": "a", "size": 0, "sha256": "xyz"}]}, "64 hexadecimal"),
        ({"files": [{"path": "a", "size": 0, "sha256": "0" * 64, "mode": 1}]}, "unknown key 'mode'"),
        ({"protocol": 0}, "protocol"),
        ({"kind": ""}, "kind"),
        ({"meta": []}, "meta"),
    ],
)
def test_what_breaks_a_rule_is_refused(wrong: dict, said: str) -> None:
    """The message names the field."""
    good = {"kind": "model", "files": [entry().to_mapping()]}
    with pytest.raises(InvalidSpec, match=said):
        Manifest.from_mapping({**good, **wrong})


def test_every_public_name_exists() -> None:
    """What the package promises it has."""
    assert all(hasattr(artifacts, name) for name in artifacts.__all__)
