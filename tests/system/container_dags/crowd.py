"""The work of the load tests: says something now and then until it may end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def talk(job: Any) -> dict[str, float]:
    """Print a line every `pace` seconds until the file ``go`` is there; every sixth goes with a checkpoint."""
    side, pace = Path(job.args["side"]), float(job.args["pace"])
    side.mkdir(parents=True, exist_ok=True)
    (side / "began").touch()
    line, due = 0, time.monotonic()
    while not (side / "go").exists():
        if time.monotonic() >= due:
            line, due = line + 1, due + pace
            print(f"line {line}")  # noqa: T201 - what a program prints is its log
            if line % 6 == 0:
                number = str(line)
                job.checkpoint.save(lambda folder, number=number: (folder / "line").write_text(number, encoding="ascii"))
        time.sleep(0.25)
    (side / "ended").write_text(str(time.time()), encoding="ascii")
    return {"lines": line}
