"""What is said between the runtime and the runner inside a job.

The runner (`airflow_dla.agents`) imports none of this: it is mounted into images that
have nothing but a Python 3.8. ``tests/agents/test_protocol.py`` holds both sides together.

A job's folder, written by the runtime, the keeper and the runner:

=================== ==========================================================
``job.json``        `JobFile`, written by the runtime before anything starts
``keeper.json``     `KeeperFile`: pid, boot id and start time; alive means all three match
``cgroups.json``    control groups made for it, and the files that hold its limits
``grant.json``      the `Grant` that holds since it was resized; written by the runtime
``stop.json``       ``{"reason": …}``: stop is wanted; before the start, it never starts
``log``             stdout and stderr of the work, in order
``metrics.jsonl``   every line the runner said, once more
``in/ out/ code/``  inputs, outputs and the shipped code
``checkpoint/``     a plain folder, restored before the start and saved after
``checkpoints/N/``  what ``job.checkpoint.save`` wrote whole
``exit.json``       `Exit`, written atomically when everything is published
=================== ==========================================================

Lines on stdout are ``::dla:NONCE::{json}`` and at most 64 KiB.

Of an attempt in a container that folder is ``dla/`` of another, which the container never
sees; the runtime and the mate talk there:

=================== ==========================================================
``job.json``        `JobFile`, of which the container has a copy
``stop.json``       as above, with ``at``, seconds; where the mate wants it also ``why``, and
                    the ``grace_s`` until it is killed
``mate.json``       `KeeperFile` of the mate
``fetched.json``    ``{}`` when all is in place, or ``{"error": [reason, message]}``
``container.json``  ``{"id": …}``, written by the runtime once there is one
``ended.json``      ``{"succeeded": …, "hard": …}``, written by the runtime when the container
                    has ended or will never start; hard: it was killed
``published.json``  ``{"outputs": {name: reference}, "peaks": {"memory": GiB, "cpu_s": s, …},
                    "error": [reason, message] | null}``, the mate's last word
=================== ==========================================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from airflow_dla.specs.agents import Entrypoint, setting, variable
from airflow_dla.specs.distributed import Part
from airflow_dla.specs.grants import Grant
from airflow_dla.specs.jobs import PROTOCOL, protocol
from airflow_dla.specs.references import ArtifactRef, Reference, public_url, reference
from airflow_dla.specs.spec import Spec, spec_field
from airflow_dla.specs.values import (
    amount,
    identifier,
    json_value,
    mapping_of,
    natural,
    number,
    optional,
    positive,
    remark,
    sequence_of,
    text,
)

#: Longest line the runner says, in bytes.
MAX_LINE: Final = 65_536

#: Kinds of lines: ``{"kind": …, "at": seconds, …}``.
LINE_KINDS: Final = ("metric", "heartbeat", "checkpoint", "output", "error", "note", "peaks")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobFile(Spec):
    """What the runner gets: a job, its grant and where its data lies.

    Parameters
    ----------
    attempt : str
        ``JOB_ID.NUMBER``, the label of everything that belongs to it.
    nonce : str
        Unguessable; tells the runner's lines from a program's.
    store : str
        Password-free URL of the artifact store.
    checkpoint : str
        Key of its checkpoints; a later attempt of the same job finds them.
    grant : `Grant`
        The job's limits.
    run_timeout_s : float or None
        The keeper stops the work after so many seconds, followed or not.
    part : `Part` or None
        What it is of a distributed job. Only the first member publishes anything.
    """

    called: ClassVar[str] = "job.json"

    attempt: str = spec_field(text)
    nonce: str = spec_field(text)
    entrypoint: Entrypoint = spec_field(Entrypoint.parse)
    grant: Grant = spec_field(Grant.from_mapping)
    store: str = spec_field(public_url)
    checkpoint: str = spec_field(text)
    args: Mapping[str, Any] = spec_field(mapping_of(json_value), factory=dict)
    inputs: Mapping[str, Reference] = spec_field(mapping_of(reference, key=identifier), factory=dict)
    outputs: tuple[str, ...] = spec_field(sequence_of(identifier), default=())
    metrics: Mapping[str, str] = spec_field(mapping_of(text, key=identifier), factory=dict)
    env: Mapping[str, str] = spec_field(mapping_of(setting, key=variable), factory=dict)
    code: ArtifactRef | None = spec_field(optional(ArtifactRef.from_mapping), default=None)
    seed: int = spec_field(natural, default=0)
    grace_s: float = spec_field(amount, default=30.0)
    run_timeout_s: float | None = spec_field(optional(positive(number)), default=None)
    part: Part | None = spec_field(optional(Part.from_mapping), default=None)
    protocol: int = spec_field(protocol, default=PROTOCOL, always=True)

    @property
    def published(self) -> tuple[str, ...]:
        """Names of the outputs that are published: none of any but the first member of a distributed job."""
        return () if self.part is not None and self.part.node_rank else self.outputs


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeeperFile(Spec):
    """Who keeps an attempt on a host; written by the keeper itself.

    Parameters
    ----------
    pid : int
    boot_id : str
        ``/proc/sys/kernel/random/boot_id``
    start_ticks : int
        Field 22 of ``/proc/PID/stat``: with the boot id it names one process for ever.
    limits : str
        What is in force, for the task log: ``cgroup v1: 1 cpu, 512 MiB``.
    """

    called: ClassVar[str] = "keeper.json"

    pid: int = spec_field(positive(natural))
    boot_id: str = spec_field(text)
    start_ticks: int = spec_field(natural)
    limits: str = spec_field(remark, default="")
    protocol: int = spec_field(protocol, default=PROTOCOL, always=True)
