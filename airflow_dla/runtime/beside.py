"""A command on our own streams that lasts no longer than what it was started beside."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

from airflow_dla.runtime.detached import around

_LOOK_S: Final = 0.3


def run_beside(argv: Sequence[str], lasts: Callable[[], bool], *, terminal: bool) -> int:
    """Run our own program on the streams of this process; return its exit status, 128 + N for signal N.

    Parameters
    ----------
    argv : sequence of str
    lasts : callable
        Whether what it is beside is still there; it is killed when not.
    terminal : bool
        Whether it shares a terminal with us, which then interrupts it by itself.
    """
    shown = {"TERM": os.environ["TERM"]} if terminal and "TERM" in os.environ else {}
    child = subprocess.Popen(list(argv), env={**around(), **shown})  # noqa: S603 - our own program, and a path that is checked
    try:
        code = _waited(child, lasts, terminal=terminal)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    return code if code >= 0 else 128 - code


def _waited(child: subprocess.Popen[bytes], lasts: Callable[[], bool], *, terminal: bool) -> int:
    while True:
        try:
            return child.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            if not lasts():
                child.kill()
        except KeyboardInterrupt:
            if not terminal:
                child.send_signal(signal.SIGINT)
