"""Whether a job gets another attempt inside the same Airflow try, and what it takes along."""

from __future__ import annotations

import dataclasses
from typing import Any

from airflow_dla.ledger import Attempt
from airflow_dla.specs import ExitReason, JobSpec


def next_spec(ended: Attempt, *, inherited: bool) -> JobSpec | None:
    """Return the job of the next attempt, None when this end is the job's.

    A loss is nobody's fault and counts against ``infra_retries``. A preemption is a
    decision of the workspace: it counts against nothing, and how often one job may be
    preempted is for those decisions to limit. Both keep the time when the job was first
    asked for, so that it keeps its place in the queue.

    Parameters
    ----------
    ended : `Attempt`
    inherited : bool
        A stop that was wanted is the kill of the Airflow try before this one.
    """
    assert ended.exit is not None
    spec, why = ended.spec, _why(ended.exit.reason, ended.stop)
    if restart_due(ended, why):
        return dataclasses.replace(spec, lineage={**_keeping_age(ended), "restart": int(spec.lineage.get("restart", 0)) + 1})
    losses = int(spec.lineage.get("infra_retry", 0)) + (why is not ExitReason.PREEMPTED)
    due = why.infrastructure or (why is ExitReason.STOPPED and inherited)
    if not due or (why is not ExitReason.PREEMPTED and losses > spec.policy.infra_retries):
        return None
    return dataclasses.replace(spec, lineage={**_keeping_age(ended), "infra_retry": losses})


def restart_due(ended: Attempt, why: ExitReason) -> bool:
    """Whether a distributed job begins again because a program of it failed or was killed."""
    how, restarts = ended.spec.distributed, int(ended.spec.lineage.get("restart", 0))
    return how is not None and why in {ExitReason.USER_ERROR, ExitReason.KILLED} and restarts < how.max_restarts


def _keeping_age(ended: Attempt) -> dict[str, Any]:
    return {**ended.spec.lineage, "asked_at": ended.spec.lineage.get("asked_at", ended.created_at)}


def keeping_place(spec: JobSpec, last: Attempt | None) -> JobSpec:
    """Return the job of the next Airflow try, as old as the last attempt if that was lost or made way and nobody went on.

    A worker may die together with the job that it followed. Clearing a task raises
    ``max_tries``: it asks anew.
    """
    if last is None or last.exit is None or not _why(last.exit.reason, last.stop).infrastructure:
        return spec
    if last.spec.lineage.get("max_tries") != spec.lineage.get("max_tries"):
        return spec
    return dataclasses.replace(spec, lineage={**spec.lineage, "asked_at": last.spec.lineage.get("asked_at", last.created_at)})


def _why(reason: ExitReason, stop: ExitReason | None) -> ExitReason:
    """Return why it ended: a person's stop also where the process was preempted or got lost before it obeyed."""
    overruled = reason.infrastructure and stop is not None and not stop.infrastructure
    return stop if overruled and stop is not None else reason


def said_of_next(ended: Attempt, spec: JobSpec) -> str:
    """Write for the task log why there is another attempt.

    Parameters
    ----------
    ended : `Attempt`
    spec : `JobSpec`
        Of the next one.
    """
    assert ended.exit is not None
    restarts = int(spec.lineage.get("restart", 0))
    told = ended.exit.message or ended.stop_why or ended.exit.reason.value
    if _why(ended.exit.reason, ended.stop) is ExitReason.PREEMPTED:
        return (
            f"Attempt {ended.number} made way ({told}); the job keeps its place in the queue and its Airflow try, "
            "and goes on from its newest checkpoint when it is granted again."
        )
    if spec.distributed is not None and restarts > int(ended.spec.lineage.get("restart", 0)):
        return (
            f"Attempt {ended.number} failed: {told}; all begin again from the newest checkpoint "
            f"({restarts} of {spec.distributed.max_restarts})."
        )
    return f"Attempt {ended.number} ended: {told}; trying again ({spec.lineage['infra_retry']} of {spec.policy.infra_retries})."
