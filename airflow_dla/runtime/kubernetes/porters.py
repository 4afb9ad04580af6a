"""Carrying the files of many attempts at once, beside those who follow them.

What a pod is brought and what is taken from it may be gigabytes, and whoever follows jobs
must never wait for one of them. A porter's load is named: asked for twice it is carried
once, and one that failed is carried again when it is asked for again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

#: Loads that one process carries at once.
_PORTERS: Final = 4


class Porters:
    """A few threads that carry.

    Parameters
    ----------
    count : int
        Of threads, which begin when there is something to carry.

    Examples
    --------
    >>> porters = Porters()
    >>> while not porters.carried("job.1 inputs", lambda: None):
    ...     pass
    """

    def __init__(self, count: int = _PORTERS) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None
        self._loads: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    def carried(self, load: str, carry: Callable[[], None]) -> bool:
        """Return whether a load has arrived; begin to carry it where nobody does.

        Raises
        ------
        Exception
            What went wrong; the next call begins again.
        """
        with self._lock:
            going = self._loads.get(load)
            if going is None:
                self._loads[load] = self._threads().submit(carry)
                return False
            if not going.done():
                return False
            del self._loads[load]
        going.result()
        return True

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="dla-porter")
        return self._pool
