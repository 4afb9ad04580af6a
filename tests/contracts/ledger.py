"""What every ledger does: `LedgerContract` runs on each implementation that a `ledger` fixture gives.

Time is the database's, so a test that needs an expired lease takes one that has expired
when it is given (``lease_s=-1``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_dla.errors import Conflict, InvalidSpec, LedgerError, NotFound
from airflow_dla.ledger import Attempt, Decision, Lease, Ledger, Round, Snapshot
from airflow_dla.specs import (
    AgentSpec,
    ArtifactRef,
    AttemptState,
    Demand,
    Exit,
    ExitReason,
    Grant,
    JobKey,
    JobSpec,
    Node,
    Reason,
    Request,
)

DONE = Exit(reason=ExitReason.SUCCEEDED, message="done")
FAILED = Exit(reason=ExitReason.USER_ERROR, message="it failed", code=1)
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def job(task: str = "train", *, cpu: float = 1, dag: str = "d", **fields: Any) -> JobSpec:
    """Return a job's spec that asks for so many CPUs."""
    given = {"agent": {"name": "digits"}, "entrypoint": "digits:train", "request": {"cpu": cpu}, **fields}
    return JobSpec.from_mapping({"key": {"dag": dag, "run": "r", "task": task}, **given})


def node(name: str = "n", *, cpu: float = 4, **fields: Any) -> Node:
    """Return a node with so many CPUs."""
    return Node(name=name, capacity={"cpu": cpu, **fields.pop("capacity", {})}, **fields)


def demand(id_: str, *, cpu: float = 1, **more: Any) -> Demand:
    """Return a demand of the bare hook."""
    return Demand(id=id_, request=Request.from_mapping({"cpu": cpu}), **more)


def first_come(snapshot: Snapshot) -> Decision:
    """Grant in order of age what fits on the first node that has room; tell the others why not."""
    free = {found.name: found.capacity.get("cpu", 0.0) for found in snapshot.nodes}
    for grant in snapshot.live:
        if grant.node in free:
            free[grant.node] -= grant.amounts["cpu"]
    grants, reasons = {}, {}
    for waiting in snapshot.pending:
        wanted = waiting.request.amounts["cpu"].wanted
        place = next((name for name, room in free.items() if room >= wanted), None)
        if place is None:
            reasons[waiting.id] = Reason(binding="cpu", shortfall=wanted, text="too few CPUs")
        else:
            free[place] -= wanted
            grants[waiting.id] = Grant(id=waiting.id, node=place, amounts={"cpu": wanted})
    return Decision(grants=grants, reasons=reasons)


def refuse_all(snapshot: Snapshot) -> Decision:
    """Fail: a skipped round must not call this."""
    raise AssertionError(f"decide was called with {snapshot}")


def run_round(
    ledger: Ledger, decide: Callable[[Snapshot], Decision] = first_come, *, holder: str = "h", lease_s: float = 60, force: bool = False
) -> Round:
    """Run one round."""
    return ledger.round(decide, holder=holder, lease_s=lease_s, force=force)


def granted(ledger: Ledger, spec: JobSpec | None = None, *, lease_s: float = 60) -> Attempt:
    """Return an attempt that has its grant."""
    if not ledger.nodes():
        ledger.register_node(node())
    opened = ledger.open_attempt(spec or job())
    run_round(ledger, lease_s=lease_s)
    return ledger.attempts([opened.id])[opened.id]


def running(ledger: Ledger, spec: JobSpec | None = None) -> Attempt:
    """Return an attempt that runs."""
    attempt = granted(ledger, spec)
    ledger.begin_launch(attempt.id, holder="h", lease_s=60)
    return ledger.record_launch(attempt.id, {"pid": 7})


class LedgerContract:
    """The suite; a subclass somewhere provides the fixture `ledger`."""

    # The ledger itself

    def test_identity_never_changes(self, ledger: Ledger) -> None:
        """A workspace's id is made once, with the schema."""
        first = ledger.identity()
        ledger.upgrade()
        ledger.close()
        assert ledger.identity() == first
        assert len(first) == 32

    def test_schema_is_what_the_code_needs(self, ledger: Ledger) -> None:
        """After the upgrade both revisions are the same."""
        found, needed = ledger.schema()
        assert found == needed

    def test_time_goes_on(self, ledger: Ledger) -> None:
        """Time is in seconds since the epoch and does not stand still."""
        first = ledger.now()
        assert first > 1.7e9
        assert ledger.now() >= first

    # Nodes, followers, teams, agents

    def test_node_round_trip(self, ledger: Ledger) -> None:
        """A node comes back as it was registered; a second registration replaces it."""
        wanted = node(labels={"gpu_type": "h200"}, cpu_ids=(0, 1), gpu_ids=("0",))
        ledger.register_node(wanted, host="host-1")
        ledger.register_node(wanted, host="host-2")
        (found,) = ledger.nodes()
        assert found.node == wanted
        assert found.host == "host-2"
        assert found.silent_since is None

    def test_nodes_are_registered_together(self, ledger: Ledger) -> None:
        """All of them are there afterwards, by name."""
        ledger.register_nodes([node("b"), node("a")], host="host-1")
        assert [(row.node.name, row.host) for row in ledger.nodes()] == [("a", "host-1"), ("b", "host-1")]

    def test_silence_counts_from_its_beginning(self, ledger: Ledger) -> None:
        """Only the first unanswered question dates the silence; an answer ends it."""
        ledger.register_node(node())
        first = ledger.node_answered("n", answered=False)
        second = ledger.node_answered("n", answered=False)
        assert first is not None
        assert second is not None
        assert first.silent_since == second.silent_since is not None
        answered = ledger.node_answered("n", answered=True)
        assert answered is not None
        assert answered.silent_since is None
        assert answered.seen_at >= first.silent_since

    def test_silent_node_is_granted_nothing_until_it_answers(self, ledger: Ledger) -> None:
        """A round leaves it out; its answer makes the next round due."""
        ledger.register_node(node())
        ledger.node_answered("n", answered=False)
        ledger.open_attempt(job("waits"))
        assert ledger.snapshot().nodes == ()
        run_round(ledger, lambda _: Decision())
        assert run_round(ledger, lambda _: Decision()).skipped
        ledger.node_answered("n", answered=True)
        assert not run_round(ledger, lambda _: Decision()).skipped
        assert [one.name for one in ledger.snapshot().nodes] == ["n"]

    def test_unknown_node_does_not_answer(self, ledger: Ledger) -> None:
        """Asking about a node that was never registered gives None."""
        assert ledger.node_answered("nobody", answered=True) is None

    def test_removed_node_stays_charged(self, ledger: Ledger) -> None:
        """Grants outlive their node, and no new one is made on it."""
        held = granted(ledger)
        ledger.remove_node("n")
        ledger.remove_node("n")
        assert ledger.nodes() == ()
        assert [lease.grant.id for lease in ledger.leases()] == [held.id]
        ledger.open_attempt(job("other"))
        seen: list[Snapshot] = []
        run_round(ledger, lambda snapshot: seen.append(snapshot) or Decision())
        assert seen[0].nodes == ()
        assert [live.id for live in seen[0].live] == [held.id]

    def test_followers_are_those_heard_of(self, ledger: Ledger) -> None:
        """One row each, whatever the number of heartbeats; the silent are left out."""
        ledger.heartbeat("a", "worker", "host")
        ledger.heartbeat("a", "triggerer", "host")
        assert ledger.followers() == (("a", "triggerer", "host"),)
        assert ledger.followers(within_s=-1) == ()

    def test_agents_by_name(self, ledger: Ledger) -> None:
        """An agent is replaced by the next of its name."""
        ledger.put_agent(AgentSpec(name="b"))
        ledger.put_agent(AgentSpec(name="a"))
        ledger.put_agent(AgentSpec(name="b", image="x:1"))
        assert ledger.agents() == (AgentSpec(name="a"), AgentSpec(name="b", image="x:1"))

    def test_one_team_from_the_start(self, ledger: Ledger) -> None:
        """The default team exists."""
        assert [(team.name, team.weight) for team in ledger.teams()] == [("default", 1.0)]

    # Jobs and attempts

    def test_first_attempt_waits(self, ledger: Ledger) -> None:
        """A new job gets attempt 1, which waits for its grant."""
        spec = job(args={"lr": 0.1}, policy={"priority": 3})
        attempt = ledger.open_attempt(spec, deferred=True)
        assert attempt.id == f"{spec.key.id}.1"
        assert (attempt.number, attempt.state, attempt.deferred) == (1, AttemptState.WAITING, True)
        assert attempt.spec == spec
        assert attempt.lease is None

    def test_live_attempt_is_taken_over(self, ledger: Ledger) -> None:
        """A second task process finds the attempt that has not ended, also while it stops, with its own spec."""
        first = running(ledger)
        ledger.want_stop(first.id, ExitReason.STOPPED)
        again = ledger.open_attempt(job(args={"changed": True}), deferred=True)
        assert again.id == first.id
        assert again.spec == first.spec
        assert again.deferred
        assert not ledger.open_attempt(job(), deferred=False).deferred

    def test_undelivered_result_is_returned(self, ledger: Ledger) -> None:
        """A success whose result never reached Airflow is not run again; a delivered one is."""
        first = running(ledger)
        ledger.finish(first.id, DONE)
        assert ledger.open_attempt(job()).id == first.id
        ledger.deliver(first.id)
        ledger.deliver(first.id)
        second = ledger.open_attempt(job())
        assert second.number == 2
        assert not second.ended

    def test_failure_is_tried_again(self, ledger: Ledger) -> None:
        """After an end without success a new attempt starts with the new spec."""
        first = running(ledger)
        ledger.finish(first.id, FAILED)
        second = ledger.open_attempt(job(args={"changed": True}))
        assert second.number == 2
        assert second.spec.args == {"changed": True}

    def test_attempts_in_one_read(self, ledger: Ledger) -> None:
        """Unknown ids are left out; no ids give nothing."""
        known = [ledger.open_attempt(job(f"t{index}")).id for index in range(3)]
        assert set(ledger.attempts([*known, "nobody.1"])) == set(known)
        assert ledger.attempts([]) == {}

    def test_last_attempt(self, ledger: Ledger) -> None:
        """The last attempt of a job is known by the job's id."""
        assert ledger.last_attempt("nobody") is None
        first = running(ledger)
        ledger.finish(first.id, FAILED)
        second = ledger.open_attempt(job())
        assert ledger.last_attempt(first.job) == second

    def test_jobs_are_listed_by_state(self, ledger: Ledger) -> None:
        """The last attempts, newest first, by state, exit reason or dag."""
        done, waiting = running(ledger, job("a")), ledger.open_attempt(job("b", dag="e"))
        ledger.finish(done.id, DONE)
        assert [found.id for found in ledger.jobs()] == [waiting.id, done.id]
        assert [found.id for found in ledger.jobs(limit=1)] == [waiting.id]
        assert [found.id for found in ledger.jobs(state="live")] == [waiting.id]
        assert [found.id for found in ledger.jobs(state="waiting")] == [waiting.id]
        assert [found.id for found in ledger.jobs(state="succeeded")] == [done.id]
        assert [found.id for found in ledger.jobs(dag="e")] == [waiting.id]

    def test_unknown_state_is_refused(self, ledger: Ledger) -> None:
        """The error lists the states that exist."""
        with pytest.raises(InvalidSpec, match=r"live, waiting, granted.*got 'sleeping'"):
            ledger.jobs(state="sleeping")

    def test_life_of_an_attempt(self, ledger: Ledger) -> None:
        """Waiting, granted, launching, running, ended: each with its time, handle and lease."""
        attempt = granted(ledger)
        assert attempt.state is AttemptState.GRANTED
        assert attempt.lease is not None
        assert attempt.granted_at is not None
        assert attempt.grant == attempt.lease.grant
        launching = ledger.begin_launch(attempt.id, holder="me", lease_s=60)
        assert launching.state is AttemptState.LAUNCHING
        assert launching.lease is not None
        assert launching.lease.holder == "me"
        live = ledger.record_launch(attempt.id, {"pid": 7})
        assert (live.state, live.handle) == (AttemptState.RUNNING, {"pid": 7})
        ended = ledger.finish(attempt.id, DONE)
        assert (ended.state, ended.exit, ended.lease) == (AttemptState.ENDED, DONE, None)
        assert ended.grant == attempt.grant
        times = [ended.created_at, ended.granted_at, ended.running_at, ended.ended_at]
        assert times == sorted(times, key=lambda at: at or 0)

    def test_launch_needs_a_grant(self, ledger: Ledger) -> None:
        """What waits, runs or has ended cannot be launched; launching twice may be tried again."""
        waiting = ledger.open_attempt(job("waiting", cpu=99))
        with pytest.raises(Conflict, match="it is waiting"):
            ledger.begin_launch(waiting.id, holder="h", lease_s=60)
        with pytest.raises(Conflict, match="call begin_launch first"):
            ledger.record_launch(waiting.id, {})
        attempt = granted(ledger)
        ledger.begin_launch(attempt.id, holder="h", lease_s=60)
        ledger.begin_launch(attempt.id, holder="h", lease_s=60)
        ledger.record_launch(attempt.id, {"pid": 1})
        with pytest.raises(Conflict, match="it is running"):
            ledger.begin_launch(attempt.id, holder="h", lease_s=60)

    def test_launch_of_a_stopped_attempt(self, ledger: Ledger) -> None:
        """An attempt whose stop is wanted is not launched."""
        attempt = granted(ledger)
        ledger.begin_launch(attempt.id, holder="h", lease_s=60)
        ledger.want_stop(attempt.id, ExitReason.TIMED_OUT)
        with pytest.raises(Conflict, match="timed_out"):
            ledger.begin_launch(attempt.id, holder="h", lease_s=60)

    def test_handle_is_recorded_once(self, ledger: Ledger) -> None:
        """The first handle stays, and an end is not undone."""
        attempt = running(ledger)
        assert ledger.record_launch(attempt.id, {"pid": 8}).handle == {"pid": 7}
        ledger.finish(attempt.id, DONE)
        assert ledger.record_launch(attempt.id, {"pid": 9}).ended

    def test_stop_before_launch_ends_at_once(self, ledger: Ledger) -> None:
        """What no runtime knows ends by a word, and its grant is free."""
        attempt = granted(ledger)
        stopped = ledger.want_stop(attempt.id, ExitReason.STOPPED)
        assert stopped.ended
        assert stopped.exit is not None
        assert stopped.exit.reason is ExitReason.STOPPED
        assert "never started" in stopped.exit.message
        assert ledger.leases() == ()
        waiting = ledger.open_attempt(job("waiting"))
        assert ledger.want_stop(waiting.id, ExitReason.PREEMPTED).ended
        assert run_round(ledger).waiting == 0

    def test_first_stop_stays(self, ledger: Ledger) -> None:
        """A later reason does not replace the first, and a running attempt goes on until its end is recorded."""
        attempt = running(ledger)
        assert ledger.want_stop(attempt.id, ExitReason.TIMED_OUT).stop is ExitReason.TIMED_OUT
        again = ledger.want_stop(attempt.id, ExitReason.STOPPED)
        assert (again.stop, again.state) == (ExitReason.TIMED_OUT, AttemptState.RUNNING)

    def test_a_preemption_gives_way_to_any_other_stop(self, ledger: Ledger) -> None:
        """What a person stops while it makes way must not begin again; a preemption replaces nothing."""
        attempt = running(ledger)
        ledger.want_stop(attempt.id, ExitReason.PREEMPTED, why="for d.big")
        stopped = ledger.want_stop(attempt.id, ExitReason.STOPPED, why="by ada")
        assert (stopped.stop, stopped.stop_why) == (ExitReason.STOPPED, "by ada")
        again = ledger.want_stop(attempt.id, ExitReason.PREEMPTED, why="for d.big")
        assert (again.stop, again.stop_why) == (ExitReason.STOPPED, "by ada")

    def test_first_end_stays(self, ledger: Ledger) -> None:
        """A second end changes nothing."""
        attempt = running(ledger)
        ledger.finish(attempt.id, DONE)
        assert ledger.finish(attempt.id, FAILED).exit == DONE
        assert not ledger.want_stop(attempt.id, ExitReason.STOPPED).stop

    def test_end_is_readable_whatever_was_measured(self, ledger: Ledger) -> None:
        """A loss that became NaN does not keep an attempt from ending."""
        attempt = running(ledger)
        ended = ledger.finish(attempt.id, Exit(reason=ExitReason.SUCCEEDED, metrics={"loss": float("nan"), "acc": 0.5}))
        assert ended.exit is not None
        assert ended.exit.metrics == {"acc": 0.5}

    @pytest.mark.parametrize("operation", ["want_stop", "finish", "begin_launch", "record_launch", "deliver", "set_deferred"])
    def test_unknown_attempt(self, ledger: Ledger, operation: str) -> None:
        """An id that nobody knows is said so."""
        arguments = {
            "want_stop": {"reason": ExitReason.STOPPED},
            "finish": {"exit_": DONE},
            "begin_launch": {"holder": "h", "lease_s": 1},
            "record_launch": {"handle": {}},
            "set_deferred": {"deferred": True},
        }
        with pytest.raises(NotFound, match=r"no attempt 'nobody\.1'"):
            getattr(ledger, operation)("nobody.1", **arguments.get(operation, {}))

    def test_offsets_only_grow(self, ledger: Ledger) -> None:
        """A follower that lags behind moves no offset back."""
        attempt = running(ledger)
        ledger.save_offsets({attempt.id: 100, "nobody.1": 5})
        ledger.save_offsets({attempt.id: 40})
        ledger.save_offsets({})
        assert ledger.attempts([attempt.id])[attempt.id].log_offset == 100

    def test_who_follows(self, ledger: Ledger) -> None:
        """The follower's kind can change."""
        attempt = ledger.open_attempt(job())
        ledger.set_deferred(attempt.id, deferred=True)
        assert ledger.attempts([attempt.id])[attempt.id].deferred

    # Allocation

    def test_bare_demand(self, ledger: Ledger) -> None:
        """A demand waits without an answer, then has a lease, then is gone."""
        ledger.register_node(node())
        ledger.request(demand("x"))
        ledger.request(demand("x"))
        assert ledger.answer("x") is None
        assert run_round(ledger).granted == ("x",)
        lease = ledger.answer("x")
        assert isinstance(lease, Lease)
        assert lease.grant == Grant(id="x", node="n", amounts={"cpu": 1})
        ledger.request(demand("x"))
        ledger.release(["x", "nobody"])
        ledger.release([])
        with pytest.raises(NotFound, match="no demand 'x'"):
            ledger.answer("x")

    def test_admission(self, ledger: Ledger) -> None:
        """Demands are written, decided about and answered in one go; what waits is asked about again with the next."""
        ledger.register_node(node(cpu=3))
        wanted = [demand("x", cpu=2), demand("y", cpu=2)]
        answers = ledger.admit(wanted, first_come, holder="h", lease_s=60)
        assert isinstance(answers["x"], Lease)
        assert (answers["x"].grant, answers["x"].holder) == (Grant(id="x", node="n", amounts={"cpu": 2}), "h")
        assert answers["x"] == ledger.answer("x")
        assert answers["y"] == ledger.answer("y") == Reason(binding="cpu", shortfall=2, text="too few CPUs")
        assert ledger.admit(wanted, first_come, holder="other", lease_s=60) == answers
        ledger.release(["x"])
        later = ledger.admit([demand("z")], first_come, holder="other", lease_s=60, waiting=["y", "x"])
        assert {id_: isinstance(answer, Lease) for id_, answer in later.items()} == {"y": True, "z": True}

    def test_admission_without_news(self, ledger: Ledger) -> None:
        """When nothing happened since the last round, answers are read and nobody decides."""
        ledger.register_node(node())
        first = ledger.admit([demand("x"), demand("big", cpu=9)], first_come, holder="h", lease_s=60)
        again = ledger.admit([], refuse_all, holder="h", lease_s=60, waiting=first)
        assert again == first

    def test_admission_grants_what_waits_already(self, ledger: Ledger) -> None:
        """One round serves all: jobs and demands that others wrote."""
        ledger.register_node(node())
        opened = ledger.open_attempt(job())
        ledger.request(demand("y"))
        assert set(ledger.admit([demand("x")], first_come, holder="h", lease_s=60)) == {"x"}
        assert ledger.attempts([opened.id])[opened.id].state is AttemptState.GRANTED
        assert isinstance(ledger.answer("y"), Lease)

    def test_admission_that_is_refused(self, ledger: Ledger) -> None:
        """A decision that gives too much writes nothing, the demands included."""
        ledger.register_node(node())
        too_much = Decision(grants={"x": Grant(id="x", node="n", amounts={"cpu": 9})})
        with pytest.raises(LedgerError, match="has 4 cpu, 9 would be granted"):
            ledger.admit([demand("x")], lambda _: too_much, holder="h", lease_s=60)
        with pytest.raises(NotFound):
            ledger.answer("x")

    def test_reason_to_wait(self, ledger: Ledger) -> None:
        """What does not fit gets its reason, the attempt as well."""
        ledger.register_node(node(cpu=1))
        big = ledger.open_attempt(job(cpu=8))
        assert run_round(ledger).waiting == 1
        assert ledger.answer(big.id) == Reason(binding="cpu", shortfall=8, text="too few CPUs")
        assert ledger.attempts([big.id])[big.id].reason == ledger.answer(big.id)

    def test_reason_of_a_smaller_grant_stays(self, ledger: Ledger) -> None:
        """An attempt that got less than it wanted keeps the reason, also after its end."""
        ledger.register_node(node())
        opened = ledger.open_attempt(job(cpu="1-2"))
        less = Reason(binding="cpu", shortfall=1, text="one CPU less")
        grant = Grant(id=opened.id, node="n", amounts={"cpu": 1})
        run_round(ledger, lambda _: Decision(grants={opened.id: grant}, reasons={opened.id: less}))
        assert ledger.attempts([opened.id])[opened.id].reason == less
        assert ledger.finish(opened.id, DONE).reason == less

    def test_release_leaves_jobs_alone(self, ledger: Ledger) -> None:
        """Only the end of an attempt frees its grant or its demand."""
        held, waiting = granted(ledger), ledger.open_attempt(job("other"))
        ledger.release([held.id, waiting.id])
        assert [lease.grant.id for lease in ledger.leases()] == [held.id]
        assert run_round(ledger).granted == (waiting.id,)

    def test_snapshot(self, ledger: Ledger) -> None:
        """A round sees nodes, what is held, and what waits in order of age."""
        held = granted(ledger, job("held"))
        spec = job("first", cpu="1-2", policy={"priority": 2, "team": "default", "place": "local"})
        first = ledger.open_attempt(spec, node="n")
        ledger.request(demand("second"))
        seen: list[Snapshot] = []
        run_round(ledger, lambda snapshot: seen.append(snapshot) or Decision())
        (snapshot,) = seen
        assert snapshot.nodes == (node(),)
        assert [live.id for live in snapshot.live] == [held.id]
        assert [waiting.id for waiting in snapshot.pending] == [first.id, "second"]
        found = snapshot.pending[0]
        assert found.request == spec.request
        assert (found.priority, found.place, found.node, found.weight) == (2, "local", "n", 1.0)
        assert 0 < found.created_at <= snapshot.now

    def test_round_is_skipped_when_nothing_helps(self, ledger: Ledger) -> None:
        """Without a change that could help, nobody decides; force does."""
        ledger.register_node(node(cpu=1))
        held, waiting = granted(ledger, job("held")), ledger.open_attempt(job("waiting"))
        assert not run_round(ledger).skipped
        assert run_round(ledger, refuse_all) == Round(skipped=True, waiting=1)
        ledger.begin_launch(held.id, holder="h", lease_s=60)
        ledger.renew([held.id], holder="h", lease_s=60)
        ledger.register_node(node(cpu=1))
        assert run_round(ledger, refuse_all).skipped
        assert not run_round(ledger, force=True).skipped
        ledger.finish(held.id, DONE)
        assert run_round(ledger).granted == (waiting.id,)

    @pytest.mark.parametrize("change", ["finish", "stop", "release", "grow", "add", "demand", "cancel"])
    def test_what_makes_a_round_due(self, ledger: Ledger, change: str) -> None:
        """Freed grants, new room and new demands are reasons to decide again."""
        ledger.register_node(node(cpu=2))
        held = granted(ledger, job("held"))
        ledger.request(demand("bare"))
        run_round(ledger)
        waiting = ledger.open_attempt(job("waiting"))
        ledger.request(demand("cancelled"))
        run_round(ledger)
        assert run_round(ledger, refuse_all).skipped
        changes = {
            "finish": lambda: ledger.finish(held.id, DONE),
            "stop": lambda: ledger.want_stop(held.id, ExitReason.STOPPED),
            "release": lambda: ledger.release(["bare"]),
            "grow": lambda: ledger.register_node(node(cpu=3)),
            "add": lambda: ledger.register_node(node("m")),
            "demand": lambda: ledger.request(demand("new")),
            "cancel": lambda: ledger.release(["cancelled"]),
        }
        changes[change]()
        result = run_round(ledger)
        assert not result.skipped
        assert (waiting.id in result.granted) == (change in {"finish", "stop", "release", "grow", "add"})

    def test_nobody_waits(self, ledger: Ledger) -> None:
        """A round without a waiting request is skipped."""
        ledger.register_node(node())
        assert run_round(ledger, refuse_all) == Round(skipped=True)

    @pytest.mark.parametrize(
        ("grants", "message"),
        [
            ({"x": Grant(id="x", node="n", amounts={"cpu": 5})}, "has 4 cpu, 5 would be granted"),
            ({"x": Grant(id="x", node="n", amounts={"memory": 1})}, "has 0 memory, 1 would be granted"),
            ({"x": Grant(id="x", node="m", amounts={"cpu": 1})}, "node 'm'; known are n"),
            ({"y": Grant(id="y", node="n", amounts={"cpu": 1})}, "answers no demand that waits"),
            ({"x": Grant(id="y", node="n", amounts={"cpu": 1})}, "answers no demand that waits"),
            ({"x": Grant(id="x", node="n", amounts={"gpu": 2}, gpu_ids=("0", "0"))}, "GPU '0' of node 'n' would be granted twice"),
            ({"x": Grant(id="x", node="n", amounts={"gpu": 1}, gpu_ids=("7",))}, "does not hand out"),
            ({"x": Grant(id="x", node="n", amounts={"gpu": 1})}, "must name each"),
            ({"x": Grant(id="x", node="n", amounts={"mig-1g.10gb": 1})}, "must name each"),
            ({"x": Grant(id="x", node="n", amounts={"mig-1g.10gb": 1}, gpu_ids=("0",))}, "must name each"),
            ({"x": Grant(id="x", node="n", amounts={"mig-1g.10gb": 1}, gpu_ids=("MIG-9",))}, "does not hand out"),
            (
                {id_: Grant(id=id_, node="n", amounts={"mig-1g.10gb": 1}, gpu_ids=("MIG-0",)) for id_ in ("x", "z")},
                "GPU 'MIG-0' of node 'n' would be granted twice",
            ),
            (
                {
                    "x": Grant(id="x", node="n", amounts={"gpu": 0.6}, gpu_ids=("0",)),
                    "z": Grant(id="z", node="n", amounts={"gpu": 0.6}, gpu_ids=("0",)),
                },
                "granted twice",
            ),
        ],
    )
    def test_over_grant_writes_nothing(self, ledger: Ledger, grants: dict[str, Grant], message: str) -> None:
        """A decision that grants what is not there is refused whole, and the round stays due."""
        slices = {"1g.10gb": ("MIG-0", "MIG-1")}
        ledger.register_node(node(capacity={"gpu": 2, "mig-1g.10gb": 2}, gpu_ids=("0", "1"), mig_ids=slices))
        ledger.request(demand("x"))
        ledger.request(demand("z"))
        before = ledger.history()
        with pytest.raises(LedgerError, match=message):
            run_round(ledger, lambda _: Decision(grants=grants))
        assert ledger.leases() == ()
        assert ledger.history() == before
        assert ledger.answer("x") is None
        assert len(run_round(ledger).granted) == 2

    def test_shares_of_a_gpu(self, ledger: Ledger) -> None:
        """Parts of one GPU may be granted up to the whole, never past what others hold."""
        ledger.register_node(node(capacity={"gpu": 2}, gpu_ids=("0", "1")))
        for id_ in ("x", "y", "z"):
            ledger.request(demand(id_))
        half = {id_: Grant(id=id_, node="n", amounts={"gpu": 0.5}, gpu_ids=("0",)) for id_ in ("x", "y")}
        run_round(ledger, lambda _: Decision(grants=half))
        whole = Grant(id="z", node="n", amounts={"gpu": 1}, gpu_ids=("0",))
        with pytest.raises(LedgerError, match="granted twice"):
            run_round(ledger, lambda _: Decision(grants={"z": whole}), force=True)

    def test_shrunk_node_keeps_its_grants(self, ledger: Ledger) -> None:
        """What is held on a node that became smaller stays; only new grants are refused."""
        ledger.register_node(node(cpu=4, capacity={"memory": 1}))
        ledger.request(demand("big", cpu=4))
        run_round(ledger)
        ledger.register_node(node(cpu=2, capacity={"memory": 1}))
        ledger.request(demand("x"))
        with pytest.raises(LedgerError, match="has 2 cpu, 5 would be granted"):
            run_round(ledger, lambda _: Decision(grants={"x": Grant(id="x", node="n", amounts={"cpu": 1})}))
        other = Grant(id="x", node="n", amounts={"memory": 1})
        assert run_round(ledger, lambda _: Decision(grants={"x": other})).granted == ("x",)

    def test_failing_decision_changes_nothing(self, ledger: Ledger) -> None:
        """An error inside decide comes through, and the round stays due."""
        ledger.register_node(node())
        ledger.request(demand("x"))
        with pytest.raises(ZeroDivisionError):
            run_round(ledger, lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
        assert run_round(ledger).granted == ("x",)

    def test_many_at_once(self, ledger: Ledger) -> None:
        """A thousand demands are granted, renewed and freed in bulk."""
        ledger.register_node(node(cpu=1200))
        for index in range(40):
            ledger.request(demand(f"x{index:04}", cpu=30))
        result = run_round(ledger)
        assert len(result.granted) == 40
        ids = [*result.granted, *(f"nobody{index}" for index in range(1500))]
        assert ledger.renew(ids, holder="h", lease_s=60) == frozenset(result.granted)
        ledger.release(ids)
        assert ledger.leases() == ()

    # Leases

    def test_expired_lease_becomes_suspect(self, ledger: Ledger) -> None:
        """Expiry frees nothing: the grant is suspect, charged, and again good when renewed."""
        held = granted(ledger, lease_s=-1)
        run_round(ledger, refuse_all)
        (lease,) = ledger.leases()
        assert lease.suspect
        ledger.open_attempt(job("other", cpu=4))
        assert run_round(ledger).granted == ()
        assert ledger.renew([held.id], holder="h", lease_s=60) == {held.id}
        assert not ledger.leases()[0].suspect
        run_round(ledger)
        assert not ledger.leases()[0].suspect

    def test_token_grows_with_each_holder(self, ledger: Ledger) -> None:
        """The same holder keeps its fencing token, the next one gets a larger."""
        held = granted(ledger)
        tokens = []
        for holder in ("h", "h", "other", "h"):
            ledger.renew([held.id], holder=holder, lease_s=60)
            tokens.append(ledger.leases()[0].token)
        assert tokens == [1, 1, 2, 3]

    def test_renewal_of_what_is_lost(self, ledger: Ledger) -> None:
        """An id that is not returned has lost its grant."""
        held, gone = granted(ledger, job("a")), granted(ledger, job("b"))
        ledger.finish(gone.id, FAILED)
        assert ledger.renew([held.id, gone.id, "nobody"], holder="h", lease_s=60) == {held.id}
        assert ledger.renew([], holder="h", lease_s=60) == frozenset()

    def test_unfollowed_time(self, ledger: Ledger) -> None:
        """Only an expired lease gathers time without a follower; renewing forgets it."""
        held = granted(ledger)
        ledger.unfollowed({held.id: 30})
        assert ledger.attempts([held.id])[held.id].unfollowed_s == 0
        ledger.renew([held.id], holder="h", lease_s=-1)
        ledger.unfollowed({held.id: 30, "nobody.1": 1})
        ledger.unfollowed({held.id: 12})
        ledger.unfollowed({})
        assert ledger.attempts([held.id])[held.id].unfollowed_s == 42
        ledger.renew([held.id], holder="h", lease_s=60)
        found = ledger.attempts([held.id])[held.id]
        assert found.unfollowed_s == 0
        assert found.followed_at is not None

    def test_reaping_takes_turns(self, ledger: Ledger) -> None:
        """One caller in an interval gets the turn; the first ever gets the whole interval."""
        assert ledger.claim_reaping(interval_s=60) == 60
        assert ledger.claim_reaping(interval_s=60) is None
        passed = ledger.claim_reaping(interval_s=0)
        assert passed is not None
        assert 0 <= passed < 60

    # Registry of models

    def register(self, ledger: Ledger, model: str = "digits", *, digest: str = DIGEST, by: str = "job.1"):
        """Register a version."""
        lineage = {"seed": 0, "inputs": {"train": DIGEST}}
        signature = {"inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 64]}], "outputs": []}
        return ledger.register_version(
            model, digest=digest, signature=signature, metrics={"accuracy": 0.97}, lineage=lineage, registered_by=by
        )

    def test_versions_are_numbered(self, ledger: Ledger) -> None:
        """Each model counts from 1; one attempt registers a digest once."""
        first = self.register(ledger)
        assert self.register(ledger) == first
        second = self.register(ledger, by="job.2")
        other = self.register(ledger, "other")
        assert [first.number, second.number, other.number] == [1, 2, 1]
        assert ledger.model_versions("digits") == (second, first)
        assert {found.model for found in ledger.model_versions()} == {"digits", "other"}
        assert first.metrics == {"accuracy": 0.97}

    def test_metrics_must_be_finite(self, ledger: Ledger) -> None:
        """A number that JSON cannot say is refused before anything is written."""
        with pytest.raises(InvalidSpec, match="finite"):
            ledger.register_version(
                "digits", digest=DIGEST, signature={}, metrics={"loss": float("inf")}, lineage={}, registered_by="job.1"
            )
        assert ledger.model_versions() == ()

    def move(self, ledger: Ledger, number: int, expected: int | None, why: str = "better"):
        """Move the champion."""
        return ledger.move_alias("digits", "champion", number, expected=expected, interval_end=1.0, by="job.1", why=why)

    def test_alias_moves_by_compare_and_set(self, ledger: Ledger) -> None:
        """Only who knows where an alias points may move it; every move is logged."""
        for by in ("job.1", "job.2"):
            self.register(ledger, by=by)
        assert self.move(ledger, 1, None).number == 1
        with pytest.raises(Conflict, match="points at version 1, but should not exist"):
            self.move(ledger, 2, None)
        with pytest.raises(Conflict, match="points at version 1, but should point at version 2"):
            self.move(ledger, 1, 2)
        moved = self.move(ledger, 2, 1)
        assert self.move(ledger, 2, 1) == moved
        assert ledger.aliases("digits") == ledger.aliases() == (moved,)
        assert [(line.old, line.new) for line in ledger.alias_log("digits")] == [(1, 2), (None, 1)]
        assert ledger.alias_log("digits", "challenger") == ()
        assert ledger.aliases("other") == ()

    def test_alias_needs_a_version(self, ledger: Ledger) -> None:
        """An alias never points at nothing."""
        self.register(ledger)
        with pytest.raises(NotFound, match="no version 9; the newest it has are 1"):
            self.move(ledger, 9, None)
        with pytest.raises(Conflict, match="does not exist"):
            self.move(ledger, 1, 3)

    # History and roots

    def test_history_tells_an_attempts_life(self, ledger: Ledger) -> None:
        """Every step leaves an event, newest first, and ids grow."""
        attempt = running(ledger)
        ledger.want_stop(attempt.id, ExitReason.STOPPED)
        ledger.finish(attempt.id, FAILED)
        events = ledger.history(subject=attempt.id)
        assert [event.kind for event in reversed(events)] == [
            "attempt.opened", "grant.given", "attempt.launching", "attempt.running",
            "attempt.stop_wanted", "grant.released", "attempt.ended",
        ]  # fmt: skip
        assert [event.id for event in events] == sorted((event.id for event in events), reverse=True)
        assert ledger.history(kind="attempt.ended")[0].data == {"reason": "user_error", "message": "it failed"}
        assert len(ledger.history(limit=2)) == 2

    def test_record(self, ledger: Ledger) -> None:
        """Anybody may append an event with plain data."""
        ledger.record("gate.failed", "digits", {"accuracy": 0.5})
        (event,) = ledger.history(subject="digits")
        assert (event.kind, event.data) == ("gate.failed", {"accuracy": 0.5})

    def test_roots(self, ledger: Ledger) -> None:
        """Versions, pins, what young jobs read and wrote, and checkpoints of the unfinished are kept."""
        output, source, code = ("sha256:" + digit * 64 for digit in "cde")
        spec = job(inputs={"train": {"dla": "artifact", "digest": source}}, code={"digest": code})
        done = running(ledger, spec)
        ledger.finish(done.id, Exit(reason=ExitReason.SUCCEEDED, outputs={"model": ArtifactRef(digest=output)}))
        failed = running(ledger, job("failed"))
        ledger.finish(failed.id, FAILED)
        self.register(ledger)
        ledger.pin(OTHER, "paper")
        ledger.pin(OTHER, "paper")
        roots = ledger.roots(younger_than_s=60)
        assert roots.digests == {
            output: f"job {done.job}",
            source: f"input of job {done.job}",
            code: f"input of job {done.job}",
            DIGEST: "model digits@1",
            OTHER: "pin paper",
        }
        assert roots.checkpoints == {failed.job}
        ledger.pin(OTHER, None)
        assert set(ledger.roots(younger_than_s=-60).digests) == {DIGEST}

    def test_roots_of_live_jobs(self, ledger: Ledger) -> None:
        """What a live job reads is kept however long it runs, and its checkpoints."""
        spec = job(inputs={"m": {"dla": "model", "model": "digits@1", "digest": DIGEST}})
        live = running(ledger, spec)
        roots = ledger.roots(younger_than_s=-60)
        assert roots.digests == {DIGEST: f"input of job {live.job}"}
        assert roots.checkpoints == {JobKey(dag="d", run="r", task="train").id}
