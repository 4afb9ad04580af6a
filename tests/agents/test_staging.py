"""The keeper's way to the store: verified in, whole out, patient, and told in the author's words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import job_file

from airflow_dla.agents.protocol import JobError, JobFile, JobFolder
from airflow_dla.agents.staging import Staging, kind_of
from airflow_dla.artifacts import Store
from airflow_dla.specs import ModelRef, UriRef


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store of its own."""
    return Store(str(tmp_path / "store"))


def staging(tmp_path: Path, store: Store, url: str = "", **fields: Any) -> Staging:
    """Return the staging of a job."""
    folder = tmp_path / "job"
    folder.mkdir(exist_ok=True)
    (folder / "job.json").write_text(json.dumps(job_file(**{"store": url or store.url, **fields}).to_mapping()))
    return Staging(JobFile.read(folder / "job.json"), JobFolder(folder), {}, patience=0.0)


def data(tmp_path: Path, text: str = "1") -> Path:
    """Return a folder with one file."""
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    (folder / "x").write_text(text)
    return folder


def test_inputs_and_code(tmp_path: Path, store: Store):
    """Inputs lie under in/, code is a copy that may be written without touching the store."""
    ref = store.publish(data(tmp_path), kind="dataset")
    code = store.publish(data(tmp_path, "print()"), kind="code")
    staging(tmp_path, store, inputs={"train": ref}, code=code).fetch(restore=False)
    assert (tmp_path / "job" / "in" / "train" / "x").read_text() == "1"
    (tmp_path / "job" / "code" / "x").write_text("changed")
    store.verify(code.digest)


def test_checkpoint_is_restored_as_plain_files(tmp_path: Path, store: Store):
    """A restored checkpoint may be written without touching the store; a damaged one is passed over for the one before."""
    store.save_checkpoint("job", data(tmp_path, "old"))
    new = store.save_checkpoint("job", data(tmp_path, "new"))
    job = staging(tmp_path, store)
    job.fetch(restore=True)
    restored = tmp_path / "job" / "checkpoint" / "x"
    assert restored.read_text() == "new"
    restored.write_text("changed")
    store.verify(new.digest)
    kept = store.folder(new.digest)
    assert kept is not None
    (kept / "x").chmod(0o644)
    (kept / "x").write_text("bad")
    restored.unlink()
    job.fetch(restore=True)
    assert restored.read_text() == "old"


def test_outputs(tmp_path: Path, store: Store):
    """Outputs get their kind from their name; one file in place of the folder becomes a folder of one file."""
    job = staging(tmp_path, store, outputs=("model", "note"))
    (tmp_path / "job" / "out" / "model").mkdir(parents=True)
    (tmp_path / "job" / "out" / "model" / "w").write_text("1")
    (tmp_path / "job" / "out" / "note").write_text("hello")
    found = job.publish()
    assert [found[name].get("kind", "artifact") for name in ("model", "note")] == ["model", "artifact"]
    store.fetch(found["note"]["digest"], tmp_path / "got")
    assert (tmp_path / "got" / "note").read_text() == "hello"


def test_missing_and_damaged_inputs_are_named(tmp_path: Path, store: Store):
    """An input that is gone, damaged, changed or was never resolved is told by its name."""
    ref = store.publish(data(tmp_path), kind="dataset")
    gone = dataclasses.replace(ref, digest="sha256:" + "0" * 64)
    with pytest.raises(JobError, match="input 'train': there is no artifact sha256:000"):
        staging(tmp_path, store, inputs={"train": gone}).fetch(restore=False)
    kept = store.folder(ref.digest)
    assert kept is not None
    (kept / "x").chmod(0o644)
    (kept / "x").write_text("2")
    with pytest.raises(JobError, match=r"input 'train': artifact .* is damaged"):
        staging(tmp_path, store, inputs={"train": ref}).fetch(restore=False)
    with pytest.raises(JobError, match="'m@champion', which was not resolved"):
        staging(tmp_path, store, inputs={"m": ModelRef(model="m@champion")}).fetch(restore=False)
    staging(tmp_path, store, inputs={"m": ModelRef(model="m@champion", missing="skip")}).fetch(restore=False)


def test_uris(tmp_path: Path, store: Store):
    """A URI is copied when asked for, else only its pin is checked; one that changed is refused."""
    source = data(tmp_path, "far")
    copy = UriRef(uri=f"file://{source}/x", mode="copy")
    stream = UriRef(uri=f"file://{source}/x", pin={"size": 999, "mtime": 1.0})
    staging(tmp_path, store, inputs={"far": copy}).fetch(restore=False)
    assert (tmp_path / "job" / "in" / "far" / "x").read_text() == "far"
    with pytest.raises(JobError, match="input 'near'"):
        staging(tmp_path, store, inputs={"near": stream}).fetch(restore=False)


def test_store_out_of_reach(tmp_path: Path, store: Store):
    """A store that cannot take outputs is told before the work starts, as nobody's fault."""
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="outputs") as caught:
        staging(tmp_path, store, url=f"file://{tmp_path}/file/store", outputs=("model",)).fetch(restore=False)
    assert caught.value.reason == "lost"


def test_kinds():
    """The usual names of outputs say what they are."""
    assert [kind_of(name) for name in ("model", "report", "train", "other")] == ["model", "report", "dataset", "artifact"]
