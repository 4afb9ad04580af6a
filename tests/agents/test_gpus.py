"""What a job uses of its GPUs, as a driver tells that is told what to say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

import pytest

from airflow_dla.agents.gpus import GpuUsage, Sample

_GIB = 2**30


class Driver:
    """Tells what a test wants it to, and remembers whose use was asked for."""

    def __init__(self, **gpus: Sample) -> None:
        self.gpus = gpus
        self.asked: list[AbstractSet[int] | None] = []

    def read(self, gpu: str, pids: AbstractSet[int] | None) -> Sample:
        """Read a GPU."""
        self.asked.append(pids)
        if gpu not in self.gpus:
            raise RuntimeError("GPU is lost")
        return self.gpus[gpu]


def at_once(call: Callable[[], None]) -> None:
    """Wait for a look."""
    call()


def looked(usage: GpuUsage, now: list[float], times: Iterable[float]) -> dict[str, float]:
    """Look at some times; return the peaks."""
    for now[0] in times:
        usage.look()
    return usage.peaks


def test_peaks_and_seconds() -> None:
    """The most memory on one GPU, the most GPUs busy at once, and the seconds of all of them are added up."""
    driver, now = Driver(a=Sample(2 * _GIB, 1.0), b=Sample(3 * _GIB, 0.5)), [0.0]
    usage = GpuUsage(("a", "b"), read=driver.read, clock=lambda: now[0], run=at_once)
    assert looked(usage, now, (0, 0.2, 1, 2)) == {"gpu_memory": 3.0, "gpu": 1.5, "gpu_s": 3.0}
    driver.gpus = {"a": Sample(_GIB, 0.25), "b": Sample(_GIB, 0.0)}
    assert looked(usage, now, (6,)) == {"gpu_memory": 3.0, "gpu": 1.5, "gpu_s": 4.0}
    assert len(driver.asked) == 2 * 4


def test_a_share_counts_its_own_processes() -> None:
    """Who shares a GPU is not charged with what others do there."""
    driver, now = Driver(a=Sample(_GIB, 0.5)), [0.0]
    usage = GpuUsage(("a",), lambda: {7, 8}, read=driver.read, clock=lambda: now[0], run=at_once)
    looked(usage, now, (0,))
    assert driver.asked == [{7, 8}]


def test_what_is_not_told_is_left_out() -> None:
    """Of a slice the driver tells memory only."""
    now = [0.0]
    usage = GpuUsage(("a",), read=Driver(a=Sample(_GIB, None)).read, clock=lambda: now[0], run=at_once)
    assert looked(usage, now, (0, 1)) == {"gpu_memory": 1.0}


def test_a_gpu_that_fell_off() -> None:
    """It is asked for ever more seldom, what was seen stays, and the time without it does not count."""
    driver, now = Driver(a=Sample(_GIB, 1.0)), [0.0]
    usage = GpuUsage(("a",), read=driver.read, clock=lambda: now[0], run=at_once)
    looked(usage, now, (0, 1))
    driver.gpus = {}
    looked(usage, now, range(2, 300))
    assert 5 <= len(driver.asked) - 2 <= 10
    driver.gpus = {"a": Sample(_GIB, 1.0)}
    assert looked(usage, now, range(300, 400))["gpu_s"] == pytest.approx(100, abs=60)


def test_no_gpus() -> None:
    """A job without GPUs asks nobody."""
    driver = Driver()
    usage = GpuUsage((), read=driver.read, run=at_once)
    usage.look()
    assert (usage.peaks, driver.asked) == ({}, [])


def test_a_driver_that_never_answers() -> None:
    """Whoever keeps the job does not wait for it, and asks it no second time."""
    answers, asked = threading.Event(), threading.Semaphore(0)

    def read(_gpu: str, _pids: AbstractSet[int] | None) -> Sample:
        asked.release()
        answers.wait(10)
        return Sample(_GIB, 1.0)

    now = [0.0]
    usage = GpuUsage(("a",), read=read, clock=lambda: now[0])
    assert looked(usage, now, (0, 1, 2, 3)) == {}
    assert asked.acquire(timeout=5)
    answers.set()
    assert not asked.acquire(blocking=False)
