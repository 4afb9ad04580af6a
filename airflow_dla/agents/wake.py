"""Sleep that ends when something happens."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Optional


class Wake:
    """Sleeps until a time has passed, a child has ended or a signal has come.

    Parameters
    ----------
    word : path, optional
        A file whose being there is what ends us; SIGTERM then only wakes.
    """

    def __init__(self, word: Optional[Path] = None) -> None:
        self._word = word
        self.asked = False
        self._read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        # Handlers of our own, since an ignored signal would stay ignored in the work.
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, self._terminate)

    @property
    def terminated(self) -> bool:
        """Whether this process is to end."""
        return self.asked if self._word is None else self._word.exists()

    def _terminate(self, *_: object) -> None:
        self.asked = True

    def wait(self, seconds: float) -> None:
        """Sleep at most so many seconds."""
        if select.select([self._read], [], [], max(0.0, seconds))[0]:
            os.read(self._read, 4096)
