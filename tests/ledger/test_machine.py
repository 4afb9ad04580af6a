"""Laws of attempts and grants, whatever happens in whatever order."""

import functools
import itertools
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from contracts.ledger import demand, first_come, job, node
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_dla.errors import Conflict, LedgerError, NotFound
from airflow_dla.ledger import Attempt, Decision, Event, connect
from airflow_dla.specs import Account, AttemptState, Exit, ExitReason, Grant, TeamSpec

_TASKS = ("a", "b", "c", "d")
_REASONS = st.sampled_from(ExitReason)
_HELD = {AttemptState.GRANTED, AttemptState.LAUNCHING, AttemptState.RUNNING}
_ORDER = list(AttemptState)


@functools.cache
def _empty_ledger() -> bytes:
    """Return the bytes of a ledger's file after its first upgrade."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = connect(f"sqlite:///{folder}/ledger.db")
        ledger.upgrade()
        ledger.close()
        return Path(folder, "ledger.db").read_bytes()


class Attempts(RuleBasedStateMachine):
    """Four tasks on a node of four CPUs, followed by two processes."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.mkdtemp(prefix="dla-machine-")
        self.ledger = connect(f"sqlite:///{self._folder}/ledger.db", durable=False)
        Path(self._folder, "ledger.db").write_bytes(_empty_ledger())
        self.ledger.register_node(node(cpu=4))
        self.seen: dict[str, AttemptState] = {}
        self.events: tuple[Event, ...] = ()
        self.number = itertools.count()
        self.priorities: dict[str, int] = {}
        self.used = 0.0

    def teardown(self) -> None:
        """Throw the ledger away."""
        self.ledger.close()
        shutil.rmtree(self._folder)

    @property
    def live(self) -> tuple[Attempt, ...]:
        """Attempts that have not ended."""
        return self.ledger.jobs(state="live")

    def _pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.seen)), label="attempt")

    @rule(task=st.sampled_from(_TASKS), cpu=st.integers(1, 5), deferred=st.booleans())
    def open(self, task: str, cpu: int, *, deferred: bool) -> None:
        """Start a task, or start it again."""
        attempt = self.ledger.open_attempt(job(task, cpu=cpu), deferred=deferred)
        assert not attempt.ended or (attempt.exit and attempt.exit.succeeded and attempt.delivered_at is None)
        self.seen.setdefault(attempt.id, AttemptState.WAITING)

    @rule(force=st.booleans(), lease_s=st.sampled_from([60, -1]))
    def round(self, *, force: bool, lease_s: float) -> None:
        """Somebody runs a round."""
        self.ledger.round(first_come, holder="h", lease_s=lease_s, force=force)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), cpu=st.sampled_from([0.5, 1.0, 2.0, 4.0]))
    def target(self, data: st.DataObject, cpu: float) -> None:
        """Let a round change a grant, rightly or not."""
        id_ = self._pick(data)
        wanted = Grant(id=id_, node="n", amounts={"cpu": cpu})
        before = self.ledger.snapshot()
        try:
            self.ledger.round(lambda _: Decision(targets={id_: wanted}), holder="h", lease_s=60, force=True)
        except LedgerError:
            assert self.ledger.snapshot().held == before.held
            return
        (held,) = [held for held in self.ledger.snapshot().held if held.grant.id == id_]
        assert (held.target or held.grant).amounts == wanted.amounts

    @rule(data=st.data(), applied=st.booleans(), now=st.booleans())
    def resized(self, data: st.DataObject, *, applied: bool, now: bool) -> None:
        """Confirm or refuse a target, or one that nobody set."""
        told = [held for held in self.ledger.snapshot().held if held.target is not None]
        if not told:
            return
        held = data.draw(st.sampled_from(told), label="held")
        assert held.target is not None
        target = held.target if now else Grant(id=held.grant.id, node="n", amounts={"cpu": 3.5})
        self.ledger.resized(held.grant.id, target=target, applied=applied)
        (after,) = [found for found in self.ledger.snapshot().held if found.grant.id == held.grant.id]
        assert after.grant == (held.target if now and applied else held.grant)
        assert after.target == (None if now else held.target)
        assert after.rigid == (held.rigid or (now and not applied))

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        """Let a round preempt: what is held is told to stop, or ends when nothing runs; else nothing happens."""
        id_ = self._pick(data)
        before = self.ledger.attempts([id_])[id_]
        try:
            self.ledger.round(lambda _: Decision(preempted={id_: "why"}), holder="h", lease_s=60, force=True)
        except LedgerError:
            assert before.lease is None
            return
        after = self.ledger.attempts([id_])[id_]
        assert after.stop is (before.stop or ExitReason.PREEMPTED)
        assert after.ended is (before.state is AttemptState.GRANTED)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), priority=st.integers(-2, 2))
    def prioritize(self, data: st.DataObject, priority: int) -> None:
        """Change a job's priority."""
        attempt = self.ledger.attempts([self._pick(data)]).popitem()[1]
        last = self.ledger.last_attempt(attempt.job)
        assert last is not None
        try:
            self.priorities[self.ledger.set_priority(attempt.job, priority, by="me").id] = priority
        except NotFound:
            assert last.ended

    @rule(weights=st.dictionaries(st.sampled_from(["a", "b", "default"]), st.sampled_from([1.0, 2.0])), used=st.floats(0, 9))
    def teams(self, weights: dict[str, float], used: float) -> None:
        """Make other teams, and account for one."""
        wanted = {name: TeamSpec(name=name, weight=weight) for name, weight in weights.items()}
        kept = {team.name: team for team in self.ledger.teams() if team.name == "default"}
        self.ledger.apply_teams(list(wanted.values()), by="me")
        assert {team.name: team for team in self.ledger.teams()} == {**kept, **wanted}
        account = Account(team="a", gpu_hours=used)
        self.ledger.round(lambda _: Decision(accounts=(account,)), holder="h", lease_s=60, force=True)
        self.used = used

    @rule(cpu=st.integers(1, 2))
    def bare(self, cpu: int) -> None:
        """Take and release a grant that belongs to no job."""
        id_ = f"bare-{next(self.number)}"
        answers = self.ledger.admit([demand(id_, cpu=cpu)], first_come, holder="h", lease_s=60)
        assert answers == {id_: self.ledger.answer(id_)}
        self.ledger.release([id_])

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), holder=st.sampled_from(["h", "other"]))
    def launch(self, data: st.DataObject, holder: str) -> None:
        """Launch as a follower does, rightly or not."""
        attempt = self._pick(data)
        try:
            self.ledger.begin_launch(attempt, holder=holder, lease_s=60)
            self.ledger.record_launch(attempt, {"pid": next(self.number)})
        except Conflict:
            found = self.ledger.attempts([attempt])[attempt]
            assert found.stop or found.state not in {AttemptState.GRANTED, AttemptState.LAUNCHING}

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), reason=_REASONS)
    def stop(self, data: st.DataObject, reason: ExitReason) -> None:
        """Somebody wants an attempt to stop."""
        self.ledger.want_stop(self._pick(data), reason)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), reason=_REASONS)
    def finish(self, data: st.DataObject, reason: ExitReason) -> None:
        """End an attempt."""
        attempt = self._pick(data)
        assert self.ledger.finish(attempt, Exit(reason=reason)).ended

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """Deliver a result."""
        self.ledger.deliver(self._pick(data))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), holder=st.sampled_from(["h", "other"]), lease_s=st.sampled_from([60, -1]))
    def renew(self, data: st.DataObject, holder: str, lease_s: float) -> None:
        """Renew as a follower does."""
        attempt = self._pick(data)
        held = {lease.grant.id for lease in self.ledger.leases()}
        assert self.ledger.renew([attempt], holder=holder, lease_s=lease_s) == held & {attempt}

    @rule()
    def release(self) -> None:
        """Release what belongs to jobs: it must not help."""
        self.ledger.release(list(self.seen))

    @invariant()
    def never_over_capacity(self) -> None:
        """Give at most what the node has, with all that is promised."""
        assert sum(grant.amounts["cpu"] for grant in self.ledger.snapshot().live) <= 4

    @invariant()
    def words_are_kept(self) -> None:
        """Priorities that were set last, accounts of teams that may have gone, attempts that have what their grants say."""
        seen = self.ledger.snapshot()
        found = {waiting.id: waiting.priority for waiting in seen.pending} | {held.grant.id: held.demand.priority for held in seen.held}
        assert all(self.priorities.get(id_, 0) == priority for id_, priority in found.items())
        assert [account.gpu_hours for account in seen.accounts] in ([], [self.used])
        attempts = self.ledger.attempts(held.grant.id for held in seen.held)
        assert all(attempts[held.grant.id].grant == held.grant for held in seen.held)
        assert all((attempts[held.grant.id].stop is not None) == held.stopping for held in seen.held)

    @invariant()
    def one_live_attempt_of_a_job(self) -> None:
        """Of each job at most one attempt has not ended."""
        states = self.ledger.attempts(self.seen)
        assert max(Counter(found.job for found in states.values() if not found.ended).values(), default=0) <= 1

    @invariant()
    def grant_while_it_may_run(self) -> None:
        """There is a grant exactly from granted to running, and attempts only move on."""
        attempts = self.ledger.attempts(self.seen)
        held = {id_ for id_, found in attempts.items() if found.state in _HELD}
        assert {lease.grant.id for lease in self.ledger.leases()} == held
        assert all((found.lease is not None) == (id_ in held) for id_, found in attempts.items())
        assert all((found.exit is not None) == found.ended for found in attempts.values())
        for id_, found in attempts.items():
            assert _ORDER.index(found.state) >= _ORDER.index(self.seen[id_])
            self.seen[id_] = found.state

    @invariant()
    def history_grows(self) -> None:
        """Keep what was written, in its order."""
        events = self.ledger.history(limit=10_000)
        assert events[len(events) - len(self.events) :] == self.events
        self.events = events


TestAttempts = Attempts.TestCase
TestAttempts.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
