"""From a granted attempt to a running one."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_dla.control.membership import member_key
from airflow_dla.control.workspace import Workspace
from airflow_dla.ledger import Attempt
from airflow_dla.runtime import Launch
from airflow_dla.specs import AttemptState, Grant, JobFile, Part


def launch(workspace: Workspace, attempt: Attempt, secrets: Mapping[str, str] | None = None, part: Part | None = None) -> Attempt:
    """Hand a granted attempt to the runtime of its node and remember that it runs.

    Safe to call twice and from two processes: the runtime starts an attempt once. One whose
    grant is to change starts with what it is to become; that is confirmed when it runs,
    since another process may just have started it with what it was.

    Raises
    ------
    Conflict
        If the attempt's stop is wanted, or its grant was taken away meanwhile.
    """
    begun = attempt
    if not _is_begun(workspace, attempt):
        near = attempt.grant is not None and workspace.name_of(attempt.grant.node) not in workspace.everywhere
        begun = workspace.ledger.begin_launch(attempt.id, holder=workspace.follower, lease_s=workspace.timing.lease_s, near=near)
    assert begun.lease is not None
    grant = begun.lease.target or begun.lease.grant
    runtime = workspace.runtime(grant.node)
    return workspace.ledger.record_launch(begun.id, runtime.submit(what_runs(workspace, begun, grant, secrets or {}, part)))


def _is_begun(workspace: Workspace, attempt: Attempt) -> bool:
    """Whether a launch of ours goes on: a place may need hours for it, and asking it again need not be written down."""
    ours = attempt.lease is not None and attempt.lease.holder == workspace.follower
    return attempt.state is AttemptState.LAUNCHING and attempt.stop is None and ours


def what_runs(workspace: Workspace, attempt: Attempt, grant: Grant, secrets: Mapping[str, str], part: Part | None = None) -> Launch:
    """Return what a runtime gets of an attempt."""
    spec, key = attempt.spec, attempt.spec.key
    return Launch(
        job=job_file(workspace, attempt, grant, part),
        secrets=secrets,
        image=spec.agent.image,
        volumes=spec.agent.volumes,
        overrides=spec.policy.overrides,
        labels={"dag": key.dag, "run": key.run, "task": key.task, **({"map_index": str(key.index)} if key.index >= 0 else {})},
        priority=spec.policy.priority,
    )


def job_file(workspace: Workspace, attempt: Attempt, grant: Grant, part: Part | None = None) -> JobFile:
    """Return what the runner gets; the checkpoints of a distributed job are its first member's."""
    spec = attempt.spec
    return JobFile(
        attempt=attempt.id,
        nonce=workspace.nonce(attempt.id),
        entrypoint=spec.entrypoint,
        grant=grant,
        store=workspace.store.url,
        checkpoint=member_key(spec.key, 0).id,
        args=spec.args,
        inputs=spec.inputs,
        outputs=spec.outputs,
        metrics=spec.agent.metrics,
        env=spec.agent.env,
        code=spec.code,
        seed=spec.seed,
        grace_s=spec.policy.grace_s,
        run_timeout_s=spec.policy.run_timeout_s,
        part=part,
    )
