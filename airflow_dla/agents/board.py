"""What a helper of a pod says of itself: lines of JSON on its standard output, the last of which is all there is to know.

Whoever follows reads one line of a log instead of entering the pod. Logs cut long lines, so
a long state is several: ``{"piece": i, "of": n, "text": …}``, which joined are its JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any, Dict, Iterator

from .frames import writer
from .protocol import write_json

_LONGEST = 7_000


class Board:
    """Says a state, whole, each time it changes.

    Parameters
    ----------
    path : path
        Where it is kept for those who ask.
    stream : int
        Descriptor of standard output.
    said : mapping
        What never changes.
    """

    def __init__(self, path: Path, stream: int, **said: Any) -> None:
        self._path = path
        self._write = writer(stream)
        self._lock = threading.Lock()
        self._state: Dict[str, Any] = {}
        self.say(**said)

    def say(self, **changes: Any) -> None:
        """Change it; None takes a word away."""
        with self._lock:
            state = {name: value for name, value in {**self._state, **changes}.items() if value is not None}
            if state == self._state:
                return
            self._state = state
            with contextlib.suppress(OSError):  # a full disk, or nobody who keeps the log: the work goes on
                write_json(self._path, state)
            with contextlib.suppress(OSError):
                self._write("".join(f"{line}\n" for line in lines(state)).encode())


def lines(state: Dict[str, Any]) -> Iterator[str]:
    """Yield the lines that say a state."""
    text = json.dumps(state, separators=(",", ":"))
    if len(text) <= _LONGEST:
        yield text
        return
    pieces = [text[at : at + _LONGEST] for at in range(0, len(text), _LONGEST)]
    for number, piece in enumerate(pieces, 1):
        yield json.dumps({"piece": number, "of": len(pieces), "text": piece}, separators=(",", ":"))


def apart(log: Path) -> int:
    """Send all that is printed into a file; return a descriptor of what standard output was."""
    stream = os.dup(1)
    os.set_inheritable(stream, False)
    said = os.open(str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(said, number)
    os.close(said)
    return stream
