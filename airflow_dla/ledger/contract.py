"""The contract of the ledger: coarse operations, one transaction each.

Nothing outside this package sees SQL, so a second implementation may speak HTTP.
Every time is the database's. Every operation raises `LedgerUnavailable` when the
ledger does not answer, and may then be called again: each is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from airflow_dla.ledger.records import (
    Alias,
    AliasMove,
    Answer,
    Attempt,
    Decision,
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


class Ledger(Protocol):
    """What every ledger can do.

    Five groups: the ledger itself, nodes and followers, jobs and attempts, allocation
    (rounds, leases), and the registry of models with the history.
    """

    # The ledger itself

    def upgrade(self) -> None:
        """Create or migrate the schema; safe when many processes do it at once."""

    def schema(self) -> tuple[str | None, str]:
        """Return the schema's revision, None before the first upgrade, and the one this code needs."""

    def identity(self) -> str:
        """Return the workspace's id, made once with the schema; part of its fingerprint."""

    def now(self) -> float:
        """Return the database's time, seconds since the epoch."""

    def close(self) -> None:
        """Let go of connections; the next call opens new ones."""

    # Nodes, followers, teams, agents

    def register_node(self, node: Node, *, host: str = "") -> None:
        """Insert or update a node; the next round is due when its capacity changed."""

    def register_nodes(self, found: Sequence[Node], *, host: str = "") -> None:
        """Insert or update nodes, all of them at once."""

    def remove_node(self, name: str) -> None:
        """Take a node out; its live grants stay charged until their attempts end."""

    def nodes(self) -> tuple[NodeRow, ...]:
        """Return every node."""

    def node_answered(self, name: str, *, answered: bool) -> NodeRow | None:
        """Remember whether a living process could ask the node; return the row, None when unknown."""

    def heartbeat(self, follower: str, kind: FollowerKind, host: str) -> None:
        """Say that a process that can follow jobs lives; one row each."""

    def followers(self, *, within_s: float = 120.0) -> tuple[tuple[str, FollowerKind, str], ...]:
        """Return the (id, kind, host) of the processes heard of within so many seconds."""

    def put_agent(self, agent: AgentSpec) -> None:
        """Insert or update an agent by name."""

    def agents(self) -> tuple[AgentSpec, ...]:
        """Return every agent, by name."""

    def teams(self) -> tuple[TeamSpec, ...]:
        """Return every team, by name."""

    def apply_teams(self, wanted: Sequence[TeamSpec], *, by: str, dry_run: bool = False) -> tuple[TeamChange, ...]:
        """Make these the teams there are, and log every change; return the changes, by team.

        ``default`` stays where it is not named. What is held by a team that goes is charged
        to nobody's guarantee. The next round is due.

        Parameters
        ----------
        wanted : sequence of `TeamSpec`
            Checked by the caller against each other (`allocation.check_teams`).
        by : str
            Who, for the history.
        dry_run : bool
            Only tell.
        """

    # Jobs and attempts

    def open_attempt(self, spec: JobSpec, *, node: str | None = None, deferred: bool = False) -> Attempt:
        """Return the attempt to follow for a task, making one when none may be taken over.

        The last attempt of the job is returned when it has not ended, also when its stop
        is wanted (the caller waits for its end and calls again), and when it succeeded and
        its result was never delivered. Otherwise a new attempt starts: its demand waits,
        and the next round is due.

        Parameters
        ----------
        spec : `JobSpec`
            Of the new attempt; one that is taken over keeps its own.
        node : str, optional
            The only node that will do.
        deferred : bool
            Whether a trigger will follow it; also set on one that is taken over.
        """

    def attempts(self, ids: Iterable[str]) -> dict[str, Attempt]:
        """Return attempts by id in one read; unknown ids are left out."""

    def last_attempt(self, job: str) -> Attempt | None:
        """Return the last attempt of a job, by ``JobKey.id``."""

    def jobs(self, *, state: str | None = None, dag: str | None = None, limit: int = 100) -> tuple[Attempt, ...]:
        """Return the last attempt of each job, newest first; ``state`` may be ``live``, a state or an exit reason."""

    def begin_launch(self, attempt: str, *, holder: str, lease_s: float, near: bool = False) -> Attempt:
        """Move a granted attempt to ``launching`` and renew its lease, before the runtime is asked.

        What is launched `near`, on the machine that asks, is gone after a power cut of that
        machine: a ledger that lies there too may then have forgotten that it began.

        Raises
        ------
        Conflict
            If it is not ``granted`` or ``launching``, or its stop is wanted.
        """

    def record_launch(self, attempt: str, handle: Mapping[str, Any]) -> Attempt:
        """Remember the runtime's handle; the attempt is ``running``. No-op once it ended."""

    def want_stop(self, attempt: str, reason: ExitReason, *, why: str = "") -> Attempt:
        """Say that an attempt should stop; the first reason stays, but a preemption gives way to any other.

        A job that a person stops while it makes way must not begin again.
        One that was not yet handed to a runtime ends at once and its grant is free.
        """

    def finish(self, attempt: str, exit_: Exit) -> Attempt:
        """End an attempt and release its grant, in one transaction; the first end stays."""

    def deliver(self, attempt: str) -> None:
        """Say that the result has reached Airflow and must not be used again."""

    def save_offsets(self, offsets: Mapping[str, int]) -> None:
        """Remember how far followers have passed on the logs of running attempts."""

    def set_deferred(self, attempt: str, *, deferred: bool) -> None:
        """Say who follows from now on: a trigger or a worker."""

    # Allocation

    def request(self, demand: Demand) -> None:
        """Write a demand that belongs to no job (the bare hook); its grant gets the demand's id.

        Raises
        ------
        InvalidSpec
            If it is preemptible: there is no job that could be told to stop.
        """

    def admit(
        self,
        wanted: Sequence[Demand],
        decide: Callable[[Snapshot], Decision],
        *,
        holder: str,
        lease_s: float,
        waiting: Collection[str] = (),
    ) -> dict[str, Answer]:
        """Write demands that belong to no job, let a round decide about them, and return the answers.

        Requests, a round and answers in one go, for many at once; whoever comes first works for
        all who come meanwhile, and a lease may so have another's name as its first holder.

        Parameters
        ----------
        wanted : sequence of `Demand`
            As for `request`.
        decide, holder, lease_s
            As for `round`.
        waiting : collection of str
            Demands made before, whose answers are wanted as well; unknown ids are left out.
        """

    def answer(self, demand: str) -> Answer:
        """Return a demand's lease, the reason why it waits, or None before its first round.

        Raises
        ------
        NotFound
            If there is no such demand: it was never made, cancelled, or its grant was taken away.
        """

    def release(self, ids: Iterable[str]) -> None:
        """Free grants and cancel demands that belong to no job; unknown ids are left alone."""

    def round(self, decide: Callable[[Snapshot], Decision], *, holder: str, lease_s: float, force: bool = False) -> Round:
        """Run one allocation round under the ledger's lock, in one transaction.

        Marks expired leases suspect, reads the snapshot, calls `decide`, writes grants
        (with a lease for `holder`), reasons, targets, accounts, and the wish to stop what is
        preempted: a job that was not launched yet ends at once. Skipped, `decide` not called,
        when nothing has changed since the last round and none is due by time, or when there is
        nothing to decide about, neither waiting nor held; unless `force`.

        Raises
        ------
        LedgerError
            If the decision would exceed a node's capacity, counting what is held or promised
            (`Held.charged`), change a grant that it may not change, or preempt what is no job:
            nothing is written, and the round stays due.
        """

    def snapshot(self) -> Snapshot:
        """Return what a round would read now, without its lock: for asking what would happen."""

    def resized(self, grant: str, *, target: Grant, applied: bool) -> None:
        """Say what became of a target: it is in force, or the runtime cannot do it.

        Applied, the grant becomes what the target said, and the next round is due when that
        freed anything. Otherwise the grant stays and is called rigid. Nothing happens when
        the target is not this one any more.
        """

    def set_priority(self, job: str, priority: int, *, by: str) -> Attempt:
        """Change the priority of a job's live attempt, waiting or running, and of those that follow in its try.

        Raises
        ------
        NotFound
            If there is no such job, or its last attempt has ended.
        """

    def expect(self, source: str, jobs: Sequence[Expected]) -> None:
        """Make these all that a source expects; the next round is due when that changes anything."""

    def past_runs(
        self, *, since: float = 0.0, dag: str | None = None, task: str | None = None, team: str | None = None, limit: int = 1000
    ) -> tuple[PastRun, ...]:
        """Return attempts that were asked for since a time, live ones too, newest first."""

    def renew(self, ids: Sequence[str], *, holder: str, lease_s: float) -> frozenset[str]:
        """Renew the leases of a process in one transaction; return the ids still held.

        An id that is not returned has lost its grant: its node was written off, or it ended.
        """

    def leases(self) -> tuple[Lease, ...]:
        """Return every live lease, oldest grant first."""

    def claim_reaping(self, *, interval_s: float) -> float | None:
        """Return seconds since the last claim when the reaper's turn has come, else None.

        At most one caller in `interval_s` gets an answer; the first ever gets `interval_s`.
        """

    def unfollowed(self, seconds: Mapping[str, float]) -> None:
        """Add to the time without a follower of attempts whose lease has expired; renewing sets it to 0."""

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
        """Add a numbered version of a model; the same `registered_by` and digest return the first one."""

    def model_versions(self, model: str | None = None) -> tuple[ModelVersion, ...]:
        """Return the versions of a model, or of all, newest first."""

    def aliases(self, model: str | None = None) -> tuple[Alias, ...]:
        """Return the aliases of a model, or of all."""

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
        """Point an alias at a version by compare-and-set, and log it.

        Parameters
        ----------
        expected : int or None
            The version it must point at now; None when it must not exist.

        Raises
        ------
        Conflict
            If it points elsewhere.
        NotFound
            If there is no such version.
        """

    def alias_log(self, model: str, alias: str | None = None) -> tuple[AliasMove, ...]:
        """Return what happened to the aliases of a model, newest first."""

    # History and roots

    def record(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        """Append to the history."""

    def history(self, *, subject: str | None = None, kind: str | None = None, limit: int = 100) -> tuple[Event, ...]:
        """Return events, newest first."""

    def pin(self, digest: str, name: str | None) -> None:
        """Keep an artifact for ever under a name; None removes the pin."""

    def roots(self, *, younger_than_s: float) -> Roots:
        """Return what garbage collection must keep: versions, outputs of young jobs, checkpoints, pins."""
