"""One request for all who want the same answer at about the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from airflow_dla.errors import PlaceUnavailable

T = TypeVar("T")
_NEVER: Final = float("-inf")


class Shared(Generic[T]):
    """An answer that callers share while it is not too old for them.

    While one thread asks, all others who want it wait, and take its answer if the asking
    began after they came. So any number of them costs two requests at a time, one answered
    and one waited for, and nobody gets an answer older than he accepts. A failure is
    shared as well: who waits for an engine that does not answer waits once.

    Parameters
    ----------
    ask : callable
        Returns the answer, or raises `PlaceUnavailable`.
    clock : callable
        Seconds of a monotonic clock.
    """

    def __init__(self, ask: Callable[[], T], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._turn = threading.Lock()
        self._asked_at = _NEVER
        self._answer: list[T] = []
        self._failure = ""

    def get(self, max_age_s: float = 0.0) -> T:
        """Return an answer that is at most so many seconds old.

        Raises
        ------
        PlaceUnavailable
            If the engine did not answer.
        """
        came = self._clock()
        if not self._failure and self._is_from(came - max_age_s):
            return self._answer[0]
        with self._turn:
            # Those who came while it was asked need no asking of their own; a failure is told to nobody else.
            if not self._is_from(came if self._failure else came - max_age_s):
                self._renew()
            if self._failure:
                raise PlaceUnavailable(self._failure)
            return self._answer[0]

    def forget(self) -> None:
        """Let the next caller ask again, whatever age he accepts."""
        self._asked_at = _NEVER

    def _is_from(self, moment: float) -> bool:
        return self._asked_at >= moment and self._asked_at != _NEVER

    def _renew(self) -> None:
        asked_at = self._clock()
        try:
            self._answer, self._failure = [self._ask()], ""
        except PlaceUnavailable as error:
            self._failure = str(error)
        self._asked_at = asked_at
