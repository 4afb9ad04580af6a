"""The helper of a pod that stays beside the job: its mate.

    python CONTROL/agents stay CONTROL {"owner": [UID, GID]}

The first process of a native sidecar, with nothing on standard input. A kubelet sends it
SIGTERM as soon as the job has ended, which is when its work begins: so it goes on until all
is published, and leaves earlier only when its follower says so (``leave.json``); it kills the
job when that says so (``end.json``), where the pod's containers share their processes. Standard
output says how it is (see `board`), and that the job has ended: of a pod that is deleted a
kubelet tells that only when all of it has. It may be killed and is started again by the same command.
"""

from __future__ import annotations

import os
import threading
import time
from typing import NoReturn, Sequence

from . import daemon
from .board import Board
from .fetch import begun, mate
from .mate import tried
from .neighbour import Neighbour
from .protocol import ControlFolder, JobFile, read_json, write_json
from .wake import Wake

_LOOK_S = 5.0
_ALONE_S = 0.2


def main(arguments: Sequence[str]) -> NoReturn:
    """Stay, and publish."""
    control, options, said = begun(arguments, "mate")
    wake = Wake(control.path / "leave.json")
    threading.Thread(target=_look_beside, args=(control, wake, said), daemon=True).start()
    if not control.published.exists():
        write_json(control.mate, daemon.identity())
        _, error = tried(lambda: mate(control, options, said, wake).stage())
        if error is not None:
            write_json(control.published, {"outputs": {}, "peaks": {}, "error": error})
    said.say(published=read_json(control.published))
    # Who ends while the pod lives is started again, for nothing.
    while not (wake.asked or wake.terminated):
        wake.wait(_LOOK_S)
    os._exit(0)


def _look_beside(control: ControlFolder, wake: Wake, said: Board) -> None:
    """Kill the job when that is wanted; say when it has ended.

    A signal's handler must not say it: it may have come while something else is said.
    """
    while not wake.asked:
        if (control.path / "end.json").exists():
            Neighbour(JobFile.read(control.job).attempt).kill()
        time.sleep(_ALONE_S)
    said.say(alone=True)
