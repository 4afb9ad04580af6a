"""Jobs: one run of one entrypoint for one task."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.specs.agents import AgentSpec, Entrypoint
from airflow_dla.specs.distributed import Distributed
from airflow_dla.specs.references import ArtifactRef, Reference, reference
from airflow_dla.specs.resources import Request
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import (
    boolean,
    identifier,
    integer,
    json_value,
    mapping_of,
    natural,
    number,
    optional,
    positive,
    seconds,
    sequence_of,
    text,
)

#: Version of everything that crosses a process border; readers accept this one and the one before.
PROTOCOL: Final = 1


def protocol(raw: object, where: str) -> int:
    """Parse a protocol version; a record of this version or the one before is read."""
    found = integer(raw, where)
    if found not in {PROTOCOL - 1, PROTOCOL}:
        raise InvalidSpec(
            f"{where}: this version of airflow-dla reads protocol {PROTOCOL} and the one before, got {found}; run one version everywhere"
        )
    return found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobKey(Spec):
    """What names a job: the task instance it runs for.

    Parameters
    ----------
    dag, run, task : str
        Airflow's ids.
    index : int
        Map index, -1 when the task is not mapped.
    member : int
        Which member of a distributed job; 0 is the job itself.
    """

    called: ClassVar[str] = "job key"

    dag: str = spec_field(text)
    run: str = spec_field(text)
    task: str = spec_field(text)
    index: int = spec_field(integer, default=-1)
    member: int = spec_field(natural, default=0)

    def __post_init__(self) -> None:
        if self.index < -1:
            raise InvalidSpec(f"job key.index must be a map index >= 0, or -1 for a task that is not mapped, got {self.index}")

    @property
    def id(self) -> str:
        """Twenty hexadecimal digits, the same in every process: good for labels and folders."""
        written = json.dumps([self.dag, self.run, self.task, self.index, *([self.member] if self.member else [])])
        return hashlib.sha256(written.encode()).hexdigest()[:20]

    @property
    def instance(self) -> str:
        """The task within its run: with its map index, and its number as a member."""
        mapped = f"[{self.index}]" if self.index >= 0 else ""
        return f"{self.task}{mapped}{f' member {self.member}' if self.member else ''}"

    def __str__(self) -> str:
        return f"{self.dag}.{self.instance} ({self.run})"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobPolicy(Spec):
    """Where, for whom and how long a job may run.

    Parameters
    ----------
    place : str
        Name of a place, or ``"any"``.
    team : str
    priority : int
        Larger goes first.
    preemptible : bool
        Whether it may be stopped at a checkpoint for something that matters more.
    wait_timeout_s, run_timeout_s : float or None
        Seconds it may wait for its grant, and run; no limit when None. The author
        writes ``wait_timeout`` and ``run_timeout``, also as ``"2h"``. Each attempt has its
        own: the wait after a preemption is not shortened by the first one.
    infra_retries : int
        New attempts inside one Airflow try after losses that are nobody's fault; those
        after a preemption do not count.
    grace_s : float
        Seconds between the stop signal and the kill.
    deadline_s : float or None
        Seconds after it was first asked for at which it should have ended (``deadline``);
        a promise to others, not a limit: nothing is stopped for it.
    gang : str or None
        Tasks of one run that name the same gang are granted together or not at all.
    gang_size : int, >= 1
        How many jobs the gang has.
    """

    called: ClassVar[str] = "policy"
    short: ClassVar[Mapping[str, str]] = {
        "wait_timeout": "wait_timeout_s",
        "run_timeout": "run_timeout_s",
        "grace": "grace_s",
        "deadline": "deadline_s",
    }

    place: str = spec_field(text, default="any")
    team: str = spec_field(identifier, default="default")
    priority: int = spec_field(integer, default=0)
    preemptible: bool = spec_field(boolean, default=False)
    wait_timeout_s: float | None = spec_field(optional(seconds), default=None)
    run_timeout_s: float | None = spec_field(optional(positive(seconds)), default=None)
    infra_retries: int = spec_field(natural, default=3)
    grace_s: float = spec_field(seconds, default=30.0)
    deadline_s: float | None = spec_field(optional(positive(seconds)), default=None)
    gang: str | None = spec_field(optional(identifier), default=None)
    gang_size: int = spec_field(positive(integer), default=1)
    overrides: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)

    def __post_init__(self) -> None:
        if self.gang is None and self.gang_size > 1:
            raise InvalidSpec(f"policy.gang_size is {self.gang_size}, but no gang is named; name one with policy.gang in all its tasks")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec(Spec):
    """Everything that is known of a job before it is launched; secret-free.

    Parameters
    ----------
    key : `JobKey`
    agent : `AgentSpec`
    entrypoint : `Entrypoint`
    verb : str
        Which operator: ``train``, ``job``, …
    args : mapping
        Plain JSON; flags of a command, ``job.args`` of a function.
    inputs : mapping of name to reference
        Resolved and pinned.
    outputs : tuple of str
        Names of what it must write.
    request : `Request`
    policy : `JobPolicy`
    code : `ArtifactRef` or None
        Folder that is put first on its path.
    seed : int
    expected_s : float or None
        How long it is expected to run, s, from earlier runs of the task.
    distributed : `Distributed` or None
        How it is spread over several processes.
    lineage : mapping
        What else is worth remembering: git commit, data interval, try number, conf.
    """

    called: ClassVar[str] = "job"

    key: JobKey = spec_field(JobKey.from_mapping)
    agent: AgentSpec = spec_field(AgentSpec.from_mapping)
    entrypoint: Entrypoint = spec_field(Entrypoint.parse)
    request: Request = spec_field(Request.from_mapping)
    verb: str = spec_field(identifier, default="job")
    args: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    inputs: Mapping[str, Reference] = spec_field(mapping_of(reference, key=identifier), factory=dict)
    outputs: tuple[str, ...] = spec_field(sequence_of(identifier), default=())
    policy: JobPolicy = spec_field(JobPolicy.from_mapping, factory=JobPolicy)
    code: ArtifactRef | None = spec_field(optional(ArtifactRef.from_mapping), default=None)
    seed: int = spec_field(natural, default=0)
    expected_s: float | None = spec_field(optional(positive(number)), default=None)
    distributed: Distributed | None = spec_field(optional(Distributed.from_mapping), default=None)
    lineage: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    protocol: int = spec_field(protocol, default=PROTOCOL, always=True)

    def __post_init__(self) -> None:
        twice = {output for output in self.outputs if self.outputs.count(output) > 1}
        if twice:
            raise InvalidSpec(f"outputs must differ, got {', '.join(sorted(twice))} twice (job {self.key})")
