"""Kills at random moments: of tasks, Airflow's parts, and whatever of a place may be struck, while jobs count there."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from system.arena import Arena
from system.jobs import JobRun
from system.processes import eventually

#: Seconds between two kills, at most.
_PAUSE_S = 3.0
_FINAL = {"success", "failed"}
#: What ends the work itself, so that another attempt is right.
_ENDS_WORK = "container"


class Slaughter:
    """Some jobs, half of them deferred, that are begun again as they end while somebody kills what runs them.

    Parameters
    ----------
    airflow : `Arena`
    jobs : int
        At a time.
    what : sequence of str
        May be struck, each as often as it stands there: a ``task``, a component of Airflow, what the arena says. Components
        more seldom: Airflow takes many seconds to begin them again.
    chance : random.Random
        Decides what is struck, and when.
    epochs : int
        Of each job, at five a second.
    """

    def __init__(self, airflow: Arena, *, jobs: int, what: Sequence[str], chance: random.Random, epochs: int = 40) -> None:
        self.airflow, self._what, self._chance, self._epochs = airflow, tuple(what), chance, epochs
        self._tag = time.monotonic_ns()
        self.runs: list[JobRun] = []
        self.struck: Counter[str] = Counter()
        self._replaced = 0
        for _ in range(jobs):
            self._begin()

    def kill(self, count: int) -> None:
        """Strike something so many times, each at a random moment."""
        while self.struck.total() < count:
            time.sleep(self._chance.uniform(0.0, _PAUSE_S))
            self.strike(self._chance.choice(self._what))
            self._replace()

    def strike(self, what: str) -> bool:
        """Strike something; return whether there was anything."""
        struck = self._strike(what)
        self.struck[what] += struck
        return struck

    def check(self) -> None:
        """Wait for every run's end; check that each attempt ran once, all is right, and nothing is left."""
        for run in self.runs:
            run.wait_success(timeout=300)
            assert run.value == run.expected, run.story()
            starts = run.starts
            attempts = [line["attempt"] for line in starts]
            assert attempts, f"nothing tells that it ran\n{run.story()}"
            assert sorted(set(attempts)) == sorted(attempts), f"an attempt began twice\n{run.story()}"
            assert all(line["alone"] for line in starts), f"two attempts ran at once\n{run.story()}"
            assert run.grants() == [], run.story()
        assert self.attempts - len(self.runs) <= self.struck[_ENDS_WORK], f"work was ended that nobody killed\n{self._again()}"
        assert max((made := self.airflow.made()).values(), default=1) == 1, made
        eventually(lambda: not self.airflow.running(), timeout=130, what="a reaper that stops every orphan")
        for run in self.runs:
            assert run.processes() == []
            run.ledger.close()

    @property
    def attempts(self) -> int:
        """How many attempts were begun."""
        return sum(len(run.starts) for run in self.runs)

    def summary(self) -> str:
        """Tell what was struck and what came of it."""
        struck = ", ".join(f"{count} {what}" for what, count in sorted(self.struck.items()))
        tries = sum(run.task["try_number"] for run in self.runs)
        return f"{struck}; {len(self.runs)} jobs, {self.attempts} attempts, {tries} tries of Airflow"

    def _begin(self) -> None:
        name, deferred = f"kills-{self._tag}-{len(self.runs)}", len(self.runs) % 2 == 0
        self.runs.append(self.airflow.begin(name, deferred=deferred, epochs=self._epochs))

    def _replace(self) -> None:
        """Begin a job for each that has ended since the last look."""
        ended = sum(run.server.run(run.dag, run.run)["state"] in _FINAL for run in self.runs)
        for _ in range(ended - self._replaced):
            self._begin()
            self._replaced += 1

    def _again(self) -> str:
        """Tell of the jobs that have several attempts."""
        return "\n".join(run.story() for run in self.runs if len(run.starts) > 1)

    def _strike(self, what: str) -> bool:
        if what == "task":
            return self._kill_task()
        if (strike := self.airflow.strikes.get(what)) is not None:
            return strike(self._chance)
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
