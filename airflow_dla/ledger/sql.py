"""`SqlLedger`, the SQL implementation of the contract: each operation is one transaction.

What an operation does is in the module of its concern; here it is decided whether it
reads, writes rows of its own, or runs under the ledger's lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from airflow_dla.errors import NotFound
from airflow_dla.ledger import adjusting, admission, attempts, demands, expecting, history, models, nodes, past, rounds, teams, upgrading
from airflow_dla.ledger.backend import Options
from airflow_dla.ledger.contract import Ledger
from airflow_dla.ledger.database import Database, open_database
from airflow_dla.ledger.records import (
    Alias,
    AliasMove,
    Answer,
    Attempt,
    Event,
    FollowerKind,
    Lease,
    ModelVersion,
    NodeRow,
    PastRun,
    Roots,
    Round,
    Snapshot,
    TeamChange,
)
from airflow_dla.specs import AgentSpec, Demand, Exit, ExitReason, Expected, Grant, JobSpec, Node, TeamSpec


def connect(url: str, *, wait_s: float = 30.0, pool_size: int = 5, durable: bool = True) -> SqlLedger:
    """Open a ledger; nothing is connected or created yet.

    Parameters
    ----------
    url : str
        ``sqlite:////absolute/path.db`` or ``postgresql://user@host/database``; a password
        in it never appears in a message or a repr.
    wait_s : float
        Seconds to wait for other writers before the ledger counts as unavailable.
    pool_size : int
        Connections kept open by one process.
    durable : bool
        Whether a commit survives a power cut (SQLite only).

    Raises
    ------
    InvalidSpec
        If the URL cannot be read, or SQLite would lie on a network file system.
    MissingExtra
        If PostgreSQL is named and its driver is not installed.

    Examples
    --------
    >>> connect("sqlite:////var/lib/dla/ledger.db")
    SqlLedger('sqlite:////var/lib/dla/ledger.db')
    """
    return SqlLedger(open_database(url, Options(wait_s=wait_s, pool_size=pool_size, durable=durable)))


class SqlLedger(Ledger):
    """A ledger in SQLite or PostgreSQL; may be shared by threads and survives fork.

    Parameters
    ----------
    database : Database
        From `connect`.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def __repr__(self) -> str:
        return f"SqlLedger({self._db.backend.shown!r})"

    # The ledger itself

    def upgrade(self) -> None:
        """Create or migrate the schema."""
        upgrading.upgrade(self._db)

    def schema(self) -> tuple[str | None, str]:
        """Return the schema's revision and the one this code needs."""
        return upgrading.schema(self._db)

    def identity(self) -> str:
        """Return the workspace's id."""
        return self._db.read(nodes.identity)

    def now(self) -> float:
        """Return the database's time."""
        return self._db.read(nodes.now)

    def close(self) -> None:
        """Let go of connections."""
        self._db.close()

    # Nodes, followers, teams, agents

    def register_node(self, node: Node, *, host: str = "") -> None:
        """Insert or update a node."""
        self._db.exclusive(nodes.register_nodes, (node,), host=host)

    def register_nodes(self, found: Sequence[Node], *, host: str = "") -> None:
        """Insert or update nodes in one transaction."""
        self._db.exclusive(nodes.register_nodes, found, host=host)

    def remove_node(self, name: str) -> None:
        """Take a node out."""
        self._db.exclusive(nodes.remove_node, name)

    def nodes(self) -> tuple[NodeRow, ...]:
        """Return every node."""
        return self._db.read(nodes.all_nodes)

    def node_answered(self, name: str, *, answered: bool) -> NodeRow | None:
        """Remember whether a living process could ask the node."""
        return self._db.write(nodes.node_answered, name, answered=answered)

    def heartbeat(self, follower: str, kind: FollowerKind, host: str) -> None:
        """Say that a process that can follow jobs lives."""
        self._db.write(nodes.heartbeat, follower, kind, host)

    def followers(self, *, within_s: float = 120.0) -> tuple[tuple[str, FollowerKind, str], ...]:
        """Return the processes heard of lately."""
        return self._db.read(nodes.heard_of, within_s=within_s)

    def put_agent(self, agent: AgentSpec) -> None:
        """Insert or update an agent."""
        self._db.write(nodes.put_agent, agent)

    def agents(self) -> tuple[AgentSpec, ...]:
        """Return every agent."""
        return self._db.read(nodes.all_agents)

    def teams(self) -> tuple[TeamSpec, ...]:
        """Return every team."""
        return self._db.read(teams.all_teams)

    def apply_teams(self, wanted: Sequence[TeamSpec], *, by: str, dry_run: bool = False) -> tuple[TeamChange, ...]:
        """Make these the teams there are, and return what that changes."""
        return self._db.read(teams.changes, wanted) if dry_run else self._db.exclusive(teams.apply, wanted, by=by)

    # Jobs and attempts

    def open_attempt(self, spec: JobSpec, *, node: str | None = None, deferred: bool = False) -> Attempt:
        """Return the attempt to follow for a task."""
        if deferred:  # a trigger will name it, in another database
            return self._db.exclusive(attempts.open_attempt, spec, node=node, deferred=True)
        return self._db.draft(attempts.open_attempt, spec, node=node, deferred=False)

    def attempts(self, ids: Iterable[str]) -> dict[str, Attempt]:
        """Return attempts by id."""
        return self._db.read(attempts.by_ids, list(ids))

    def last_attempt(self, job: str) -> Attempt | None:
        """Return the last attempt of a job."""
        return self._db.read(attempts.last_attempt, job)

    def jobs(self, *, state: str | None = None, dag: str | None = None, limit: int = 100) -> tuple[Attempt, ...]:
        """Return the last attempt of each job."""
        return self._db.read(attempts.list_jobs, state=state, dag=dag, limit=limit)

    def begin_launch(self, attempt: str, *, holder: str, lease_s: float, near: bool = False) -> Attempt:
        """Move a granted attempt to ``launching``."""
        run = self._db.draft if near else self._db.exclusive
        return run(attempts.begin_launch, attempt, holder=holder, lease_s=lease_s)

    def record_launch(self, attempt: str, handle: Mapping[str, Any]) -> Attempt:
        """Remember the runtime's handle."""
        return self._db.exclusive(attempts.record_launch, attempt, handle)

    def want_stop(self, attempt: str, reason: ExitReason, *, why: str = "") -> Attempt:
        """Say that an attempt should stop."""
        return self._db.exclusive(attempts.want_stop, attempt, reason, why=why)

    def finish(self, attempt: str, exit_: Exit) -> Attempt:
        """End an attempt and release its grant."""
        return self._db.exclusive(attempts.finish, attempt, exit_)

    def deliver(self, attempt: str) -> None:
        """Say that the result has reached Airflow."""
        self._db.exclusive(attempts.deliver, attempt)

    def save_offsets(self, offsets: Mapping[str, int]) -> None:
        """Remember how far followers have passed on logs."""
        self._db.write(attempts.save_offsets, offsets)

    def set_deferred(self, attempt: str, *, deferred: bool) -> None:
        """Say who follows from now on."""
        self._db.write(attempts.set_deferred, attempt, deferred=deferred)

    # Allocation

    def request(self, demand: Demand) -> None:
        """Write a demand that belongs to no job."""
        self._db.write(admission.request, [demand])

    def admit(
        self, wanted: Sequence[Demand], decide: rounds.Decide, *, holder: str, lease_s: float, waiting: Collection[str] = ()
    ) -> dict[str, Answer]:
        """Write demands that belong to no job, let a round decide, and return the answers."""
        return admission.admit(self._db, wanted, decide, holder=holder, lease_s=lease_s, waiting=waiting)

    def answer(self, demand: str) -> Answer:
        """Return a demand's lease, the reason why it waits, or None."""
        found = self._db.read(admission.answers, [demand])
        if demand not in found:
            raise NotFound(f"the ledger knows no demand {demand!r}: it was never made, cancelled, or its grant taken away; request again")
        return found[demand]

    def release(self, ids: Iterable[str]) -> None:
        """Free grants and cancel demands that belong to no job."""
        admission.release(self._db, list(ids))

    def snapshot(self) -> Snapshot:
        """Return what a round would read now."""
        return self._db.read(rounds.snapshot)

    def round(self, decide: rounds.Decide, *, holder: str, lease_s: float, force: bool = False) -> Round:
        """Run one allocation round, or find without a lock that there is nothing to do."""
        return admission.run_round(self._db, decide, holder=holder, lease_s=lease_s, force=force)

    def resized(self, grant: str, *, target: Grant, applied: bool) -> None:
        """Say what became of a target."""
        self._db.exclusive(adjusting.resized, grant, target=target, applied=applied)

    def set_priority(self, job: str, priority: int, *, by: str) -> Attempt:
        """Change the priority of a job's live attempt."""
        return self._db.exclusive(adjusting.set_priority, job, priority, by=by)

    def expect(self, source: str, jobs: Sequence[Expected]) -> None:
        """Make these all that a source expects."""
        self._db.exclusive(expecting.expect, source, jobs)

    def past_runs(
        self, *, since: float = 0.0, dag: str | None = None, task: str | None = None, team: str | None = None, limit: int = 1000
    ) -> tuple[PastRun, ...]:
        """Return attempts that were asked for since a time."""
        return self._db.read(past.past_runs, since=since, dag=dag, task=task, team=team, limit=limit)

    def renew(self, ids: Sequence[str], *, holder: str, lease_s: float) -> frozenset[str]:
        """Renew the leases of a process."""
        return self._db.write(demands.renew, ids, holder=holder, lease_s=lease_s)

    def leases(self) -> tuple[Lease, ...]:
        """Return every live lease."""
        return self._db.read(demands.leases)

    def claim_reaping(self, *, interval_s: float) -> float | None:
        """Return seconds since the last claim when the reaper's turn has come."""
        return self._db.write(nodes.claim_reaping, interval_s=interval_s)

    def unfollowed(self, seconds: Mapping[str, float]) -> None:
        """Add to the time without a follower."""
        self._db.write(attempts.unfollowed, seconds)

    # Registry of models

    def register_version(
        self,
        model: str,
        *,
        digest: str,
        signature: Mapping[str, Any],
        metrics: Mapping[str, float],
        lineage: Mapping[str, Any],
        registered_by: str,
    ) -> ModelVersion:
        """Add a numbered version of a model."""
        return self._db.exclusive(
            models.register_version,
            model,
            digest=digest,
            signature=signature,
            metrics=metrics,
            lineage=lineage,
            registered_by=registered_by,
        )

    def model_versions(self, model: str | None = None) -> tuple[ModelVersion, ...]:
        """Return the versions of a model, or of all."""
        return self._db.read(models.versions, model)

    def aliases(self, model: str | None = None) -> tuple[Alias, ...]:
        """Return the aliases of a model, or of all."""
        return self._db.read(models.all_aliases, model)

    def move_alias(
        self,
        model: str,
        alias: str,
        number: int,
        *,
        expected: int | None,
        interval_end: float | None,
        by: str,
        why: str,
    ) -> Alias:
        """Point an alias at a version by compare-and-set."""
        return self._db.exclusive(models.move_alias, model, alias, number, expected=expected, interval_end=interval_end, by=by, why=why)

    def alias_log(self, model: str, alias: str | None = None) -> tuple[AliasMove, ...]:
        """Return what happened to the aliases of a model."""
        return self._db.read(models.log, model, alias)

    # History and roots

    def record(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        """Append to the history."""
        self._db.write(history.record, kind, subject, data)

    def history(self, *, subject: str | None = None, kind: str | None = None, limit: int = 100) -> tuple[Event, ...]:
        """Return events."""
        return self._db.read(history.events, subject=subject, kind=kind, limit=limit)

    def pin(self, digest: str, name: str | None) -> None:
        """Keep an artifact for ever under a name."""
        self._db.exclusive(history.pin, digest, name)

    def roots(self, *, younger_than_s: float) -> Roots:
        """Return what garbage collection must keep."""
        return self._db.read(history.roots, younger_than_s=younger_than_s)
