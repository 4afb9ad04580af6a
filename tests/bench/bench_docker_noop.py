"""What our operator costs beside Airflow's own: a command that does nothing, in one process, on one engine, in turn.

Usage: ``python tests/bench/bench_docker_noop.py [ROUNDS]`` (20 by default; with the repository's
root and ``tests`` on PYTHONPATH; ``DOCKER_HOST`` names an engine, else one is started). Both
operators run ``true`` in the same image with the same network, synchronously, by
``execute(context)``; wall seconds, since most of it is the engine's work.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_HOME = tempfile.mkdtemp(prefix="dla-noop-", dir="/var/tmp")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(AIRFLOW_HOME=_HOME, AIRFLOW__CORE__LOAD_EXAMPLES="False", AIRFLOW__CORE__UNIT_TEST_MODE="True")

from airflow.providers.docker.operators.docker import DockerOperator  # noqa: E402 - Airflow reads its home when it is imported
from airflow.sdk import DAG  # noqa: E402
from docker_daemon import Daemon, Engine  # noqa: E402
from docker_images import BARE, image  # noqa: E402
from fixtures_airflow import context  # noqa: E402
from fixtures_docker import answering  # noqa: E402
from side_by_side import report  # noqa: E402

from airflow_dla.hooks import DlaHook  # noqa: E402
from airflow_dla.operators import JobOperator  # noqa: E402


def main(rounds: int) -> None:
    """Run both in turn and print medians and their ratio, for each network."""
    logging.disable(logging.INFO)
    DlaHook().workspace()  # makes the ledger of this home
    with engine() as found:
        name = image(found, BARE)
        for network in ("bridge", "none"):
            ours, theirs = operators(found, name, network)
            times: dict[str, list[float]] = {"ours": [], "DockerOperator": []}
            for number in range(rounds + 1):
                for what, run in (("ours", ours), ("DockerOperator", theirs)):
                    began = time.perf_counter()
                    run(number)
                    if number:  # the first is the warming up of both
                        times[what].append(time.perf_counter() - began)
            sys.stdout.write(f"network {network}: {report(times)}\n")


def operators(found: Engine, name: str, network: str) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """Return what runs a round of each."""
    place = {"kind": "docker", "url": found.host, "folder": f"{_HOME}/files", "policy": {"networks": [network]}}
    os.environ[f"AIRFLOW_CONN_LAB_{network.upper()}"] = json.dumps({"conn_type": "dla", "extra": {"places": {"gpu1": place}}})
    with DAG(f"noop-{network}", schedule=None):
        dla = JobOperator(
            task_id="dla", dla_conn_id=f"lab_{network}", deferrable=False, request={"cpu": 1, "memory": "64MiB"},
            agent={"name": "noop", "image": name, "code": None}, entrypoint=["true"],
        )  # fmt: skip
        docker = DockerOperator(
            task_id="docker",
            docker_url=found.host,
            image=name,
            command="true",
            network_mode=network,
            mount_tmp_dir=False,
            auto_remove="never",
        )

    def ours(number: int) -> Any:
        dla.__dict__.pop("hook", None)
        return dla.execute(context("dla", dag_id=network, run_id=f"r{number}"))

    def theirs(number: int) -> Any:
        docker.__dict__.pop("hook", None)
        return docker.execute(context("docker", dag_id=network, run_id=f"r{number}"))

    return ours, theirs


@contextmanager
def engine() -> Iterator[Engine]:
    """Give an engine."""
    if found := answering():
        yield found
        return
    daemon = Daemon()
    try:
        yield daemon.engine
    finally:
        daemon.remove()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
