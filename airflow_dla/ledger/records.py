"""What the ledger hands out: frozen rows, times in seconds since the epoch by the database's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_dla.specs import (
    Account,
    AttemptState,
    Demand,
    Exit,
    ExitReason,
    Expected,
    Grant,
    Held,
    JobSpec,
    Node,
    Reason,
    Request,
    TeamSpec,
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A grant that is held.

    Parameters
    ----------
    grant : `Grant`
    holder : str
        Who took it last: ``host:pid:random``.
    token : int
        Fencing token; grows each time the grant changes hands.
    expires_at : float
    suspect : bool
        The lease expired and nobody has yet found out whether the attempt still lives.
    target : `Grant` or None
        What a round wants it changed to; the holder applies it and says so (`Ledger.resized`).
    """

    grant: Grant
    holder: str
    token: int
    expires_at: float
    suspect: bool = False
    target: Grant | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a job, as the ledger knows it.

    Parameters
    ----------
    id : str
        ``JOB_ID.NUMBER``; its demand and its grant have the same id.
    job : str
        ``JobKey.id``
    number : int
        Counted from 1 by the ledger.
    spec : `JobSpec`
    state : `AttemptState`
    lease : `Lease` or None
        While a grant is held.
    grant : `Grant` or None
        What it was granted; stays when the lease is gone.
    reason : `Reason` or None
        Why it waits, or why it got less than it wanted.
    handle : mapping or None
        What the runtime returned; None until ``running``.
    stop : `ExitReason` or None
        Stop is wanted, and why.
    log_offset : int
        Bytes of the job's log that a follower has already passed on.
    exit : `Exit` or None
        Once ``ended``.
    stop_why : str
        Why the stop is wanted, one sentence: for whom it was preempted.
    deferred : bool
        Followed by a trigger, not by a worker.
    created_at, granted_at, running_at, ended_at, followed_at, delivered_at : float or None
    unfollowed_s : float
        Seconds without a follower that count towards its end (fencing).
    """

    id: str
    job: str
    number: int
    spec: JobSpec
    state: AttemptState
    created_at: float
    lease: Lease | None = None
    grant: Grant | None = None
    reason: Reason | None = None
    handle: Mapping[str, Any] | None = None
    stop: ExitReason | None = None
    stop_why: str = ""
    log_offset: int = 0
    exit: Exit | None = None
    deferred: bool = False
    granted_at: float | None = None
    running_at: float | None = None
    ended_at: float | None = None
    followed_at: float | None = None
    delivered_at: float | None = None
    unfollowed_s: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state is AttemptState.ENDED


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node and when it was last heard of.

    Parameters
    ----------
    node : `Node`
    host : str
        Host identity of the processes that can reach it; empty when any can.
    seen_at : float
        Last registration or successful question.
    silent_since : float or None
        First of an unbroken row of questions asked in vain.
    """

    node: Node
    host: str
    seen_at: float
    silent_since: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What an allocation round reads.

    Parameters
    ----------
    now : float
    nodes : tuple of `Node`
        Those that may be granted from.
    held : tuple of `Held`
        In order of their grants, then id.
    pending : tuple of `Demand`
        In order of creation, then id.
    teams : tuple of `TeamSpec`
        By name.
    accounts : tuple of `Account`
        Of the teams that ever held anything.
    expected : tuple of `Expected`
        What may ask soon and has not come, in order of time.
    """

    now: float
    nodes: tuple[Node, ...]
    held: tuple[Held, ...] = ()
    pending: tuple[Demand, ...] = ()
    teams: tuple[TeamSpec, ...] = ()
    accounts: tuple[Account, ...] = ()
    expected: tuple[Expected, ...] = ()

    @property
    def live(self) -> tuple[Grant, ...]:
        """What nodes must account for: each live grant with what it was promised besides."""
        return tuple(held.charged() for held in self.held)


@dataclass(frozen=True, slots=True)
class Decision:
    """What an allocation round writes, by id of the demand.

    Parameters
    ----------
    grants : mapping of demand to `Grant`
    reasons : mapping of demand to `Reason`
        Of those that wait, and of those granted less than they wanted.
    targets : mapping of live grant to `Grant`
        What their holders shall change them to: the same node and GPUs, other amounts. One
        that replaces a target not yet confirmed must not free what that one took: its holder
        may have it already.
    preempted : mapping of live grant to str
        Those whose jobs shall stop, and for whom or what, one sentence. Only grants of jobs.
    accounts : tuple of `Account`
        Of teams, brought up to date.
    again_at : float or None
        When the next round is due if nothing happens before, seconds since the epoch.
    """

    grants: Mapping[str, Grant] = field(default_factory=dict)
    reasons: Mapping[str, Reason] = field(default_factory=dict)
    targets: Mapping[str, Grant] = field(default_factory=dict)
    preempted: Mapping[str, str] = field(default_factory=dict)
    accounts: tuple[Account, ...] = ()
    again_at: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What came of a round.

    Parameters
    ----------
    skipped : bool
        Nothing had changed that could help a waiting request.
    granted : tuple of str
        Ids of the demands that got a grant.
    waiting : int
        How many still wait.
    """

    skipped: bool
    granted: tuple[str, ...] = ()
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class PastRun:
    """One attempt as the history remembers it: who asked for what when, and what it used.

    Parameters
    ----------
    attempt, dag, run, task : str
    agent, verb, team : str
    priority : int
    scheduled : bool
        Whether its run came from the DAG's timetable; others came when somebody wanted them.
    request : `Request`
        As it was asked for.
    created_at : float
    granted_at, running_at, ended_at : float or None
    grant : `Grant` or None
        What it held last.
    gpu_s, cpu_s : float
        GPUs and CPUs that it held, times seconds, resizes counted.
    exit : `Exit` or None
        Its peaks are what it used.
    place : str
        Where it was to run; ``"any"`` where that was left open.
    """

    attempt: str
    dag: str
    run: str
    task: str
    agent: str
    verb: str
    team: str
    priority: int
    scheduled: bool
    request: Request
    created_at: float
    granted_at: float | None = None
    running_at: float | None = None
    ended_at: float | None = None
    grant: Grant | None = None
    gpu_s: float = 0.0
    cpu_s: float = 0.0
    exit: Exit | None = None
    place: str = "any"

    @property
    def run_s(self) -> float | None:
        """Seconds from start to end; None while it has not ended or never ran."""
        return None if self.running_at is None or self.ended_at is None else self.ended_at - self.running_at

    @property
    def wait_s(self) -> float | None:
        """Seconds until it was granted; None when it never was."""
        return None if self.granted_at is None else self.granted_at - self.created_at


@dataclass(frozen=True, slots=True)
class TeamChange:
    """One difference that applying teams made: ``field`` is empty where a whole team came or went."""

    team: str
    field: str
    old: object
    new: object


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A numbered registry entry; immutable but for nothing.

    Parameters
    ----------
    model : str
    number : int
    digest : str
        The artifact's.
    signature : mapping
        ``{"inputs": [{"name", "dtype", "shape"}], "outputs": [...]}``
    metrics : mapping of float
    lineage : mapping
        Code digest or git commit, image digest, input references, args, seed, dag, run, task, attempt.
    registered_by : str
        Attempt id; registering twice for one attempt returns the first version.
    created_at : float
    """

    model: str
    number: int
    digest: str
    signature: Mapping[str, Any]
    metrics: Mapping[str, float]
    lineage: Mapping[str, Any]
    registered_by: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a model version, ordered by data interval.

    Parameters
    ----------
    model, alias : str
    number : int
    interval_end : float or None
        End of the data interval of the run that moved it, seconds since the epoch.
    moved_at : float
    """

    model: str
    alias: str
    number: int
    interval_end: float | None
    moved_at: float


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One line of the append-only log of an alias."""

    model: str
    alias: str
    old: int | None
    new: int
    why: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the append-only history.

    Parameters
    ----------
    id : int
        Grows.
    at : float
    kind : str
        ``attempt.ended``, ``grant.released``, ``alias.moved``, …
    subject : str
        Id of what it is about.
    data : mapping
    """

    id: int
    at: float
    kind: str
    subject: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Roots:
    """What garbage collection must keep.

    Parameters
    ----------
    digests : mapping of digest to str
        Why each is kept: ``model digits@3``, ``job …``, ``pin NAME``.
    checkpoints : frozenset of str
        Job ids whose checkpoints are kept: their task has not succeeded.
    """

    digests: Mapping[str, str]
    checkpoints: frozenset[str]


FollowerKind = Literal["triggerer", "worker", "other"]

#: To a demand: what it got, why it waits, or nothing before its first round.
Answer = Lease | Reason | None
