"""Kills at random moments: of tasks, triggerer, scheduler and containers, while jobs in containers count."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress

from system.containers import ContainerAirflow, ContainerRun
from system.processes import eventually

from airflow_dla.runtime.docker.engine import Engine

#: Seconds between two kills, at most.
_PAUSE_S = 3.0
#: What is killed, the components more seldom: Airflow takes many seconds to begin them again.
_WHAT = ("task", "task", "task", "container", "container", "triggerer", "scheduler")
_FINAL = {"success", "failed"}


class Slaughter:
    """Some jobs, half of them deferred, that are begun again as they end while somebody kills what runs them.

    Parameters
    ----------
    airflow : `ContainerAirflow`
    jobs : int
        At a time.
    chance : random.Random
        Decides what is killed, and when.
    epochs : int
        Of each job, at five a second.
    """

    def __init__(self, airflow: ContainerAirflow, *, jobs: int, chance: random.Random, epochs: int = 40) -> None:
        self.airflow, self._chance, self._epochs = airflow, chance, epochs
        self._tag = time.monotonic_ns()
        self.runs: list[ContainerRun] = []
        self.killed: Counter[str] = Counter()
        self._engine = Engine(airflow.engine.client, name="engine")
        self._replaced = 0
        for _ in range(jobs):
            self._begin()

    def kill(self, count: int) -> None:
        """Kill something so many times, each at a random moment."""
        while sum(self.killed.values()) < count:
            time.sleep(self._chance.uniform(0.0, _PAUSE_S))
            what = self._chance.choice(_WHAT)
            self.killed[what] += self._kill(what)
            self._replace()

    def check(self) -> None:
        """Wait for every run's end; check that each attempt ran once, all is right, and nothing is left."""
        for run in self.runs:
            run.wait_success(timeout=300)
            assert run.value == run.expected, run.story()
            attempts = [line["attempt"] for line in run.starts]
            assert sorted(set(attempts)) == sorted(attempts), f"an attempt began twice\n{run.story()}"
            assert all(line["alone"] for line in run.starts), f"two attempts ran at once\n{run.story()}"
            made = Counter(one["Labels"]["dla.attempt"] for one in run.containers())
            assert max(made.values(), default=1) == 1, made
            assert run.grants() == [], run.story()
        eventually(lambda: not self.airflow.containers(running=True), timeout=130, what="a reaper that stops every orphan")
        for run in self.runs:
            assert run.processes() == []
            run.ledger.close()
        self._engine.close()

    def summary(self) -> str:
        """Tell what was killed and what came of it."""
        attempts = sum(len(run.starts) for run in self.runs)
        killed = ", ".join(f"{count} {what}" for what, count in sorted(self.killed.items()))
        return f"{killed}; {len(self.runs)} jobs, {attempts} attempts"

    def _begin(self) -> None:
        dag = ("docker_deferred", "docker_sync")[len(self.runs) % 2]
        run = ContainerRun(self.airflow, dag, f"kills-{self._tag}-{len(self.runs)}", epochs=self._epochs, hold=False)
        self.runs.append(run)

    def _replace(self) -> None:
        """Begin a job for each that has ended since the last look."""
        ended = sum(run.server.run(run.dag, run.run)["state"] in _FINAL for run in self.runs)
        for _ in range(ended - self._replaced):
            self._begin()
            self._replaced += 1

    def _kill(self, what: str) -> bool:
        """Kill something; return whether there was anything."""
        if what == "task":
            return self._kill_task()
        if what == "container":
            return self._kill_container()
        self.airflow.server.kill(what)
        time.sleep(self._chance.uniform(0.0, _PAUSE_S))
        self.airflow.server.restart(what)
        return True

    def _kill_task(self) -> bool:
        """Kill the process of some task that runs, in whatever part of its life it is."""
        pids = [task["pid"] for run in self.runs if (task := run.task)["state"] == "running" and task["pid"]]
        if not pids:
            return False
        with suppress(ProcessLookupError):
            os.kill(self._chance.choice(pids), signal.SIGKILL)
            return True
        return False

    def _kill_container(self) -> bool:
        """Kill the work in some container that runs."""
        running = self.airflow.containers(running=True)
        if not running:
            return False
        return self._engine.kill(self._chance.choice(running)["Id"], "SIGKILL")
