"""The job object, as users test their own functions with it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_dla.agents import Job
from airflow_dla.agents.protocol import JobError, JobFile, JobFolder, write_json


def train(job: Job):
    """Stand for a user's function."""
    numbers = job.inputs["train"].arrays()["x"]
    for step in range(job.args["epochs"]):
        job.log(step=step, loss=float(numbers.sum()) / (step + 1))
    job.outputs["model"].write_tensors({"w": numbers})
    return {"accuracy": 1.0}


def test_fake_runs_a_function(tmp_path: Path):
    """Inputs are read where they are, metrics are remembered, outputs can be looked at; all of it goes with the job."""
    np.savez(tmp_path / "a.npz", x=np.arange(3.0))
    job = Job.fake(inputs={"train": tmp_path / "a.npz"}, args={"epochs": 2})
    assert train(job) == {"accuracy": 1.0}
    assert job.logged == [{"step": 0, "loss": 3.0}, {"step": 1, "loss": 1.5}]
    folder = job.outputs["model"].path
    assert (folder / "tensors.safetensors").stat().st_size > 0
    assert (job.rank, job.world_size, job.gpus, job.threads, job.stopping) == (0, 1, (), 1, False)
    del job
    gc.collect()
    assert not folder.exists()


def test_arrays_of_every_form(tmp_path: Path):
    """npy, npz and safetensors are read; objects in them are refused."""
    np.save(tmp_path / "a.npy", np.ones(2))
    assert list(Job.fake(inputs={"x": tmp_path}).inputs["x"].arrays()) == ["a"]
    job = Job.fake()
    job.outputs["t"].write_tensors({"b": np.ones((2, 2)), "a": np.zeros(1)}, metadata={"kind": "test"})
    again = Job.fake(inputs={"x": job.outputs["t"].path})
    assert sorted(again.inputs["x"].arrays()) == ["a", "b"]
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        Job.fake(inputs={"x": tmp_path}).inputs["x"].arrays()


def test_tensors_are_written_alike():
    """Equal tensors give equal bytes, from numpy and from torch, in any order of names."""
    torch = pytest.importorskip("torch")
    job = Job.fake()
    job.outputs["a"].write_tensors({"x": np.ones(2, np.float32), "y": np.zeros(1, np.float32)})
    job.outputs["b"].write_tensors({"y": torch.zeros(1), "x": torch.ones(2)})
    written = [(job.outputs[name].path / "tensors.safetensors").read_bytes() for name in "ab"]
    assert written[0] == written[1]
    with pytest.raises(JobError, match="got z"):
        job.outputs["a"].write_tensors({"z": [1, 2]})


def test_stream(tmp_path: Path):
    """Files are opened one after the other; a URI is read where it is."""
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    assert [file.read() for file in Job.fake(inputs={"x": tmp_path}).inputs["x"].stream()] == [b"1", b"2"]
    far = Job.fake(inputs={"x": f"file://{tmp_path}/a"}).inputs["x"]
    assert [file.read() for file in far.stream()] == [b"1"]
    with pytest.raises(JobError, match="has no path"):
        far.path  # noqa: B018


def test_frame(tmp_path: Path):
    """Tables are read and written with pandas, or the error says how to get it."""
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    job = Job.fake(inputs={"x": tmp_path})
    try:
        import pandas as pd  # noqa: F401, PLC0415
    except ModuleNotFoundError:
        with pytest.raises(JobError, match="pip install pandas"):
            job.inputs["x"].frame()
        return
    table = job.inputs["x"].frame()
    job.outputs["out"].write_frame(table, "t.csv")
    assert (job.outputs["out"].path / "t.csv").read_text() == "x,y\n1,2\n"


def test_nothing_to_read(tmp_path: Path):
    """A folder without tables or arrays is refused with what it holds."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(JobError, match=r"arrays\(\) reads .safetensors, .npz, .npy; .* holds notes.txt"):
        Job.fake(inputs={"x": tmp_path}).inputs["x"].arrays()
    with pytest.raises(JobError, match="write_frame writes"):
        Job.fake().outputs["x"].write_frame(None, "a.xls")


def test_checkpoints(tmp_path: Path):
    """The newest whole one is loaded, from a function, a file or a folder; two are kept at most."""
    job = Job.fake()
    assert job.checkpoint.load() is None
    job.checkpoint.save(lambda folder: (folder / "s").write_text("1"))
    (tmp_path / "s").write_text("2")
    job.checkpoint.save(tmp_path / "s")
    job.checkpoint.save(tmp_path)
    assert (job.checkpoint.load() / "s").read_text() == "2"

    def broken(folder: Path) -> None:
        (folder / "s").write_text("half")
        raise ValueError("disk")

    with pytest.raises(ValueError, match="disk"):
        job.checkpoint.save(broken)
    assert (job.checkpoint.load() / "s").read_text() == "2"
    assert len([path for path in job.checkpoint.load().parent.iterdir() if path.name.isdigit()]) == 2


def test_plain_checkpoint_folder():
    """Without saved versions the plain folder is the checkpoint."""
    job = Job.fake()
    (job.checkpoint.path / "s").write_text("1")
    assert job.checkpoint.load() == job.checkpoint.path


@pytest.mark.parametrize(("name", "value"), [("loss", "x"), ("loss", [1, 2]), ("", 1), ("a/b", 1), ("loss", np.zeros(2))])
def test_metrics_are_numbers_with_names(name: str, value: Any):
    """What is no number, or has no proper name, is refused at once."""
    with pytest.raises(JobError, match="metric"):
        Job.fake().log(**{name: value})


def test_a_grant_that_changes_is_seen(tmp_path: Path) -> None:
    """What a job may use is read anew, with the threads that fit; GPUs stay what they were."""
    job = Job.fake(cpus=4)
    assert (job.grant, job.threads) == ({"cpu": 4}, 4)
    folder = JobFolder(tmp_path)
    file = JobFile("a.1", "n", "x:y", {"amounts": {"cpu": 4.0}, "gpu_ids": ["0"]}, "", "a")
    job = Job(file, folder, lambda *_, **__: None)
    write_json(folder.grant, {"amounts": {"cpu": 1.5}})
    assert (job.grant, job.threads, job.gpus) == ({"cpu": 1.5}, 2, ("0",))
