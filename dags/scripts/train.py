"""Tell two kinds of points in a plane apart, by logistic regression on their coordinates' products.

An ordinary training script: flags in, files out, progress on stdout, checkpoints in a folder.
"""

import argparse
import json
from pathlib import Path

import numpy as np


def main() -> None:
    """Train for some epochs, going on from the checkpoint if there is one, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CSV file: x, y, kind (0 or 1)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--ckpt", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1.0)
    options = parser.parse_args()

    table = np.loadtxt(options.data, delimiter=",", skiprows=1)
    features, kinds = products(table[:, 0], table[:, 1]), table[:, 2]
    held_out = np.arange(len(table)) % 4 == 0
    checkpoint = options.ckpt / "weights.npz"
    weights, first = np.zeros(features.shape[1]), 0
    if checkpoint.exists():
        with np.load(checkpoint) as saved:
            weights, first = saved["weights"], int(saved["epoch"])
    for epoch in range(first, options.epochs):
        wrong = probability(features[~held_out], weights) - kinds[~held_out]
        weights = weights - options.lr * features[~held_out].T @ wrong / len(wrong)
        if (epoch + 1) % 50 == 0:
            right = (probability(features[held_out], weights) > 0.5) == kinds[held_out]  # noqa: PLR2004
            print(f"epoch={epoch + 1} val_acc={right.mean():.4f}", flush=True)  # noqa: T201
            np.savez(checkpoint, weights=weights, epoch=epoch + 1)
    (options.out / "weights.json").write_text(json.dumps(weights.tolist()) + "\n", encoding="utf-8")


def products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return 1, x, y and their products up to the third degree, one row for each point."""
    return np.stack([x**i * y**j for i in range(4) for j in range(4 - i)], axis=1)


def probability(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the probability of kind 1 for each point."""
    return 1 / (1 + np.exp(-features @ weights))


if __name__ == "__main__":
    main()
