"""Standard streams of a program that prints one document, among libraries that print what they like."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self, TextIO


class Streams:
    """While it is entered, whatever anybody prints goes to a file; `out` and `err` are the real streams.

    Parameters
    ----------
    rest : path
        Gets what others print; appended to.
    """

    def __init__(self, rest: Path) -> None:
        self._rest = rest

    def __enter__(self) -> Self:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._kept = (os.dup(1), os.dup(2))
        self.out, self.err = (_text(kept) for kept in self._kept)
        rest = os.open(self._rest, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(rest, 1)
        os.dup2(rest, 2)
        os.close(rest)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (sys.stdout, sys.stderr, self.out, self.err):
            stream.flush()
        for number, kept in enumerate(self._kept, start=1):
            os.dup2(kept, number)
        self.out.close()
        self.err.close()


def _text(number: int) -> TextIO:
    return os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
