"""What the members of a distributed job ask for, and what their ends come to; pure.

The job's own attempt is member 0. Each other member is an attempt of a job of its own,
whose key has the member's number, and remembers in its lineage (``of``) for which
attempt of the first it was opened. All are one gang of the allocation: granted together
or not at all, preempted together. The gang's name is new for every start, so that nobody
takes what is left of an earlier one for a part of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

from airflow_dla.errors import InvalidSpec
from airflow_dla.ledger import Attempt, Snapshot
from airflow_dla.specs import Exit, ExitReason, JobKey, JobSpec, Part, parts

#: Of several ends the first of these is the job's: what people decided, what the workspace
#: decided or lost, then what programs did; one that fails makes the others fail.
_ORDER: Final = (
    ExitReason.STOPPED,
    ExitReason.TIMED_OUT,
    ExitReason.PREEMPTED,
    ExitReason.REFUSED,
    ExitReason.LOST,
    ExitReason.OUT_OF_MEMORY,
    ExitReason.KILLED,
    ExitReason.USER_ERROR,
)


def begun(spec: JobSpec, where: str) -> JobSpec:
    """Return a task's job as it is asked for first: with the most members it may have.

    Raises
    ------
    InvalidSpec
        If it is spread over several nodes and names a gang as well, or is to have a
        process for each GPU and may be granted none.
    """
    if spec.distributed is None:
        return spec
    gpus = spec.request.amounts.get("gpu")
    if spec.distributed.nproc == "gpu" and (gpus is None or gpus.minimum < 1):
        raise InvalidSpec(
            f"{where}: distributed.nproc is 'gpu', but its request may be granted none; ask for some with request={{'gpu': 1}}"
        )
    if spec.distributed.most == 1:
        return spec
    if spec.policy.gang is not None:
        raise InvalidSpec(f"{where}: distributed= makes a gang of its nodes, so policy.gang ({spec.policy.gang!r}) cannot name another")
    return grouped(spec, spec.distributed.most, f"try{spec.lineage.get('try', 1)}")


def grouped(spec: JobSpec, members: int, start: str) -> JobSpec:
    """Return a job that asks for so many members, in a gang that is named after a start."""
    gang = f"{spec.key.id}-{start}" if members > 1 else None
    return dataclasses.replace(spec, policy=dataclasses.replace(spec.policy, gang=gang, gang_size=members))


def member_key(key: JobKey, number: int) -> JobKey:
    """Return the key of a member's job."""
    return dataclasses.replace(key, member=number)


def member_spec(first: Attempt, number: int) -> JobSpec:
    """Return the job of another member: what the first asks for; how long all wait is the first's to say."""
    spec = first.spec
    policy = dataclasses.replace(spec.policy, wait_timeout_s=None, infra_retries=0)
    lineage = {**spec.lineage, "of": first.id, "asked_at": spec.lineage.get("asked_at", first.created_at)}
    return dataclasses.replace(spec, key=member_key(spec.key, number), policy=policy, lineage=lineage, distributed=None)


def parts_of(first: Attempt, others: Sequence[Attempt], handle: Mapping[str, object] | None = None) -> tuple[Part, ...]:
    """Return what each member is told, once all are granted.

    Parameters
    ----------
    first : `Attempt`
    others : sequence of `Attempt`
        Members 1, 2, …
    handle : mapping, optional
        Of the first, once it runs: its ``address`` is where others reach it, if its place says one.
    """
    spec = first.spec
    assert spec.distributed is not None
    grants = [one.grant for one in (first, *others) if one.grant is not None]
    address = (handle or {}).get("address")
    restarts = int(spec.lineage.get("restart", 0))
    return parts(spec.distributed, first.id, grants, address=None if address is None else str(address), restarts=restarts)


def verdict(first: Attempt, exit_: Exit, others: Sequence[Attempt]) -> Exit:
    """Return the end of the whole: the first member's, unless another is why it ended.

    Parameters
    ----------
    first : `Attempt`
    exit_ : `Exit`
        How the first member ended.
    others : sequence of `Attempt`
        All ended.
    """
    ends = [(first, exit_), *((one, one.exit) for one in others if one.exit is not None)]
    causes = [(one, end) for one, end in ends if not end.succeeded and not _taken_along(one, end)]
    if not causes:
        return exit_
    why, end = min(causes, key=lambda cause: (_ORDER.index(cause[1].reason), cause[1].ended_at))
    if why is first:
        return exit_
    said = f"member {why.spec.key.member}: {end.message or end.reason.value}"
    return dataclasses.replace(exit_, reason=end.reason, message=said, code=end.code, signal=end.signal, outputs={})


def _taken_along(one: Attempt, end: Exit) -> bool:
    """Whether a member only ended because the others had to."""
    return one.stop is ExitReason.LOST and end.reason is ExitReason.LOST


def with_members(snapshot: Snapshot, ids: Sequence[str], members: int) -> Snapshot:
    """Return what a round would read if a gang asked for fewer members: those named first."""
    kept, dropped = set(ids[:members]), set(ids[members:])
    gang = {"gang_size": members} if members > 1 else {"gang_size": 1, "gang": None}
    pending = tuple(dataclasses.replace(one, **gang) if one.id in kept else one for one in snapshot.pending if one.id not in dropped)
    return dataclasses.replace(snapshot, pending=pending)
