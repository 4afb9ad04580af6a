"""The job behind SaveModelOperator."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_dla.agents import Job
from airflow_dla.agents.protocol import JobError
from airflow_dla.agents.save_model import read_signature, refuse_pickle, save


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a folder for a model's files."""
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def test_writes_the_signature(model: Path):
    """A model of safetensors and signature.json gives inputs, outputs and weights."""
    Job.fake().outputs["x"].__class__("m", model).write_tensors({"w": np.zeros((2, 3), np.float32)})
    said = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 3]}],
        "outputs": [{"name": "y", "dtype": "int64", "shape": [None]}],
    }
    (model / "signature.json").write_text(json.dumps(said))
    job = Job.fake(inputs={"model": model}, outputs=("signature",))
    assert save(job)["files"] == 2
    written = json.loads((job.outputs["signature"].path / "signature.json").read_text())
    assert written == {**said, "weights": [{"name": "w", "dtype": "F32", "shape": [2, 3]}]}


def _torch_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("model.pkl", lambda path: path.write_bytes(b"anything")),
        ("model.pkl.gz", lambda path: path.write_bytes(b"anything")),
        ("weights.bin", lambda path: path.write_bytes(pickle.dumps({"a": 1}))),
        ("weights.pt", _torch_zip),
        ("renamed.safetensors", _torch_zip),
        ("objects.npy", lambda path: np.save(path, np.array([{}], dtype=object))),
        ("objects.npz", lambda path: np.savez(path, a=np.array([{}], dtype=object))),
    ],
)
def test_refuses_pickles(model: Path, name: str, write: Callable[[Path], Any]):
    """A pickle is found by name, by its first bytes or inside an archive, and the way out is named."""
    write(model / name)
    with pytest.raises(JobError, match=f"(?s){name}.*is a pickle.*safetensors"):
        save(Job.fake(inputs={"model": model}))


def test_takes_plain_files(model: Path):
    """Plain bytes called .bin or .pt are no pickles."""
    for name in ("weights.bin", "weights.pt", "model.onnx", "arrays.npz"):
        path = model / name
        if name.endswith("npz"):
            np.savez(path, a=np.zeros(3))
        else:
            path.write_bytes(b"\x08\x07plain")
        refuse_pickle(path, name)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"inputs": [{"name": "x"}], "outputs": []}',
        "nonsense",
        '{"inputs": [{"name": "x", "dtype": "f", "shape": 3}], "outputs": []}',
    ],
)
def test_refuses_a_bad_signature(model: Path, text: str):
    """A signature.json that breaks the form is refused with the form."""
    (model / "signature.json").write_text(text)
    with pytest.raises(JobError, match=r"signature\.json must be"):
        read_signature(model)


@pytest.mark.parametrize("data", [b"", b"abc", b"\xff" * 16, b"\x02\0\0\0\0\0\0\0[]"])
def test_refuses_a_damaged_safetensors_file(model: Path, data: bytes):
    """A file that only has the name of safetensors is refused."""
    (model / "a.safetensors").write_bytes(data)
    with pytest.raises(JobError, match="no safetensors file"):
        read_signature(model)


def test_refuses_a_model_without_files(model: Path):
    """An empty model is refused."""
    with pytest.raises(JobError, match="no files"):
        save(Job.fake(inputs={"model": model}))
