"""Our own rounds, replayed: demands arrive, a round decides, jobs end.

The decision is the real one, handed in as a function of a `Scene`, so that whatever a round
can do (grant, resize, preempt) happens here as it would happen there. Nothing is drawn: the
same jobs give the same outcome, in whatever order they are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from airflow_dla.errors import InvalidSpec, SolverFailed
from airflow_dla.specs import Demand, Grant, Held, Node, Reason

#: Rounds at one moment: what one takes away the next may grant; more than a few means that it never settles.
_ROUNDS: Final = 50
_DONE_S: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """A job that will ask, and how long it will really take.

    Parameters
    ----------
    demand : `Demand`
        It asks at `created_at`; `run_s` is what a round is told to expect.
    run_s : float, > 0
        How long it holds its grant at full speed, s.

    Raises
    ------
    InvalidSpec
        If it takes no time.
    """

    demand: Demand
    run_s: float

    def __post_init__(self) -> None:
        if not 0 < self.run_s < float("inf"):
            raise InvalidSpec(f"run_s must be a finite number of seconds > 0, got {self.run_s:g} (job {self.demand.id!r})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a round sees: the fields of the ledger's snapshot that decisions read.

    Parameters
    ----------
    now : float
        Seconds since the epoch.
    nodes : tuple of `Node`
    held : tuple of `Held`
        In order of their grants, then id.
    pending : tuple of `Demand`
        In order of creation, then id.
    """

    now: float
    nodes: tuple[Node, ...]
    held: tuple[Held, ...] = ()
    pending: tuple[Demand, ...] = ()

    @property
    def live(self) -> tuple[Grant, ...]:
        """What nodes must account for."""
        return tuple(held.charged() for held in self.held)


class Ruling(Protocol):
    """What a round decides: a plan, or the decision that is written to the ledger."""

    @property
    def grants(self) -> Mapping[str, Grant]:
        """New grants, by demand."""

    @property
    def reasons(self) -> Mapping[str, Reason]:
        """Why others wait or got less, by demand."""

    @property
    def targets(self) -> Mapping[str, Grant]:
        """What live grants shall become."""

    @property
    def preempted(self) -> Mapping[str, str]:
        """Whose jobs shall stop, and for whom."""

    @property
    def again_at(self) -> float | None:
        """When to decide again if nothing happens before."""


#: A round: what is seen to what is done.
Decide = Callable[[Scene], Ruling]
#: Progress of a job per second with a grant, 1 with all that it wanted.
Speed = Callable[[Demand, Grant], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A time for which a job held a grant that did not change.

    Parameters
    ----------
    grant : `Grant`
    since, until : float
        Seconds since the epoch.
    lost_s : float
        Seconds of it in which no progress was made: what was known before was loaded again.
    """

    grant: Grant
    since: float
    until: float
    lost_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What became of a job.

    Parameters
    ----------
    job : `ReplayJob`
    stays : tuple of `Stay`
    ended_at : float or None
        None when the replay was over before.
    preemptions : int
    reasons : tuple of (float, `Reason`)
        Since when it waited, or had less than it wanted, for which reason.
    """

    job: ReplayJob
    stays: tuple[Stay, ...] = ()
    ended_at: float | None = None
    preemptions: int = 0
    reasons: tuple[tuple[float, Reason], ...] = ()

    @property
    def asked_at(self) -> float:
        """When it asked."""
        return self.job.demand.created_at

    @property
    def granted_at(self) -> float | None:
        """When it was granted first; None when it never was."""
        return self.stays[0].since if self.stays else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of all jobs, by the time they asked, then id.

    Parameters
    ----------
    nodes : tuple of `Node`
    courses : tuple of `Course`
    began, over : float
        First demand and last event, seconds since the epoch.
    rounds : int
    """

    nodes: tuple[Node, ...]
    courses: tuple[Course, ...]
    began: float
    over: float
    rounds: int


def full_speed(demand: Demand, grant: Grant) -> float:  # noqa: ARG001 every model of speed is asked alike
    """Let a job take as long whatever it got."""
    return 1.0


def by_gpus(demand: Demand, grant: Grant) -> float:
    """Let a job be as fast as the part that it got of the GPUs it wanted; of the CPUs where it wanted none."""
    for resource in ("gpu", "cpu"):
        asked = demand.request.amounts.get(resource)
        if asked is not None and asked.wanted > 0:
            return grant.amounts.get(resource, 0.0) / asked.wanted
    return 1.0


def replay(
    jobs: Sequence[ReplayJob],
    nodes: Sequence[Node],
    decide: Decide,
    *,
    speed: Speed = full_speed,
    restart_s: float = 0.0,
    grace_s: float = 0.0,
    until: float = float("inf"),
) -> Replayed:
    """Let jobs arrive and run under a decision.

    Parameters
    ----------
    jobs : sequence of `ReplayJob`
        In any order; ids are unique.
    nodes : sequence of `Node`
    decide : function of a `Scene`
        Called whenever a job asks or ends, and when the last answer said so.
    speed : function of a demand and a grant
        How fast a job goes on; every job at full speed by default.
    restart_s : float
        How long a preempted job makes no progress after it is started again.
    grace_s : float
        How long a preempted job still holds its grant.
    until : float
        When to stop looking, seconds since the epoch; by default when nothing can happen any more.

    Raises
    ------
    InvalidSpec
        If an id occurs twice.
    SolverFailed
        If a decision grants what a node does not have, or changes its mind at one moment for ever.

    Examples
    --------
    >>> from airflow_dla.allocation import Policy
    >>> from airflow_dla.allocation.simulation.rounds import planned
    >>> from airflow_dla.specs import Request
    >>> room = [Node(name="n1", capacity={"gpu": 1})]
    >>> asked = [Demand(id=name, request=Request.from_mapping({"gpu": 1}), created_at=at) for name, at in [("a", 0.0), ("b", 5.0)]]
    >>> found = replay([ReplayJob(demand=demand, run_s=60.0) for demand in asked], room, planned(Policy()))
    >>> [(course.granted_at, course.ended_at) for course in found.courses]
    [(0.0, 60.0), (60.0, 120.0)]
    """
    ordered = sorted(jobs, key=lambda job: (job.demand.created_at, job.demand.id))
    names = [job.demand.id for job in ordered]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidSpec(f"a job {twice!r} is there twice; ids must differ")
    world = _World(tuple(nodes), ordered, decide, speed=speed, restart_s=restart_s, grace_s=grace_s)
    world.run(until)
    return Replayed(
        nodes=tuple(nodes),
        courses=tuple(job.course() for job in world.jobs.values()),
        began=ordered[0].demand.created_at if ordered else 0.0,
        over=world.now,
        rounds=world.rounds,
    )


@dataclass(slots=True)
class _Job:
    """A job on its way."""

    job: ReplayJob
    left_s: float
    held: Held | None = None
    rate: float = 0.0
    loading_s: float = 0.0
    since: float = 0.0
    stops_at: float = float("inf")
    preemptions: int = 0
    ended_at: float | None = None
    stays: list[Stay] = field(default_factory=list)
    reasons: list[tuple[float, Reason]] = field(default_factory=list)

    def hold(self, held: Held, rate: float, now: float) -> None:
        self.held, self.rate, self.since = held, rate, now

    def advance(self, now: float) -> None:
        """Close the stay that has lasted until now."""
        if self.held is None or now <= self.since:
            return
        passed = now - self.since
        loading = min(self.loading_s, passed)
        self.loading_s -= loading
        self.left_s -= (passed - loading) * self.rate
        self.stays.append(Stay(grant=self.held.grant, since=self.since, until=now, lost_s=loading))
        self.since = now

    def next_at(self) -> float:
        if self.held is None:
            return float("inf")
        done = self.since + self.loading_s + self.left_s / self.rate if self.rate > 0 else float("inf")
        return min(done, self.stops_at)

    def wait_for(self, reason: Reason, now: float) -> None:
        """Remember since when it waits for what, unless that is what it waits for already."""
        last = self.reasons[-1][1] if self.reasons else None
        if last is None or (last.binding, last.node, last.never) != (reason.binding, reason.node, reason.never):
            self.reasons.append((now, reason))

    def course(self) -> Course:
        return Course(
            job=self.job, stays=tuple(self.stays), ended_at=self.ended_at, preemptions=self.preemptions, reasons=tuple(self.reasons)
        )


class _World:
    """Jobs and nodes while time passes."""

    def __init__(
        self, nodes: tuple[Node, ...], jobs: Sequence[ReplayJob], decide: Decide, *, speed: Speed, restart_s: float, grace_s: float
    ) -> None:
        self.nodes, self.decide, self.speed = nodes, decide, speed
        self.restart_s, self.grace_s = restart_s, grace_s
        self.jobs = {job.demand.id: _Job(job, job.run_s) for job in jobs}
        self.coming = list(reversed(jobs))
        self.pending: dict[str, Demand] = {}
        self.running: dict[str, _Job] = {}
        self.now, self.again_at, self.rounds = 0.0, float("inf"), 0

    def run(self, until: float) -> None:
        while (at := self._next_at()) <= until and at < float("inf"):
            self.now = at
            self._arrive()
            self._end()
            self._settle()
        if until < float("inf"):
            self.now = until
        for job in self.running.values():
            job.advance(self.now)

    def _next_at(self) -> float:
        arrival = self.coming[-1].demand.created_at if self.coming else float("inf")
        ends = min((job.next_at() for job in self.running.values()), default=float("inf"))
        # A round that asks for nobody's sake would go on for ever.
        again = self.again_at if self.running or self.coming or self.pending else float("inf")
        return min(arrival, ends, max(again, self.now) if again < float("inf") else again)

    def _arrive(self) -> None:
        while self.coming and self.coming[-1].demand.created_at <= self.now:
            demand = self.coming.pop().demand
            self.pending[demand.id] = demand

    def _end(self) -> None:
        for name, job in list(self.running.items()):
            if job.next_at() > self.now:
                continue
            job.advance(self.now)
            job.held = None
            del self.running[name]
            if job.left_s <= _DONE_S + 1e-12 * self.now:
                job.ended_at = self.now
            else:
                self._requeue(name, job)

    def _requeue(self, name: str, job: _Job) -> None:
        job.preemptions += 1
        job.loading_s, job.stops_at = self.restart_s, float("inf")
        self.pending[name] = replace(job.job.demand, run_s=None if job.job.demand.run_s is None else max(1.0, job.left_s))

    def _settle(self) -> None:
        """Hold rounds until one frees nothing that the next could grant."""
        for _ in range(_ROUNDS):
            ruling = self.decide(self._scene())
            self.rounds += 1
            self.again_at = float("inf") if ruling.again_at is None or ruling.again_at <= self.now else ruling.again_at
            freed = self._change(ruling.targets)
            freed |= self._stop(ruling.preempted)
            self._grant(ruling.grants)
            for name, reason in ruling.reasons.items():
                self.jobs[name].wait_for(reason, self.now)
            if not (freed and self.pending):
                return
        raise SolverFailed(f"at {self.now:g} s the rounds did not settle: {_ROUNDS} of them kept resizing or preempting")

    def _scene(self) -> Scene:
        held = sorted((job.held for job in self.running.values() if job.held), key=lambda one: (one.since, one.grant.id))
        pending = sorted(self.pending.values(), key=lambda demand: (demand.created_at, demand.id))
        return Scene(now=self.now, nodes=self.nodes, held=tuple(held), pending=tuple(pending))

    def _change(self, targets: Mapping[str, Grant]) -> bool:
        freed = False
        for name, target in targets.items():
            job = self.running[name]
            assert job.held is not None, "what runs holds a grant"
            before = job.held.grant.amounts
            job.advance(self.now)
            job.hold(replace(job.held, grant=target), self.speed(job.job.demand, target), self.now)
            freed |= any(target.amounts.get(resource, 0.0) < amount for resource, amount in before.items())
        return freed

    def _stop(self, preempted: Mapping[str, str]) -> bool:
        for name in preempted:
            job = self.running[name]
            assert job.held is not None, "what runs holds a grant"
            job.advance(self.now)
            job.stops_at = min(job.stops_at, self.now + self.grace_s)
            job.held = replace(job.held, stopping=True)
        self._end()
        return bool(preempted) and self.grace_s <= 0

    def _grant(self, grants: Mapping[str, Grant]) -> None:
        for name, grant in grants.items():
            job, demand = self.jobs[name], self.pending.pop(name)
            job.hold(Held(demand=demand, grant=grant, since=self.now), self.speed(demand, grant), self.now)
            self.running[name] = job
        if grants:
            self._refuse_too_much()

    def _refuse_too_much(self) -> None:
        used: dict[tuple[str, str], float] = {}
        for job in self.running.values():
            assert job.held is not None, "what runs holds a grant"
            for resource, amount in job.held.grant.amounts.items():
                key = (job.held.grant.node, resource)
                used[key] = used.get(key, 0.0) + amount
        room = {(node.name, resource): amount for node in self.nodes for resource, amount in node.capacity.items()}
        for (node, resource), amount in used.items():
            if amount > room.get((node, resource), 0.0) * (1 + 1e-6):
                raise SolverFailed(
                    f"at {self.now:g} s {amount:g} {resource} are granted on {node}, which has {room.get((node, resource), 0.0):g}"
                )
