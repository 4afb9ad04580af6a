"""The scheduler's thread that looks ahead: it begins there alone, is throttled, and survives whatever fails."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace

import pytest

from airflow_dla.plugins import foresight
from airflow_dla.plugins.foresight import Foresight, in_scheduler


def until(true: Callable[[], bool]) -> None:
    """Wait a little for something to come true."""
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


class Refresh:
    """Counts calls; fails when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.error = error

    def __call__(self, dags: Iterable[str]) -> None:
        """Take a call."""
        self.calls.append(tuple(dags))
        if self.error is not None:
            raise self.error


def test_it_looks_at_once_and_again_when_something_happens() -> None:
    """With the DAGs that it was told of."""
    refresh = Refresh()
    looking = Foresight(refresh, least_s=0.01, most_s=60, peace_s=0)
    looking.start()
    until(lambda: len(refresh.calls) == 1)
    looking.note("d")
    until(lambda: refresh.calls[-1] == ("d",))
    looking.stop()


def test_however_much_happens_it_looks_once_in_a_while() -> None:
    """A thousand events are one look, and telling takes no time."""
    refresh = Refresh()
    looking = Foresight(refresh, least_s=30, most_s=60, peace_s=0)
    looking.start()
    until(lambda: len(refresh.calls) == 1)
    began = time.monotonic()
    for _ in range(1000):
        looking.note("d")
    assert time.monotonic() - began < 1
    assert len(refresh.calls) == 1
    looking.stop()


def test_it_looks_now_and_then_although_nothing_happens() -> None:
    """A DAG that somebody unpaused tells nobody."""
    refresh = Refresh()
    looking = Foresight(refresh, least_s=0.01, most_s=0.02, peace_s=0)
    looking.start()
    until(lambda: len(refresh.calls) > 3)
    looking.stop()


def test_whatever_fails_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A ledger that is down stops no scheduler."""
    refresh = Refresh(RuntimeError("the ledger is down"))
    looking = Foresight(refresh, least_s=0.01, most_s=0.02, peace_s=0)
    looking.start()
    until(lambda: len(refresh.calls) > 1)
    looking.stop()
    assert "could not be refreshed" in caplog.text


class Job:
    """What Airflow's daemons tell of when they begin: named so, and without a type yet."""


def test_the_scheduler_is_known_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triggerer and DAG processor have jobs, too, and tasks have none."""
    scheduler = "airflow.jobs.scheduler_job_runner"
    monkeypatch.delitem(sys.modules, scheduler, raising=False)
    assert not in_scheduler(Job())
    monkeypatch.setitem(sys.modules, scheduler, ModuleType(scheduler))
    assert in_scheduler(Job())
    assert not in_scheduler(object())


def test_only_the_scheduler_looks_ahead() -> None:
    """Tasks, triggerer and API server start no thread, and their events are nobody's."""
    before = set(threading.enumerate())
    foresight.on_starting(component=object())
    foresight.before_stopping(component=object())
    for told in (foresight.on_dag_run_running, foresight.on_dag_run_success, foresight.on_dag_run_failed):
        told(dag_run=SimpleNamespace(dag_id="d"), msg="")
    assert set(threading.enumerate()) <= before
