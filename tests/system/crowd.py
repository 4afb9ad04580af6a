"""Many jobs in containers at once, and what following them costs the triggerer."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from system.containers import ContainerAirflow
from system.processes import eventually

from airflow_dla.ledger import Attempt, Ledger, connect
from airflow_dla.specs import AttemptState, JobKey

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the triggerer took in some time.

    Parameters
    ----------
    cpu : float
        Part of a core.
    resident : tuple of float
        MiB, at the beginning and at the end.
    """

    cpu: float
    resident: tuple[float, float]

    @property
    def growth(self) -> float:
        """By how many MiB it grew."""
        return self.resident[1] - self.resident[0]


class Crowd:
    """A run of deferred jobs that talk until each may end.

    Parameters
    ----------
    airflow : `ContainerAirflow`
    count : int
    pace : float
        Seconds between two lines of one job.
    """

    def __init__(self, airflow: ContainerAirflow, count: int, *, pace: float) -> None:
        self.airflow, self.count = airflow, count
        self.side = airflow.side / f"crowd-{time.monotonic_ns()}"
        self.side.mkdir()
        self.side.chmod(0o777)
        self.run = airflow.server.trigger("docker_crowd", {"side": str(self.side), "count": count, "pace": pace})

    @cached_property
    def ledger(self) -> Ledger:
        """The workspace's ledger."""
        return connect(self.airflow.ledgers["dla_engine"])

    @property
    def labels(self) -> list[str]:
        """The first attempts of all jobs, in the order of their folders."""
        return [f"{JobKey(dag='docker_crowd', run=self.run, task='job', index=number).id}.1" for number in range(self.count)]

    def attempts(self) -> list[Attempt]:
        """Return the attempts that there are, in that order."""
        found = self.ledger.attempts(self.labels)
        return [found[label] for label in self.labels if label in found]

    def wait_followed(self, timeout: float) -> None:
        """Wait until all run and are followed by a triggerer."""

        def followed() -> bool:
            holders = {name for name, kind, _ in self.ledger.followers() if kind == "triggerer"}
            held = [one for one in self.attempts() if one.state is AttemptState.RUNNING and one.lease and one.lease.holder in holders]
            return len(held) == self.count

        eventually(followed, timeout=timeout, what=f"{self.count} jobs that the triggerer follows", every=1.0)

    def end(self, over_s: float, timeout: float) -> list[float]:
        """Let the jobs end one after the other; return for each how long after its end the ledger knew."""
        for number in range(self.count):
            (self.side / str(number) / "go").touch()
            time.sleep(over_s / self.count)
        state = self.airflow.server.wait("docker_crowd", self.run, timeout=timeout)
        states = Counter(task["state"] for task in self.airflow.server.tasks("docker_crowd", self.run))
        assert state == "success", states
        ended = [float((self.side / str(number) / "ended").read_text()) for number in range(self.count)]
        return [(attempt.ended_at or float("inf")) - at for attempt, at in zip(self.attempts(), ended, strict=True)]


def cost(airflow: ContainerAirflow, seconds: float) -> Cost:
    """Measure the triggerer and all processes below it for so many seconds."""
    pids = airflow.server.pids("triggerer")
    before, resident, began = _cpu(pids), _resident(pids), time.monotonic()
    time.sleep(seconds)
    return Cost(cpu=(_cpu(pids) - before) / (time.monotonic() - began), resident=(resident, _resident(pids)))


def _cpu(pids: list[int]) -> float:
    return sum(_stat(pid, 11) + _stat(pid, 12) for pid in pids) / TICKS


def _resident(pids: list[int]) -> float:
    return sum(_stat(pid, 21) for pid in pids) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _stat(pid: int, field: int) -> int:
    """Return a number of ``/proc/PID/stat``, counted behind the name."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[field])
