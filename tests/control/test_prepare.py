"""Tests of what is refused before anything is launched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fixtures_workspace import job_spec

from airflow_dla.control import Workspace, check_entrypoint, resolve_inputs, ship_code
from airflow_dla.control.prepare import MAX_CODE
from airflow_dla.errors import InvalidSpec, NotFound
from airflow_dla.specs import ArtifactRef, Entrypoint, ModelRef, UriRef


def entry(raw: object) -> Entrypoint:
    """Read an entrypoint."""
    return Entrypoint.parse(raw, "entrypoint")


def test_an_input_that_does_not_exist_is_refused(workspace: Workspace) -> None:
    """The digest and the store are named, and what would do."""
    missing = ArtifactRef(digest="sha256:" + "0" * 64)
    with pytest.raises(NotFound, match=r"input 'train'.*0000.*run the task that makes it again"):
        resolve_inputs(workspace, {"train": missing})


def test_an_alias_becomes_the_artifact_behind_it(workspace: Workspace, tmp_path: Path) -> None:
    """The job gets the version's bytes; the lineage remembers which version it was."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"w")
    made = workspace.store.publish(tmp_path / "model", kind="model")
    version = workspace.registry.register("digits", digest=made.digest, signature={}, metrics={}, lineage={}, registered_by="j.1")
    workspace.registry.promote("digits", version.number, "champion", interval_end=None, by="t", why="t")
    inputs, versions = resolve_inputs(workspace, {"model": ModelRef(model="digits@champion")})
    assert isinstance(inputs["model"], ArtifactRef)
    assert inputs["model"].digest == made.digest
    assert versions == {"model": "digits@1"}


def test_a_missing_model_is_left_out_when_that_is_allowed(workspace: Workspace) -> None:
    """``missing="skip"`` leaves the input out, ``"error"`` fails."""
    assert resolve_inputs(workspace, {"champion": ModelRef(model="digits@champion", missing="skip")}) == ({}, {})
    with pytest.raises(NotFound):
        resolve_inputs(workspace, {"champion": ModelRef(model="digits@champion")})


def test_an_outside_uri_is_pinned(workspace: Workspace, tmp_path: Path) -> None:
    """What was seen first is what later reads are held against."""
    (tmp_path / "data.csv").write_text("1\n")
    inputs, _ = resolve_inputs(workspace, {"data": UriRef(uri=f"file://{tmp_path}/data.csv")})
    assert isinstance(inputs["data"], UriRef)
    assert inputs["data"].pin


def test_the_same_code_has_the_same_digest_and_an_edit_another(workspace: Workspace, tmp_path: Path) -> None:
    """What is not code is left out: caches, repositories, compiled files."""
    folder = tmp_path / "code"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "train.py").write_text("x = 1\n")
    first = ship_code(workspace, folder)
    (folder / "__pycache__" / "train.pyc").write_bytes(b"junk")
    assert ship_code(workspace, folder) == first
    (folder / "train.py").write_text("x = 2\n")
    edited = ship_code(workspace, folder)
    assert first is not None
    assert edited is not None
    assert edited.digest != first.digest


def test_a_code_folder_that_is_too_large_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    """The largest file is named, and three ways out."""
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(MAX_CODE + 1)
    with pytest.raises(InvalidSpec, match=r"weights\.bin.*code='src'"):
        ship_code(workspace, tmp_path)


def test_a_missing_module_is_found_missing_without_importing(tmp_path: Path) -> None:
    """A module that would fail on import is only looked at."""
    (tmp_path / "heavy.py").write_text("import torch_that_is_not_here\n\ndef train(job):\n    pass\n")
    check_entrypoint(entry("heavy:train"), tmp_path)
    assert "heavy" not in sys.modules
    with pytest.raises(NotFound, match=r"no module 'missing'"):
        check_entrypoint(entry("missing:train"), tmp_path)
    with pytest.raises(NotFound, match=r"does not define 'tune'; it defines .*train"):
        check_entrypoint(entry("heavy:tune"), tmp_path)


@pytest.mark.parametrize("function", ["json:dumps", "airflow_dla.agents.save_model:save"])
def test_an_installed_module_will_do(tmp_path: Path, function: str) -> None:
    """Entrypoints may lie in installed packages, which are not imported either."""
    check_entrypoint(entry(function), tmp_path)


def test_syntax_errors_are_refused_with_their_line(tmp_path: Path) -> None:
    """A module that Python cannot read never reaches a job."""
    (tmp_path / "broken.py").write_text("def train(:\n")
    with pytest.raises(InvalidSpec, match="line 1"):
        check_entrypoint(entry("broken:train"), tmp_path)


def test_a_missing_script_or_program_is_refused(tmp_path: Path) -> None:
    """Commands are looked for in the code folder and on PATH."""
    (tmp_path / "train.py").touch()
    check_entrypoint(entry(["python", "train.py"]), tmp_path)
    check_entrypoint(entry(["sh", "-c", "true"]), tmp_path)
    with pytest.raises(NotFound, match=r"no file 'other\.py'"):
        check_entrypoint(entry(["python", "other.py"]), tmp_path)
    with pytest.raises(NotFound, match="no program 'no-such-program'"):
        check_entrypoint(entry(["no-such-program"]), tmp_path)


def test_code_in_an_image_is_not_looked_into() -> None:
    """With ``code=None`` everything is in the image."""
    check_entrypoint(entry("anything:at_all"), None)
    assert job_spec().code is None


def test_what_is_not_in_the_code_folder_may_be_in_the_image(tmp_path: Path) -> None:
    """PATH and packages of this host say nothing of an image's."""
    (tmp_path / "train.py").write_text("def train(job): ...\n")
    check_entrypoint(entry("megatron.pretrain:main"), tmp_path, in_image=True)
    check_entrypoint(entry(["no-such-program", "--fast"]), tmp_path, in_image=True)
    check_entrypoint(entry(["/opt/tool"]), tmp_path, in_image=True)
    check_entrypoint(entry(["python3.8", "-m", "pkg"]), tmp_path, in_image=True)


def test_what_is_in_the_code_folder_is_looked_into_also_for_an_image(tmp_path: Path) -> None:
    """The code folder comes first there too, and relative paths begin in it."""
    (tmp_path / "train.py").write_text("def train(job): ...\n")
    check_entrypoint(entry("train:train"), tmp_path, in_image=True)
    with pytest.raises(NotFound, match="does not define 'tune'"):
        check_entrypoint(entry("train:tune"), tmp_path, in_image=True)
    with pytest.raises(NotFound, match=r"no file 'other\.py'"):
        check_entrypoint(entry(["python", "other.py"]), tmp_path, in_image=True)
    with pytest.raises(NotFound, match=r"no program '\./run\.sh' in the code folder"):
        check_entrypoint(entry(["./run.sh"]), tmp_path, in_image=True)
