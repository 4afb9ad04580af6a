"""The digits agent: real data, real training, the same model bit by bit."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from airflow_dla.agents.job import Job
from airflow_dla.demo import digits_agent

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]

#: A few epochs show how training goes on; a whole one shows how well it ends.
QUICK = {"epochs": 3}


@pytest.fixture(scope="module")
def prepared() -> Job:
    """Split the digits once."""
    job = Job.fake(seed=7)
    job.metrics = digits_agent.prepare(job)
    return job


@pytest.fixture(scope="module")
def trained(prepared: Job) -> Job:
    """Train as the demo does, with one thread."""
    job = Job.fake({"train": prepared.outputs["train"].path}, seed=7)
    digits_agent.train(job)
    return job


START = """
import os, signal, sys
from pathlib import Path
from airflow_dla.agents.job import Checkpoint, Job
from airflow_dla.demo import digits_agent
"""
KILLED = """
job = Job.fake({"train": sys.argv[1]}, {"epochs": 3}, seed=3)
job.checkpoint = Checkpoint(Path(sys.argv[2]), Path(sys.argv[2]), lambda kind, **_: None)
job.log = lambda *, step, loss: os.kill(os.getpid(), signal.SIGKILL) if step == 3 else None
digits_agent.train(job)
"""
TWO_THREADS = """
models = set()
for _ in range(2):
    job = Job.fake({"train": sys.argv[1]}, {"epochs": 2}, seed=3, cpus=2)
    digits_agent.train(job)
    models.add((job.outputs["model"].path / "model.safetensors").read_bytes())
print("equal" if len(models) == 1 else "different")
"""


def _child(prepared: Job, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a process of its own; threads that wait there leave the CPUs to others."""
    command = [sys.executable, "-c", START + program, str(prepared.outputs["train"].path), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, env=environment)


def _train(prepared: Job, job: Job) -> bytes:
    job.inputs = Job.fake({"train": prepared.outputs["train"].path}).inputs
    digits_agent.train(job)
    return (job.outputs["model"].path / "model.safetensors").read_bytes()


def test_a_third_is_held_out_in_proportion(prepared: Job):
    """Every digit is in both parts, no image in two, and pixels go from 0 to 1."""
    train, test = (load_file(prepared.outputs[name].path / "tensors.safetensors") for name in ("train", "test"))
    assert len(train["digit"]) + len(test["digit"]) == 1797
    assert prepared.metrics == {"train": len(train["digit"]), "test": len(test["digit"])}
    assert len(test["digit"]) == pytest.approx(1797 / 3, abs=5)
    shares = np.bincount(test["digit"]) / (np.bincount(test["digit"]) + np.bincount(train["digit"]))
    assert shares == pytest.approx(np.full(10, 1 / 3), abs=0.004)
    assert (train["pixels"].min(), train["pixels"].max(), train["pixels"].dtype) == (0.0, 1.0, np.float32)


def test_a_split_depends_on_the_seed_alone(prepared: Job):
    """Equal seeds give equal bytes, others do not."""
    same, other = Job.fake(seed=7), Job.fake(seed=8)
    for job in (same, other):
        digits_agent.prepare(job)
    read = [(job.outputs["test"].path / "tensors.safetensors").read_bytes() for job in (prepared, same, other)]
    assert read[0] == read[1] != read[2]


def test_the_held_out_third_is_recognised(prepared: Job, trained: Job):
    """The accuracy that the demo promises; the champion is measured beside it."""
    inputs = {"model": trained.outputs["model"].path, "test": prepared.outputs["test"].path}
    measured = digits_agent.evaluate(Job.fake(inputs))
    assert measured["accuracy"] >= 0.97
    assert 0.9 <= measured["worst_recall"] <= measured["accuracy"]
    assert 0 < measured["cross_entropy"] < 0.3
    both = digits_agent.evaluate(Job.fake({**inputs, "champion": inputs["model"]}))
    assert both == {**measured, "champion.accuracy": measured["accuracy"]}


def test_a_model_comes_with_its_signature(trained: Job):
    """Weights, what goes in and out, and how it was made; no pickle."""
    folder = trained.outputs["model"].path
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "signature.json"]
    signature = json.loads((folder / "signature.json").read_text())
    assert signature["inputs"] == [{"name": "pixels", "dtype": "float32", "shape": [-1, 64]}]
    assert [output["name"] for output in signature["outputs"]] == ["digit", "probability"]
    assert json.loads((folder / "config.json").read_text()) == {"batch": 64, "epochs": 20, "lr": 0.004, "pixels": "0 to 1", "seed": 7}


def test_training_is_seen(trained: Job):
    """Each epoch says its loss, and it falls."""
    assert [line["step"] for line in trained.logged] == list(range(1, 21))
    assert trained.logged[-1]["loss"] < trained.logged[0]["loss"] / 3


def test_every_image_gets_a_digit(prepared: Job, trained: Job):
    """One line for each, and nearly all right."""
    job = Job.fake({"model": trained.outputs["model"].path, "data": prepared.outputs["test"].path})
    said = digits_agent.infer(job)
    with (job.outputs["predictions"].path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = prepared.outputs["test"].path / "tensors.safetensors"
    right = np.mean(np.array([int(row["digit"]) for row in rows]) == load_file(expected)["digit"])
    assert [int(row["index"]) for row in rows] == list(range(int(said["images"])))
    assert right >= 0.97
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)


def test_images_without_digits_are_recognised_too(tmp_path: Path, trained: Job):
    """That is what inference is for."""
    np.save(tmp_path / "pixels.npy", np.zeros((3, 64), dtype=np.float32))
    assert digits_agent.infer(Job.fake({"model": trained.outputs["model"].path, "data": tmp_path}))["images"] == 3


def test_equal_seeds_give_equal_models(prepared: Job):
    """Bit by bit; another seed gives another."""
    first, same, other = (_train(prepared, Job.fake(args=QUICK, seed=seed)) for seed in (1, 1, 2))
    assert first == same != other


def test_two_threads_give_equal_models(prepared: Job):
    """For each number of threads there is one model."""
    assert _child(prepared, TWO_THREADS).stdout == b"equal\n"


def test_a_stopped_training_goes_on_where_it_was(prepared: Job):
    """It returns without a model; the next attempt ends with the model of one that was never stopped."""
    whole = _train(prepared, Job.fake(args=QUICK, seed=3))
    stopped = Job.fake(args=QUICK, seed=3)
    stopped.log = lambda **_: setattr(stopped._stop, "asked", True)  # asked during the first epoch
    stopped.inputs = Job.fake({"train": prepared.outputs["train"].path}).inputs
    assert digits_agent.train(stopped) == {}
    assert not any(stopped.outputs["model"].path.iterdir())
    resumed = Job.fake(args=QUICK, seed=3)
    resumed.checkpoint = stopped.checkpoint
    assert _train(prepared, resumed) == whole
    assert [line["step"] for line in resumed.logged] == [2, 3]


def test_a_killed_training_goes_on_where_it_was(prepared: Job, tmp_path: Path):
    """SIGKILL in the last epoch: the model is the one that nobody killed."""
    whole = _train(prepared, Job.fake(args=QUICK, seed=3))
    assert _child(prepared, KILLED, str(tmp_path)).returncode == -signal.SIGKILL
    resumed = Job.fake(args=QUICK, seed=3)
    resumed.checkpoint = type(resumed.checkpoint)(tmp_path, tmp_path, lambda kind, **_: None)
    assert _train(prepared, resumed) == whole
    assert [line["step"] for line in resumed.logged] == [3]
