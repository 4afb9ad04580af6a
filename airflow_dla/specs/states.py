"""The life of an attempt, and how it ended."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import ClassVar

from airflow_dla import errors
from airflow_dla.specs.jobs import PROTOCOL, protocol
from airflow_dla.specs.references import ArtifactRef
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import integer, mapping, mapping_of, member, natural, number, optional, remark


class AttemptState(enum.StrEnum):
    """Where an attempt is; it only ever moves down this list.

    ``waiting`` for its grant → ``granted`` → ``launching``, from the moment a follower
    may have handed it to the runtime → ``running`` → ``ended``.
    """

    WAITING = "waiting"
    GRANTED = "granted"
    LAUNCHING = "launching"
    RUNNING = "running"
    ENDED = "ended"


class ExitReason(enum.StrEnum):
    """Why an attempt ended; ``refused`` is one that never started, since its place will not run it."""

    SUCCEEDED = "succeeded"
    USER_ERROR = "user_error"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    LOST = "lost"
    TIMED_OUT = "timed_out"
    PREEMPTED = "preempted"
    STOPPED = "stopped"
    REFUSED = "refused"

    @property
    def infrastructure(self) -> bool:
        """Whether a new attempt inside the same Airflow try is due: not the user's fault."""
        return self in {ExitReason.LOST, ExitReason.PREEMPTED}


_ERRORS: Mapping[ExitReason, type[errors.DlaError]] = {
    ExitReason.USER_ERROR: errors.JobFailed,
    ExitReason.OUT_OF_MEMORY: errors.JobOutOfMemory,
    ExitReason.KILLED: errors.JobKilled,
    ExitReason.LOST: errors.JobLost,
    ExitReason.TIMED_OUT: errors.JobTimedOut,
    ExitReason.PREEMPTED: errors.JobPreempted,
    ExitReason.STOPPED: errors.JobStopped,
    ExitReason.REFUSED: errors.LaunchRefused,
}


def readings(raw: object, where: str) -> dict[str, float]:
    """Parse what a program measured; what is no finite number under a name is left out."""
    found = {remark(name, f"{where} key"): value for name, value in mapping(raw, where).items()}
    return {name: float(value) for name, value in found.items() if isinstance(value, (int, float)) and math.isfinite(value)}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exit(Spec):
    """How an attempt ended, as the keeper wrote it or the ledger concluded.

    Parameters
    ----------
    reason : `ExitReason`
    message : str
        One line for a person: what happened and what to do.
    code, signal : int or None
        Exit status or signal of the work's first process.
    oom_kills : int
        Processes that the kernel killed for memory.
    started_at, ended_at : float
        Seconds since the epoch on the job's host; 0 if it never started.
    outputs : mapping of output to `ArtifactRef`
    metrics : mapping of metric to float
        The last value of each; one that is no finite number is left out, since an end
        must be readable whatever the program said.
    peaks : mapping of resource to float
        Most memory (GiB) held, CPU seconds used (``cpu_s``). Of GPUs, where their driver tells:
        most memory held on one (``gpu_memory``, GiB), how many were busy at once (``gpu``), GPU
        seconds used (``gpu_s``).
    """

    called: ClassVar[str] = "exit"

    reason: ExitReason = spec_field(member(ExitReason))
    message: str = spec_field(remark, default="")
    code: int | None = spec_field(optional(integer), default=None)
    signal: int | None = spec_field(optional(integer), default=None)
    oom_kills: int = spec_field(natural, default=0)
    started_at: float = spec_field(number, default=0.0)
    ended_at: float = spec_field(number, default=0.0)
    outputs: Mapping[str, ArtifactRef] = spec_field(mapping_of(ArtifactRef.from_mapping), factory=dict)
    metrics: Mapping[str, float] = spec_field(readings, factory=dict)
    peaks: Mapping[str, float] = spec_field(readings, factory=dict)
    protocol: int = spec_field(protocol, default=PROTOCOL, always=True)

    @property
    def succeeded(self) -> bool:
        """Whether the job did what it was asked to."""
        return self.reason is ExitReason.SUCCEEDED

    def error(self, where: str) -> errors.DlaError:
        """Return the error that says this end, for an attempt that did not succeed."""
        return _ERRORS[self.reason](f"{where}: {self.message or self.reason.value}")
