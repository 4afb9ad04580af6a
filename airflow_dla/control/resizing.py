"""What a round wants made of a grant, put in force where the job runs, and confirmed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from airflow_dla.control.workspace import Workspace
from airflow_dla.ledger import Attempt
from airflow_dla.specs import Grant, describe_amounts

#: Changes of the target that one step follows; the next step goes on.
_TURNS: Final = 5


def settle(workspace: Workspace, attempt: Attempt, say: Callable[[str], None]) -> Attempt:
    """Put the target of a running attempt's grant in force and confirm it, until the ledger and the runtime agree.

    The runtime first, the ledger second: what a shrink frees is free once it is in force,
    and a follower that dies in between leaves a target that the next one puts in force
    once more. What the ledger says is read again after each change: another follower may
    have confirmed a later target while this one put an earlier one in force.

    Parameters
    ----------
    workspace : `Workspace`
    attempt : `Attempt`
        As the ledger has it; it runs.
    say : callable
        Gets a line for the task log.

    Returns
    -------
    Attempt
        As the ledger has it then.
    """
    in_force: Grant | None = None
    for _ in range(_TURNS):
        wanted = _wanted(attempt, in_force)
        if wanted is None:
            break
        runtime = workspace.runtime(wanted.node)
        applied = runtime.resize(attempt.id, wanted)
        if not applied and not runtime.status(attempt.id).alive:
            break  # it ended meanwhile: that frees more than any resize
        in_force = wanted if applied else in_force
        before, attempt = attempt, _confirmed(workspace, attempt, wanted, applied=applied)
        _tell(workspace, before, attempt, applied=applied, say=say)
    return attempt


def _wanted(attempt: Attempt, in_force: Grant | None) -> Grant | None:
    """Return what should be in force and may not be; None when nothing is to be done."""
    lease = attempt.lease
    if lease is None or attempt.stop is not None:
        return None
    if lease.target is not None:
        return lease.target
    return None if in_force is None or _same(in_force, lease.grant) else lease.grant


def _same(one: Grant, other: Grant) -> bool:
    return (one.amounts, one.cpu_ids, one.gpu_ids) == (other.amounts, other.cpu_ids, other.gpu_ids)


def _confirmed(workspace: Workspace, attempt: Attempt, wanted: Grant, *, applied: bool) -> Attempt:
    assert attempt.lease is not None
    if attempt.lease.target is not None:
        workspace.ledger.resized(attempt.id, target=wanted, applied=applied)
    return workspace.ledger.attempts([attempt.id])[attempt.id]


def _tell(workspace: Workspace, before: Attempt, after: Attempt, *, applied: bool, say: Callable[[str], None]) -> None:
    """Say what became of a target, unless another took its place before it was confirmed."""
    assert before.lease is not None
    target, had = before.lease.target, before.lease.grant
    if target is None or _same(target, had) or (after.lease is not None and after.lease.target is not None):
        return
    new, old = difference(had, target)
    workspace.metrics.incr("dla.job.resized", tags={"outcome": "applied" if applied else "refused"})
    why = f": {target.reason}" if target.reason else ""
    say(f"Resized to {new} (was {old}){why}" if applied else f"Not resized to {new} (it has {old}): not possible while it runs here")


def difference(old: Grant, new: Grant) -> tuple[str, str]:
    """Write what differs between two grants for a person, new and old.

    Examples
    --------
    >>> four = Grant(id="a.1", node="n", amounts={"cpu": 4.0, "memory": 8.0}, cpu_ids=(0, 1, 2, 3))
    >>> difference(four, Grant(id="a.1", node="n", amounts={"cpu": 2.0, "memory": 8.0}, cpu_ids=(0, 1)))
    ('2 cpu', '4 cpu')
    >>> difference(four, Grant(id="a.1", node="n", amounts=four.amounts, cpu_ids=(4, 5, 6, 7)))
    ('CPUs 4, 5, 6, 7', 'CPUs 0, 1, 2, 3')
    """
    named = [name for name in {**new.amounts, **old.amounts} if new.amounts.get(name, 0.0) != old.amounts.get(name, 0.0)]
    if named:
        written = [describe_amounts({name: grant.amounts.get(name, 0.0) for name in named}) for grant in (new, old)]
    else:
        written = [f"CPUs {', '.join(map(str, grant.cpu_ids))}" for grant in (new, old)]
    return written[0], written[1]
