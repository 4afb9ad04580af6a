"""What it means for all callers when a server let one of them wait in vain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

#: For so long nobody else waits for a server that let one wait in vain, seconds.
_SILENT_S: Final = 5.0


class Silence:
    """Lets one caller try again every few seconds, and the others know at once.

    Hundreds would fill every thread with waiting for what does not answer.

    Parameters
    ----------
    clock : callable
        Seconds of a monotonic clock.

    Examples
    --------
    >>> silence = Silence(clock=lambda: 0.0)
    >>> silence.begin("it took too long", TimeoutError())
    >>> silence.reason()
    'it took too long'
    >>> silence.end()
    >>> silence.reason()
    ''
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._reason = ""
        self._until = 0.0

    def reason(self) -> str:
        """Return why not to ask now; empty for who may, every few seconds one for all."""
        with self._lock:
            if self._reason and self._clock() < self._until:
                return self._reason
            self._until = self._clock() + _SILENT_S
            return ""

    def begin(self, reason: str, fault: BaseException) -> None:
        """Remember a fault, if it is one of waiting in vain: others cost nobody anything."""
        if any(isinstance(error, TimeoutError) for error in chain(fault)):
            with self._lock:
                self._reason, self._until = reason, self._clock() + _SILENT_S

    def end(self) -> None:
        """Forget it: there was an answer."""
        self._reason = ""


def explained(fault: BaseException, hints: Sequence[tuple[type[BaseException], str]], otherwise: str) -> str:
    """Say what lies at the bottom of a fault, and what would do.

    Parameters
    ----------
    fault : exception
    hints : sequence of (type, str)
        What would do about a kind of error; the first that fits.
    otherwise : str
        What would do about any other.

    Examples
    --------
    >>> explained(TimeoutError("30 s"), [(TimeoutError, "is it overloaded?")], "is it there?")
    '30 s; is it overloaded?'
    """
    found = chain(fault)
    told = next((f"{error}; {hint}" for error in reversed(found) for kind, hint in hints if isinstance(error, kind)), "")
    return told or f"{found[0]}; {otherwise}"


def chain(fault: BaseException) -> list[BaseException]:
    """Return a fault and what caused it, the bottom last."""
    found = [fault]
    while (below := found[-1].__cause__ or found[-1].__context__) is not None and below not in found:
        found.append(below)
    return found
