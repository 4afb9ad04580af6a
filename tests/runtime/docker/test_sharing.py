"""One request for all who want the same answer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_dla.errors import PlaceUnavailable
from airflow_dla.runtime.docker.sharing import Shared


class Engine:
    """Counts how often it is asked; slow, or out of order, if told to be."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False
        self.takes_s = 0.0

    def ask(self) -> int:
        """Return how often it was asked."""
        self.asked += 1
        time.sleep(self.takes_s)
        if self.fails:
            raise PlaceUnavailable("no answer")
        return self.asked


def test_age():
    """An answer serves those who accept its age, measured from when it was asked for."""
    engine, now = Engine(), [0.0]
    shared = Shared(engine.ask, lambda: now[0])
    assert shared.get(float("inf")) == 1
    now[0] = 2.0
    assert shared.get(2.0) == 1
    assert shared.get(1.9) == 2
    shared.forget()
    assert shared.get(float("inf")) == 3


def test_a_failure_is_told_only_to_those_who_waited_for_it():
    """Whoever comes after a failure asks again, whatever age he accepts."""
    engine, now = Engine(), [0.0]
    shared = Shared(engine.ask, lambda: now[0])
    engine.fails = True
    for _ in range(2):
        now[0] += 1
        with pytest.raises(PlaceUnavailable):
            shared.get(60.0)
    engine.fails = False
    now[0] += 1
    assert shared.get(60.0) == 3


@pytest.mark.parametrize("fails", [False, True])
def test_two_hundred_at_once_cost_a_few(fails: bool):
    """Those who wait while it is asked share the next answer, or failure; nobody gets one from before he came."""
    engine = Engine()
    engine.takes_s, engine.fails = 0.05, fails
    shared = Shared(engine.ask, time.monotonic)
    ready = threading.Barrier(50)

    def get() -> None:
        ready.wait()
        if fails:
            with pytest.raises(PlaceUnavailable):
                shared.get()
        else:
            shared.get()

    with ThreadPoolExecutor(50) as pool:
        for future in [pool.submit(get) for _ in range(50)]:
            future.result()
    assert engine.asked <= 3
