"""Jobs in containers under a real Airflow: whatever is killed, one container runs an attempt and the result is right."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest
from docker_daemon import Engine
from system.containers import STRUCK, ContainerAirflow, ContainerRun, container_airflow
from system.crowd import Crowd, cost
from system.processes import eventually
from system.slaughter import Slaughter

from airflow_dla.specs import AttemptState, ExitReason

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

Start = Callable[..., ContainerRun]
Measure = Callable[[str, float], None]


@pytest.fixture(scope="module")
def airflow(docker_engine: Engine, base_image: str) -> Iterator[ContainerAirflow]:
    """Start an Airflow whose jobs run on the engine."""
    with container_airflow(docker_engine, base_image) as made:
        yield made


@pytest.fixture
def start(airflow: ContainerAirflow, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Return a function that starts a job's run; all are ended with the test."""
    started: list[ContainerRun] = []

    def begin(dag: str, **options: object) -> ContainerRun:
        started.append(ContainerRun(airflow, dag, f"{request.node.name}-{len(started)}", **options))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for run in started:
        run.end()


def test_a_deferred_and_a_synchronous_job_end_well(start: Start) -> None:
    """Each counts in a container, its log is the task's log, its model an artifact."""
    for run in [start(dag, epochs=10, hold=False) for dag in ("docker_deferred", "docker_sync")]:
        run.wait_success()
        assert run.value == run.expected
        assert run.logged_epochs() == list(range(10))
        assert [line["attempt"] for line in run.starts] == [f"{run.job}.1"]
        assert run.attempt is not None
        assert run.attempt.exit is not None
        assert "model" in run.attempt.exit.outputs
        assert run.grants() == []


def test_an_edit_of_the_code_reaches_the_first_step_without_a_build(airflow: ContainerAirflow, start: Start, measure: Measure) -> None:
    """From the moment in which a file of the DAGs folder is written to the first epoch of a run started then, with a warm image."""
    start("docker_deferred", epochs=2, hold=False).wait_success()
    work = airflow.dags / "counter.py"
    text = work.read_text()
    try:
        begun = time.time()
        work.write_text(text.replace('trace(side, "epochs", epoch=epoch)', 'trace(side, "epochs", epoch=epoch, edited=True)'))
        run = start("docker_deferred", epochs=2, hold=False)
        run.wait_epoch(0)
    finally:
        work.write_text(text)
    first = run.traces("epochs")[0]
    assert first["edited"]
    measure("code edit → first training step in a container, warm image", first["at"] - begun)
    assert first["at"] - begun < 10
    run.wait_success()


def test_a_task_marked_failed_while_deferred_has_no_container(start: Start, measure: Measure) -> None:
    """The container ends, and its grant is free; nobody begins another attempt."""
    run = start("docker_deferred")
    run.wait_follower()
    run.wait_epoch(3)
    begun = time.monotonic()
    run.mark("failed")
    run.wait_gone(15)
    measure("docker_deferred failed → no container, grant free", time.monotonic() - begun)
    assert [one["State"] for one in run.containers()] == ["exited"]
    assert run.attempt is not None
    assert (run.attempt.number, run.attempt.ended) == (1, True)


def test_whatever_is_killed_no_job_is_run_twice_or_lost(airflow: ContainerAirflow, measure: Measure) -> None:
    """SIGKILL of task, triggerer, scheduler or container at ten random moments (tests/bench/bench_docker_kills.py: a hundred)."""
    begun = time.monotonic()
    slaughter = Slaughter(airflow, jobs=4, what=STRUCK, chance=random.Random(4))
    slaughter.kill(10)
    slaughter.check()
    measure(f"ten kills ({slaughter.summary()})", time.monotonic() - begun)


def test_a_preempted_training_goes_on_within_its_airflow_try(start: Start, measure: Measure) -> None:
    """Of one CPU: the low job ends within its grace, the high one runs, the low one goes on where it was."""
    low = start("docker_low", workspace="dla_scarce", epochs=100, pace=0.1)
    low.wait_epoch(20)
    high = start("docker_high", workspace="dla_scarce", epochs=5, hold=False)
    eventually(lambda: low.ledger.attempts([f"{low.job}.1"])[f"{low.job}.1"].stop, timeout=60, what="the wish to preempt", every=0.05)
    asked = time.monotonic()
    eventually(lambda: f"{low.job}.1" not in low.grants(), timeout=15, what="its CPU", every=0.05)
    measure("preemption of a container: asked → its CPU free (grace 10 s)", time.monotonic() - asked)
    assert not low.processes(1)
    done = max(line["epoch"] for line in low.traces("epochs"))
    high.wait_success()
    eventually(
        lambda: low.attempt and low.attempt.number == 2 and low.attempt.state is AttemptState.RUNNING, timeout=60, what="a second attempt"
    )
    low.go()
    low.wait_success()
    assert low.task["try_number"] == 1
    assert low.value == low.expected
    first = low.ledger.attempts([f"{low.job}.1"])[f"{low.job}.1"]
    assert first.exit is not None
    assert first.exit.reason is ExitReason.PREEMPTED
    assert low.starts[1]["first"] >= done, "each epoch has a checkpoint, and one at most may be lost"


def test_many_deferred_jobs_cost_the_triggerer_little(airflow: ContainerAirflow, measure: Measure) -> None:
    """Twenty for a minute, with a line of each in every second; no end is missed (tests/bench/bench_docker_load.py: 200)."""
    crowd = Crowd(airflow, 20, pace=1.0)
    crowd.wait_followed(timeout=240)
    taken = cost(airflow, 60.0)
    late = crowd.end(over_s=4.0, timeout=240)
    measure(f"20 deferred jobs in containers: the triggerer takes {taken.cpu:.1%} of a core, for", 60.0)
    measure("20 deferred jobs in containers: end → the ledger knows, longest", max(late))
    assert taken.cpu < 0.2
    assert taken.growth < 20
