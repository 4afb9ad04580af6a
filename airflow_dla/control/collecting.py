"""What ended jobs leave behind in places that keep it, and when it goes."""

from __future__ import annotations

from airflow_dla.control.workspace import Workspace
from airflow_dla.runtime import Collects, Runtime


def collect(workspace: Workspace, runtime: Runtime) -> None:
    """Have a place let go of what nobody needs any more; a place that keeps nothing is left alone.

    What succeeded goes as soon as its result was delivered, what failed when those who
    want to look into it have had their time, and what the ledger has not seen the end of stays.
    """
    if not isinstance(runtime, Collects):
        return
    kept = runtime.kept()
    known, now = workspace.ledger.attempts(kept), workspace.ledger.now()
    for label, created_at in kept.items():
        attempt = known.get(label)
        if attempt is not None and not attempt.ended:
            continue
        delivered = attempt is not None and attempt.delivered_at is not None
        since = created_at if attempt is None or attempt.ended_at is None else attempt.ended_at
        if delivered or now - since > runtime.keep_s:
            runtime.collect(label)
