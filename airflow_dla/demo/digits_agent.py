"""A digit-recognition agent: handwritten digits of 8 by 8 pixels, told apart by a small convolutional network.

Four functions, one for each verb, as any agent has them; none knows of Airflow:

======== ======================== =======================================
verb     reads                    writes
======== ======================== =======================================
prepare  scikit-learn's digits    ``train`` (two thirds) and ``test``
train    ``train``                ``model``
evaluate ``model``, ``test``      metrics; also of ``champion``, if given
infer    ``model``, ``data``      ``predictions``
======== ======================== =======================================

Equal seeds and equal numbers of threads give equal models, bit by bit, also when a job
was killed in between: each epoch draws from a generator of its own, and a checkpoint
holds the weights and the optimizer.

References
----------
E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998: the 1,797 images that scikit-learn ships.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

SIDE = 8
CLASSES = 10
#: Pixels of the images that are shipped go from 0 to this.
WHITE = 16.0

SIGNATURE = {
    "inputs": [{"name": "pixels", "dtype": "float32", "shape": [-1, SIDE * SIDE]}],
    "outputs": [
        {"name": "digit", "dtype": "int64", "shape": [-1]},
        {"name": "probability", "dtype": "float32", "shape": [-1]},
    ],
}


def prepare(job: Any) -> dict[str, float]:
    """Split the digits into two thirds to train with and one third, held out, to test with.

    Every digit is in both in proportion; pixels become numbers from 0 to 1.
    """
    pixels, digits = load_digits(return_X_y=True)
    pixels = (pixels / WHITE).astype(np.float32)
    held_out = _one_in(3, digits, seed=job.seed)
    for name, chosen in (("train", ~held_out), ("test", held_out)):
        job.outputs[name].write_tensors({"pixels": pixels[chosen], "digit": digits[chosen].astype(np.int64)})
    return {"train": float((~held_out).sum()), "test": float(held_out.sum())}


def _one_in(share: int, digits: np.ndarray, *, seed: int) -> np.ndarray:
    """Mark one image in so many of each digit."""
    chance = np.random.default_rng(seed)
    marked = np.zeros(len(digits), dtype=bool)
    for digit in np.unique(digits):
        mine = chance.permutation(np.flatnonzero(digits == digit))
        marked[mine[: round(len(mine) / share)]] = True
    return marked


def train(job: Any) -> dict[str, float]:
    """Train the network, one checkpoint for each epoch.

    Arguments: ``epochs`` (20), ``batch`` (64) and the largest learning rate ``lr`` (0.004).
    """
    _be_deterministic(job.threads)
    epochs, batch, rate = int(job.args.get("epochs", 20)), int(job.args.get("batch", 64)), float(job.args.get("lr", 4e-3))
    images, digits = _tensors(job.inputs["train"].arrays())
    network = _network(job.seed)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    loss, first = math.nan, _restore(job.checkpoint.load(), network, optimizer)
    for epoch in range(first, epochs):
        if job.stopping:
            return {}
        torch.manual_seed(1_000_003 * job.seed + epoch)
        loss = _epoch(network, optimizer, _batches(images, digits, batch), lambda part, at=epoch: _rate(rate, (at + part) / epochs))
        job.log(step=epoch + 1, loss=loss)
        job.checkpoint.save(lambda folder, done=epoch + 1: _save(folder, network, optimizer, done))
    _write_model(job.outputs["model"], network, {"epochs": epochs, "batch": batch, "lr": rate, "seed": job.seed})
    return {} if math.isnan(loss) else {"loss": loss}


def evaluate(job: Any) -> dict[str, float]:
    """Measure a model on images it has not seen; also the present champion, where one is given."""
    _be_deterministic(job.threads)
    measured = _measure(job.inputs["model"].path, job.inputs["test"].arrays())
    if "champion" in job.inputs:
        champion = _measure(job.inputs["champion"].path, job.inputs["test"].arrays())
        measured["champion.accuracy"] = champion["accuracy"]
    return measured


def infer(job: Any) -> dict[str, float]:
    """Recognise every image of ``data``: one line of index, digit and probability for each."""
    _be_deterministic(job.threads)
    images, _ = _tensors(job.inputs["data"].arrays())
    certainty, found = _probabilities(load(job.inputs["model"].path), images).max(dim=1)
    with (job.outputs["predictions"].path / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "digit", "probability"])
        rows = zip(found.tolist(), certainty.tolist(), strict=True)
        writer.writerows([index, digit, f"{probability:.6f}"] for index, (digit, probability) in enumerate(rows))
    return {"images": float(len(images)), "mean_probability": float(certainty.mean())}


def load(folder: Path) -> nn.Module:
    """Read a model that `train` wrote.

    Parameters
    ----------
    folder : path
        Holds ``model.safetensors``.

    Returns
    -------
    network : torch.nn.Module
        Takes float32 pixels from 0 to 1, shape (n, 64); returns logits, shape (n, 10).
    """
    network = _network(seed=0)
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval()


def _be_deterministic(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)


def _network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)),
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 2 * 2, 64), nn.ReLU(), nn.Linear(64, CLASSES),
    )  # fmt: skip


def _tensors(arrays: Mapping[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    digits = arrays.get("digit", np.zeros(len(arrays["pixels"]), dtype=np.int64))
    return torch.from_numpy(arrays["pixels"]), torch.from_numpy(digits)


def _batches(images: torch.Tensor, digits: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffle, shift each image by up to one pixel, and cut into batches."""
    order = torch.randperm(len(images))
    moved = _shifted(images[order])
    return list(zip(moved.split(size), digits[order].split(size), strict=True))


def _shifted(images: torch.Tensor) -> torch.Tensor:
    framed = functional.pad(images.view(-1, SIDE, SIDE), (1, 1, 1, 1))
    rows, columns = torch.randint(0, 3, (2, len(images), 1)) + torch.arange(SIDE)
    chosen = framed[torch.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return chosen.reshape(-1, SIDE * SIDE)


def _rate(largest: float, done: float) -> float:
    """Return the learning rate: up for the first fifth of the training, then down along a cosine."""
    warm_up = 0.2
    if done < warm_up:
        return largest * (0.1 + 0.9 * done / warm_up)
    return largest * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def _epoch(network: nn.Module, optimizer: torch.optim.Optimizer, batches: list[Any], rate: Any) -> float:
    network.train()
    total = 0.0
    for index, (images, digits) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate(index / len(batches))
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), digits, label_smoothing=0.05)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


def _save(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    """Write a checkpoint: weights and the optimizer's moments as tensors, the count of epochs as JSON."""
    moments = {f"{index}.{name}": value for index, state in optimizer.state_dict()["state"].items() for name, value in state.items()}
    save_file(network.state_dict(), folder / "network.safetensors")
    save_file(moments, folder / "optimizer.safetensors")
    (folder / "progress.json").write_text(json.dumps({"epochs": epochs}), encoding="utf-8")


def _restore(folder: Path | None, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Go on from a checkpoint; return the number of epochs that are done."""
    if folder is None:
        return 0
    network.load_state_dict(load_file(folder / "network.safetensors"))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(folder / "optimizer.safetensors").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(json.loads((folder / "progress.json").read_text(encoding="utf-8"))["epochs"])


def _write_model(output: Any, network: nn.Module, config: Mapping[str, float]) -> None:
    output.write_tensors(network.state_dict(), "model.safetensors")
    for name, content in (("signature.json", SIGNATURE), ("config.json", {"pixels": "0 to 1", **config})):
        (output.path / name).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _measure(model: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Measure accuracy, cross entropy and the recall of the digit that is told worst."""
    images, digits = _tensors(arrays)
    probabilities = _probabilities(load(model), images)
    right = (probabilities.argmax(dim=1) == digits).double()
    likelihood = probabilities[range(len(digits)), digits].double().clamp_min(1e-12)
    return {
        "accuracy": float(right.mean()),
        "cross_entropy": float(-likelihood.log().mean()),
        "worst_recall": min(float(right[digits == digit].mean()) for digit in digits.unique()),
    }


def _probabilities(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the probability of each digit, float32, shape (n, 10)."""
    with torch.inference_mode():
        return torch.cat([torch.softmax(network(part), dim=1) for part in images.split(1024)])
