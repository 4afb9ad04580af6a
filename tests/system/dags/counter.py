"""The work of the fault tests: counts, says so, saves checkpoints, and leaves traces of every process that really ran."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any


def train(job: Any) -> dict[str, float]:
    """Count to `epochs`, from the last checkpoint on; wait before the last one until the file ``go`` is there, if `hold` says so."""
    side = Path(job.args["side"])
    epochs, pace, hold = int(job.args["epochs"]), float(job.args["pace"]), job.args["hold"] == "1"
    first, value = restored(job)
    side.mkdir(parents=True, exist_ok=True)
    with (side / "lock").open("w") as lock:
        trace(side, "starts", attempt=os.environ["DLA_ATTEMPT"], pid=os.getpid(), first=first, alone=alone(lock))
        print(f"attempt {os.environ['DLA_ATTEMPT']} begins at epoch {first}")  # noqa: T201 - what a program prints is its log
        for epoch in range(first, epochs):
            while hold and epoch == epochs - 1 and not (side / "go").exists():
                time.sleep(0.05)
            value = after(value, epoch)
            print(f"epoch {epoch} value {value}")  # noqa: T201 - what a program prints is its log
            save(job, epoch + 1, value)
            trace(side, "epochs", epoch=epoch)
            time.sleep(pace)
        if "model" in job.outputs:
            (job.outputs["model"].path / "value.txt").write_text(str(value), encoding="ascii")
    return {"value": value, "epochs": epochs}


def after(value: int, epoch: int) -> int:
    """Return the next value; depends on every epoch before it."""
    return (value * 31 + epoch) % 1_000_003


def value_after(epochs: int) -> int:
    """Return what an uninterrupted run ends with."""
    value = 0
    for epoch in range(epochs):
        value = after(value, epoch)
    return value


def restored(job: Any) -> tuple[int, int]:
    """Return epoch and value of the last checkpoint."""
    saved = job.checkpoint.load()
    if saved is None:
        return 0, 0
    epoch, value = json.loads((saved / "state.json").read_text(encoding="ascii"))
    return epoch, value


def save(job: Any, epoch: int, value: int) -> None:
    """Save a checkpoint."""
    job.checkpoint.save(lambda folder: (folder / "state.json").write_text(json.dumps([epoch, value]), encoding="ascii"))


def alone(lock: Any) -> bool:
    """Tell whether no other process of this job is at work."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def trace(side: Path, name: str, **what: Any) -> None:
    """Append a line to a file of the test's own folder."""
    with (side / name).open("a", encoding="ascii") as file:
        file.write(json.dumps({**what, "at": time.time()}) + "\n")


def nap(job: Any) -> dict[str, float]:
    """Sleep for `seconds`, and say what was asked for."""
    time.sleep(float(job.args["seconds"]))
    print(f"slept {job.args['seconds']} s")  # noqa: T201 - what a program prints is its log
    return {"seconds": float(job.args["seconds"])}
