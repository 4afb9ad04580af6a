"""``airflow dla artifacts``: are the bytes still those that were published, and which may go."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Final

from airflow_dla.artifacts import Store
from airflow_dla.cli.answer import Answer, size, table
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.errors import CorruptArtifact, NotFound
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs.references import digest as read_digest

#: Outputs, and folders, of jobs that are younger, in seconds, are kept.
_YOUNG_S: Final = 30 * 86_400.0


@command
def verify(args: Namespace) -> Answer:
    """Read every byte of some artifacts, or of all; exit status 1 when one is damaged or missing."""
    store = Reach(args.conn_id).store
    digests = [read_digest(digest, "DIGEST") for digest in args.digests] or [stored.digest for stored in store.digests()]
    found = [_verified(store, digest) for digest in digests]
    whole = all(one["ok"] for one in found)
    rows = [(one["digest"], one["kind"], "whole" if one["ok"] else one["error"]) for one in found]
    return Answer({"ok": whole, "artifacts": found}, table(["DIGEST", "KIND", "STATE"], rows, empty="no artifact"), whole)


@command
def collect(args: Namespace) -> Answer:
    """Delete what no named root needs, say why the rest stays, and forget the folders of jobs that ended long ago."""
    reach = Reach(args.conn_id)
    roots = reach.ledger.roots(younger_than_s=_YOUNG_S)
    done = reach.store.collect(roots.digests, roots.checkpoints, grace_s=args.grace, dry_run=args.dry_run)
    forgotten = [] if args.dry_run else _forget_old_jobs(reach)
    document = {
        "deleted": list(done.deleted),
        "kept": dict(done.kept),
        "bytes": done.bytes,
        "jobs_forgotten": forgotten,
        "dry_run": args.dry_run,
    }
    rows = [(digest, "would go" if args.dry_run else "deleted") for digest in done.deleted]
    rows += [(digest, f"kept: {why}") for digest, why in done.kept.items()]
    return Answer(
        document,
        f"{table(['DIGEST', 'WHAT'], rows, empty='no artifact')}\n\n{size(done.bytes)} {'would be freed' if args.dry_run else 'freed'}",
    )


def _forget_old_jobs(reach: Reach) -> list[str]:
    """Remove this host's folders of jobs that ended long ago: their logs and JSON files."""
    here = [runtime for runtime in reach.workspace().runtimes.values() if isinstance(runtime, LocalRuntime)]
    return [label for runtime in here for label in runtime.forget(older_than_s=_YOUNG_S)]


def _verified(store: Store, digest: str) -> dict[str, Any]:
    try:
        manifest = store.verify(digest)
    except (CorruptArtifact, NotFound) as error:
        return {"digest": digest, "ok": False, "kind": None, "size": None, "error": str(error)}
    return {"digest": digest, "ok": True, "kind": manifest.kind, "size": manifest.size, "error": None}
