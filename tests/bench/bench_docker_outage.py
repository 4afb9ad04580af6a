"""The ledger gone, then the triggerer gone, under live jobs in containers: killed, granted twice, failed.

Usage: ``python tests/bench/bench_docker_outage.py [JOBS] [LEDGER_S] [TRIGGERER_S] [FACTOR]`` (20 jobs, 60 s and 90 s by default:
longer than leases last; with the repository's root and ``tests`` on PYTHONPATH). FACTOR compresses time: all that is waited for longer
than leases last is shorter by it, so ``200 60 180 10`` is a triggerer gone for half an hour. Leases stay: a busy machine needs seconds to
launch a job, however fast the time of the workspace goes. Needs an engine (DOCKER_HOST) and PostgreSQL's binaries.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter

from docker_images import BASE, image
from fixtures_docker import answering
from fixtures_postgres import PostgresServer, binaries
from system.containers import ContainerAirflow, container_airflow
from system.crowd import Crowd

from airflow_dla.control import Timing


def main(jobs: int, ledger_s: float, triggerer_s: float, factor: float) -> int:
    """Take away one after the other; return 0 when no job noticed."""
    engine, found = answering(), binaries()
    if engine is None or found is None:
        sys.exit("a Docker engine (DOCKER_HOST) and PostgreSQL's binaries are needed")
    server = PostgresServer(found)
    try:
        with container_airflow(engine, image(engine, BASE), ledger_url=server.url(server.create()), timing=compressed(factor)) as airflow:
            crowd = Crowd(airflow, jobs, pace=1.0)
            crowd.wait_followed(timeout=300 + 10 * jobs)
            before = containers(airflow)
            server.stop(signal.SIGQUIT)
            watch(airflow, before, ledger_s)
            server.start()
            crowd.wait_followed(timeout=120)
            airflow.server.kill("triggerer")
            watch(airflow, before, triggerer_s)
            airflow.server.restart("triggerer")
            crowd.wait_followed(timeout=120)
            late = crowd.end(over_s=4.0, timeout=300 + 10 * jobs)
            given = Counter(event.subject for event in crowd.ledger.history(kind="grant.given", limit=10_000))
            tries = Counter(task["try_number"] for task in airflow.server.tasks("docker_crowd", crowd.run) if task["task_id"] == "job")
            after = {one["Labels"]["dla.attempt"] for one in airflow.containers()}
    finally:
        server.remove()
    sys.stdout.write(
        f"{jobs} jobs, ledger gone {ledger_s:.0f} s, triggerer gone {triggerer_s:.0f} s, time {factor:g} times as fast: 0 killed, "
        f"{sum(count > 1 for count in given.values())} granted twice, tries {dict(tries)}, ends known after {max(late):.1f} s at most\n"
    )
    return int(set(given.values()) != {1} or set(tries) != {1} or not after <= set(crowd.labels))


def compressed(factor: float) -> dict[str, float]:
    """Return how long is waited for what, all of it shorter by a factor."""
    usual = Timing()
    names = ("reap", "unfollowed", "silent", "bare")
    return {name: getattr(usual, f"{name}_s") / factor for name in names}


def containers(airflow: ContainerAirflow) -> set[str]:
    """Return the ids of the containers that run."""
    return {one["Id"] for one in airflow.containers(running=True)}


def watch(airflow: ContainerAirflow, expected: set[str], seconds: float) -> None:
    """See for so long that the same containers run, and no others."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = containers(airflow)
        assert found == expected, f"lost: {expected - found}, new: {found - expected}"
        time.sleep(2)


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]] + [20.0, 60.0, 90.0, 1.0][len(sys.argv) - 1 :]
    sys.exit(main(int(given[0]), *given[1:]))
