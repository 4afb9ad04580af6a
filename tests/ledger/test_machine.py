"""Laws of attempts and grants, whatever happens in whatever order."""

import functools
import itertools
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from contracts.ledger import first_come, job, node
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_dla.errors import Conflict
from airflow_dla.ledger import Attempt, Event, connect
from airflow_dla.specs import AttemptState, Exit, ExitReason

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
        """Give at most what the node has."""
        assert sum(lease.grant.amounts["cpu"] for lease in self.ledger.leases()) <= 4

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
