"""The helper of a pod that fetches before the job starts.

    python CONTROL/agents fetch CONTROL {"job": FILE, "owner": [UID, GID]}

The first process of a container of its own, with nothing on standard input: it lays out the
attempt's folder from the job's description, waits until its follower has brought everything
(see `relay`), and ends. Standard output says how it is (see `board`), the status whether the
job may start. It may be killed and is started again by the same command.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Mapping, NoReturn, Sequence, Tuple

from . import board
from .mate import Mate, tried
from .neighbour import Neighbour
from .protocol import ControlFolder, JobFile, read_json, write_json
from .relay import Relay
from .wake import Wake

_TERMINATED = 143


def main(arguments: Sequence[str]) -> NoReturn:
    """Fetch, and end with a status."""
    control, options, said = begun(arguments, "fetch")
    wake = Wake()
    _, error = tried(lambda: _fetch(control, options, said, wake))
    found = {"error": error} if error is not None else read_json(control.fetched)
    if found is not None:
        said.say(fetched=True if "error" not in found else None, wants=None, error=found.get("error"))
    # What is still being fetched in threads is not waited for.
    os._exit(_TERMINATED if found is None else int("error" in found))


def begun(arguments: Sequence[str], role: str) -> Tuple[ControlFolder, Dict[str, Any], board.Board]:
    """Return folder, options and board of a helper."""
    control = ControlFolder(Path(arguments[0]))
    options = json.loads(arguments[1]) if len(arguments) > 1 else {}
    stream = board.apart(control.path / f"{role}.log")
    return control, options, board.Board(control.path / "state.json", stream, role=role)


def _fetch(control: ControlFolder, options: Mapping[str, Any], said: board.Board, wake: Wake) -> None:
    """Lay out the attempt's folder, ``job.json`` last, and have all fetched into it."""
    if "job" in options and not control.job.exists():
        raw = json.loads(Path(options["job"]).read_text(encoding="utf-8"))
        control.inside.path.mkdir(exist_ok=True)
        write_json(control.inside.job, raw)
        control.inside.job.chmod(0o644)
        control.inside.versions.mkdir(exist_ok=True)
        write_json(control.job, raw)
    mate(control, options, said, wake).fetched()


def mate(control: ControlFolder, options: Mapping[str, Any], said: board.Board, wake: Wake) -> Mate:
    """Return the mate of an attempt whose way to the store is its follower."""
    job = JobFile.read(control.job)
    return Mate(job, control, options, wake, staging=lambda: Relay(job, control, said), groups=Neighbour(job.attempt).groups)
