"""The reaper: finds out what became of grants that nobody renews, and stops what nobody owns."""

from __future__ import annotations

import logging
from typing import Final

from airflow_dla.control.collecting import collect
from airflow_dla.control.silence import answered, written_off
from airflow_dla.control.workspace import Workspace
from airflow_dla.errors import DlaError, LedgerUnavailable, PlaceUnavailable
from airflow_dla.ledger import Attempt, Lease
from airflow_dla.runtime import Runtime, Status
from airflow_dla.specs import AttemptState, Exit, ExitReason

log = logging.getLogger(__name__)

#: A turn that comes late counts for no more than so many seconds without a follower.
_LONGEST_TURN_S: Final = 120.0


def reap(workspace: Workspace) -> None:
    """Take the reaper's turn if it has come: at most once a minute in the whole workspace."""
    elapsed = workspace.ledger.claim_reaping(interval_s=workspace.timing.reap_s)
    if elapsed is None:
        return
    now = workspace.ledger.now()
    expired = [lease for lease in workspace.ledger.leases() if lease.expires_at < now]
    attempts = workspace.ledger.attempts([lease.grant.id for lease in expired])
    for lease in expired:
        attempt = attempts.get(lease.grant.id)
        if attempt is not None:
            _guarded(workspace, lease, attempt, min(elapsed, _LONGEST_TURN_S))
        elif now - lease.expires_at > workspace.timing.bare_s:
            workspace.ledger.release([lease.grant.id])
    for node, runtime in workspace.runtimes.items():
        try:
            _stop_orphans(workspace, runtime)
            collect(workspace, runtime)
        except PlaceUnavailable as error:
            log.warning("Node %s does not answer: %s", node, error)


def _guarded(workspace: Workspace, lease: Lease, attempt: Attempt, elapsed: float) -> None:
    try:
        _examine(workspace, lease, attempt, elapsed)
    except LedgerUnavailable:
        raise
    except (DlaError, OSError):
        log.exception("The reaper could not find out what became of %s", attempt.id)


def _examine(workspace: Workspace, lease: Lease, attempt: Attempt, elapsed: float) -> None:
    """Find out what became of an attempt whose lease has expired; its node stays charged until then."""
    if attempt.state is AttemptState.GRANTED:
        _finish_lost(workspace, attempt, "its follower disappeared before it was launched")
        return
    status = _ask(workspace, lease.grant.node, attempt)
    if status is None:
        if written_off(workspace, lease.grant.node):
            _finish_lost(workspace, attempt, f"node {lease.grant.node} has not answered for {workspace.timing.silent_s:g} s")
    elif status.exit is not None:
        workspace.ledger.finish(attempt.id, status.exit)
    elif not status.alive:
        # The mark that cancelling leaves keeps a submit that comes late from starting it after all.
        workspace.runtime(lease.grant.node).cancel(attempt.id, ExitReason.LOST)
        _finish_lost(workspace, attempt, "its process disappeared without a trace")
    else:
        _count_unfollowed(workspace, lease.grant.node, attempt, elapsed)


def _ask(workspace: Workspace, node: str, attempt: Attempt) -> Status | None:
    """Ask the node's runtime; None when it gives no answer."""
    runtime = workspace.reached(node)
    if runtime is None:
        row = next((row for row in workspace.ledger.nodes() if row.node.name == node), None)
        near = row is not None and any(host == row.host for _, _, host in workspace.ledger.followers())
        if near:
            workspace.ledger.node_answered(node, answered=True)
        return Status(alive=True) if near else None
    try:
        status = runtime.status(attempt.id)
    except (DlaError, OSError) as error:
        log.warning("Node %s does not answer: %s", node, error)
        return None
    answered(workspace, node)
    return status


def _count_unfollowed(workspace: Workspace, node: str, attempt: Attempt, elapsed: float) -> None:
    """Count the time without a follower; a deferred task's only counts while a triggerer lives."""
    runtime = workspace.reached(node)
    if runtime is None:
        return
    if attempt.stop is not None:
        runtime.cancel(attempt.id, attempt.stop)
        return
    followed_by_nobody = not attempt.deferred or any(kind == "triggerer" for _, kind, _ in workspace.ledger.followers())
    if not followed_by_nobody:
        return
    workspace.ledger.unfollowed({attempt.id: elapsed})
    if attempt.unfollowed_s + elapsed > workspace.timing.unfollowed_s:
        log.warning("Stopping %s: nobody has followed it for %.0f s", attempt.id, attempt.unfollowed_s + elapsed)
        workspace.ledger.want_stop(attempt.id, ExitReason.STOPPED)
        runtime.cancel(attempt.id, ExitReason.STOPPED)


def _finish_lost(workspace: Workspace, attempt: Attempt, why: str) -> None:
    log.warning("Attempt %s is lost: %s", attempt.id, why)
    workspace.ledger.finish(attempt.id, Exit(reason=ExitReason.LOST, message=why))


def _stop_orphans(workspace: Workspace, runtime: Runtime) -> None:
    """Stop what runs here and no attempt owns."""
    alive = [label for label, lives in runtime.jobs().items() if lives]
    owned = workspace.ledger.attempts(alive)
    for label in alive:
        if label not in owned or owned[label].ended:
            log.warning("Stopping %s: no attempt owns it", label)
            runtime.cancel(label, ExitReason.STOPPED)
