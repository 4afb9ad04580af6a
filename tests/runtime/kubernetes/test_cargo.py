"""Who carries the files of attempts does it by what he sees of their pods, which may be old."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.runtime import job_file, wait_until
from fakes.pod import FakePod

from airflow_dla.artifacts import Exchange, Store
from airflow_dla.runtime.kubernetes.cargo import Cargo
from airflow_dla.runtime.kubernetes.facts import MAIN, MATE, Container, Pod
from airflow_dla.runtime.kubernetes.freight import Freight

#: As a watch told last: the job runs, and ours beside it.
RUNS = Pod(name="dla-job-1-x", uid="u", containers={name: Container(state="running") for name in (MAIN, MATE)})


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[FakePod]:
    """Return a pod whose program has written its output and ended, and whose mate was told so by its node."""
    made = FakePod(tmp_path, job_file("job.1", ["true"], store=str(tmp_path / "store"), outputs=["model"]))
    made.start("fetch")
    assert made.wait("fetch") == 0
    (made.dla / "out" / "model" / "n").write_text("7")
    made.start("mate")
    wait_until(lambda: b"mate" in made.log(RUNS.name, MATE))
    made.signal("mate", signal.SIGTERM)
    wait_until(lambda: b"alone" in made.log(RUNS.name, MATE))
    yield made
    made.close()


def test_a_program_that_ended_before_the_watch_tells_is_not_taken_for_a_failed_one(pod: FakePod, tmp_path: Path):
    """A mate knows of the end first; how it ended is said by the pod alone, so its outputs are published then."""
    store = tmp_path / "store"
    job = job_file("job.1", ["true"], store=str(store), outputs=["model"])
    cargo = Cargo(Freight(pod, Exchange(str(store)), direct=False, control=str(pod.control)))
    cargo.look(job, RUNS)
    ended = dataclasses.replace(RUNS, containers={**RUNS.containers, MAIN: Container(state="terminated", code=0)})
    found = wait_until(lambda: cargo.finish(job, ended, succeeded=True, hard=False), 20)
    Store(str(store)).fetch(found.outputs["model"].digest, tmp_path / "read")
    assert (tmp_path / "read" / "n").read_text() == "7"


def test_of_a_pod_that_is_deleted_the_end_is_known_by_its_mate(pod: FakePod, tmp_path: Path):
    """Its node tells of the program's end only when all of it has ended, which waits for the mate."""
    job = job_file("job.1", ["true"], store=str(tmp_path / "store"), outputs=["model"])
    cargo = Cargo(Freight(pod, Exchange(str(tmp_path / "store")), direct=False, control=str(pod.control)))
    cargo.look(job, dataclasses.replace(RUNS, deleted_at=1.0))
    assert pod.wait("mate") == 0
    found = cargo.finish(job, dataclasses.replace(RUNS, phase="Failed", deleted_at=1.0), succeeded=False, hard=False)
    assert found is not None
    assert found.outputs == {}
