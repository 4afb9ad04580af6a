"""What every ledger does with grants that change while they are held, with teams, forecasts and what is past."""

from __future__ import annotations

from typing import Any

import pytest
from contracts.ledger import DONE, FAILED, demand, granted, job, node, refuse_all, run_round, running

from airflow_dla.errors import InvalidSpec, LedgerError, NotFound
from airflow_dla.ledger import Attempt, Decision, Ledger, Round, TeamChange
from airflow_dla.specs import Account, AttemptState, Exit, ExitReason, Expected, Grant, Request, TeamSpec


def resize(id_: str, cpu: float, **more: Any) -> Grant:
    """Return a grant on the only node with so many CPUs."""
    return Grant(id=id_, node="n", amounts={"cpu": cpu}, **more)


def tell(ledger: Ledger, target: Grant) -> None:
    """Let a round write one target."""
    run_round(ledger, lambda _: Decision(targets={target.id: target}), force=True)


def target_of(ledger: Ledger, id_: str) -> Grant | None:
    """Return what a holder was told."""
    return next(lease.target for lease in ledger.leases() if lease.grant.id == id_)


def soon(id_: str, at: float, **more: Any) -> Expected:
    """Return a job that is expected at a time."""
    return Expected(id=id_, amounts={"cpu": 1.0}, at=at, run_s=60.0, **more)


def later(ledger: Ledger, attempt: Attempt) -> Attempt:
    """Return an attempt when the clock, which may count in milliseconds, shows another time."""
    while ledger.now() <= attempt.created_at:
        pass
    return attempt


class AdjustmentContract:
    """The suite; a subclass somewhere provides the fixture `ledger`."""

    # Targets

    def test_shrink_frees_nothing_before_it_is_confirmed(self, ledger: Ledger) -> None:
        """The holder is told, applies, confirms; only then is the rest granted to another."""
        held = running(ledger, job(cpu="1-4"))
        tell(ledger, resize(held.id, 4))
        ledger.resized(held.id, target=resize(held.id, 4), applied=True)
        waiting = ledger.open_attempt(job("waits", cpu=2))
        less = resize(held.id, 2, reason="for another")
        run_round(ledger, lambda _: Decision(targets={held.id: less}))
        assert target_of(ledger, held.id) == less
        found = ledger.attempts([held.id])[held.id]
        assert found.lease is not None
        assert found.lease.target == less
        assert [grant.amounts for grant in ledger.snapshot().live] == [{"cpu": 4}]
        with pytest.raises(LedgerError, match="has 4 cpu, 6 would be granted"):
            run_round(ledger, lambda _: Decision(grants={waiting.id: resize(waiting.id, 2)}), force=True)
        ledger.resized(held.id, target=less, applied=True)
        assert run_round(ledger).granted == (waiting.id,)
        after = ledger.attempts([held.id])[held.id]
        assert after.grant == less
        assert after.lease is not None
        assert (after.lease.grant, after.lease.target) == (less, None)

    def test_growth_is_charged_at_once(self, ledger: Ledger) -> None:
        """What is promised to one is not granted to another before it is confirmed; confirming frees nothing."""
        held = running(ledger, job(cpu="1-4"))
        tell(ledger, resize(held.id, 2))
        ledger.resized(held.id, target=resize(held.id, 2), applied=True)
        run_round(ledger, lambda _: Decision(), force=True)
        more = resize(held.id, 4)
        tell(ledger, more)
        ledger.open_attempt(job("other", cpu=2))
        assert run_round(ledger).granted == ()
        ledger.resized(held.id, target=more, applied=True)
        assert run_round(ledger, refuse_all).skipped
        assert ledger.attempts([held.id])[held.id].grant == more

    def test_growth_needs_room(self, ledger: Ledger) -> None:
        """A target past what the node has left is refused, and so is one on a node that was taken out."""
        held = running(ledger, job(cpu=1))
        running(ledger, job("other", cpu=2))
        with pytest.raises(LedgerError, match="has 4 cpu, 5 would be granted"):
            tell(ledger, resize(held.id, 3))
        ledger.remove_node("n")
        with pytest.raises(LedgerError, match="'n' would grow"):
            tell(ledger, resize(held.id, 2))
        tell(ledger, resize(held.id, 0.5))
        assert target_of(ledger, held.id) == resize(held.id, 0.5)

    def test_refused_resize_makes_a_grant_rigid(self, ledger: Ledger) -> None:
        """What the runtime cannot change stays, is said so, and the next round looks for another way."""
        held = running(ledger)
        tell(ledger, resize(held.id, 2))
        ledger.resized(held.id, target=resize(held.id, 2), applied=False)
        (found,) = ledger.snapshot().held
        assert (found.grant, found.target, found.rigid) == (held.grant, None, True)
        assert not run_round(ledger, lambda _: Decision()).skipped

    def test_answer_to_an_old_target(self, ledger: Ledger) -> None:
        """Only the target that is in force can be confirmed; an unknown grant or a second confirmation changes nothing."""
        held = running(ledger)
        tell(ledger, resize(held.id, 2))
        tell(ledger, resize(held.id, 3))
        for target in (resize(held.id, 2), resize("nobody.1", 2)):
            ledger.resized(target.id, target=target, applied=True)
        assert target_of(ledger, held.id) == resize(held.id, 3)
        assert ledger.attempts([held.id])[held.id].grant == held.grant
        for _ in range(2):
            ledger.resized(held.id, target=resize(held.id, 3), applied=True)
        assert len(ledger.history(kind="grant.resized")) == 1

    def test_target_survives_a_launch(self, ledger: Ledger) -> None:
        """A target written before the launch is still there after it."""
        held = granted(ledger)
        tell(ledger, resize(held.id, 2))
        ledger.begin_launch(held.id, holder="h", lease_s=60)
        found = ledger.record_launch(held.id, {"pid": 1})
        assert found.lease is not None
        assert found.lease.target == resize(held.id, 2)

    def test_target_is_told_once(self, ledger: Ledger) -> None:
        """The same target again, or what is held already, leaves no line in the history."""
        held = running(ledger)
        assert held.grant is not None
        tell(ledger, held.grant)
        assert target_of(ledger, held.id) is None
        for _ in range(2):
            tell(ledger, resize(held.id, 2, reason="room"))
        (event,) = ledger.history(kind="grant.target")
        assert event.subject == held.id
        assert event.data == {"node": "n", "before": {"cpu": 1}, "after": {"cpu": 2}, "reason": "room"}

    def test_promise_cannot_be_unsaid(self, ledger: Ledger) -> None:
        """A growth that its holder may have taken is lowered only after it was confirmed; a shrink may be called off."""
        held = running(ledger, job(cpu=2))
        tell(ledger, resize(held.id, 4))
        with pytest.raises(LedgerError, match="promised 4 cpu, which its holder may have taken"):
            tell(ledger, resize(held.id, 2))
        ledger.resized(held.id, target=resize(held.id, 4), applied=True)
        tell(ledger, resize(held.id, 2))
        tell(ledger, resize(held.id, 4))
        assert target_of(ledger, held.id) == resize(held.id, 4)

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (resize("nobody.1", 1), "of no grant that is held"),
            (Grant(id="", node="m", amounts={"cpu": 1}), "change its node from 'n' to 'm'"),
            (Grant(id="", node="n", amounts={"cpu": 1}, gpu_ids=("0",)), "change its GPUs from"),
            (Grant(id="", node="n", amounts={"cpu": 1, "gpu": 1}), "change its gpu from"),
        ],
    )
    def test_targets_that_are_refused(self, ledger: Ledger, target: Grant, message: str) -> None:
        """A grant stays where it is with its GPUs; nothing else of the decision is written either."""
        held = running(ledger)
        wanted = target if target.id else Grant(id=held.id, node=target.node, amounts=target.amounts, gpu_ids=target.gpu_ids)
        ledger.request(demand("x"))
        with pytest.raises(LedgerError, match=message):
            run_round(ledger, lambda _: Decision(grants={"x": resize("x", 1)}, targets={wanted.id: wanted}))
        assert ledger.answer("x") is None

    def test_stopping_grant_is_not_changed(self, ledger: Ledger) -> None:
        """What is about to end is said so in the snapshot and gets no target."""
        held = running(ledger)
        ledger.want_stop(held.id, ExitReason.STOPPED)
        assert ledger.snapshot().held[0].stopping
        with pytest.raises(LedgerError, match="its end is wanted"):
            tell(ledger, resize(held.id, 2))

    def test_when_is_the_next_round(self, ledger: Ledger) -> None:
        """A round may say when the next one is due by time alone; one that does not takes it back."""
        running(ledger)
        now = ledger.now()
        run_round(ledger, lambda _: Decision(again_at=now - 1), force=True)
        assert not run_round(ledger, lambda _: Decision(again_at=now + 3600)).skipped
        assert run_round(ledger, refuse_all).skipped
        with pytest.raises(LedgerError, match="which is no time"):
            run_round(ledger, lambda _: Decision(again_at=float("nan")), force=True)
        run_round(ledger, lambda _: Decision(again_at=now - 1), force=True)
        run_round(ledger, lambda _: Decision())
        assert run_round(ledger, refuse_all).skipped

    def test_what_is_held_may_change_though_nobody_waits(self, ledger: Ledger) -> None:
        """Freed room makes a round due for those that could grow; with nothing held or waiting there is nothing to decide."""
        first, second = running(ledger, job("a")), running(ledger, job("b"))
        ledger.finish(first.id, DONE)
        assert not run_round(ledger, lambda _: Decision()).skipped
        ledger.finish(second.id, DONE)
        assert run_round(ledger, refuse_all) == Round(skipped=True)

    # Preemption

    def preempted(self, ledger: Ledger, attempt: Attempt, why: str = "for train") -> Attempt:
        """Let a round preempt an attempt."""
        run_round(ledger, lambda _: Decision(preempted={attempt.id: why}), force=True)
        return ledger.attempts([attempt.id])[attempt.id]

    def test_running_job_is_told_to_stop(self, ledger: Ledger) -> None:
        """Its stop is wanted, with the reason why; it is charged until it has ended."""
        held = running(ledger, job(cpu=4, policy={"preemptible": True}))
        assert ledger.snapshot().held[0].demand.preemptible
        found = self.preempted(ledger, held)
        assert (found.state, found.stop, found.stop_why) == (AttemptState.RUNNING, ExitReason.PREEMPTED, "for train")
        assert ledger.snapshot().held[0].stopping
        waiting = ledger.open_attempt(job("other"))
        assert run_round(ledger).granted == ()
        assert self.preempted(ledger, held, "for another").stop_why == "for train"
        ledger.finish(held.id, Exit(reason=ExitReason.PREEMPTED))
        assert run_round(ledger).granted == (waiting.id,)

    def test_job_that_was_not_launched_is_preempted_at_once(self, ledger: Ledger) -> None:
        """It ends by a word, and what it held is free for the next round."""
        ended = self.preempted(ledger, granted(ledger, job(cpu=4)))
        assert ended.exit is not None
        assert ended.exit.reason is ExitReason.PREEMPTED
        assert "for train" in ended.exit.message
        assert ledger.leases() == ()
        waiting = ledger.open_attempt(job("other", cpu=4))
        assert run_round(ledger).granted == (waiting.id,)

    def test_what_cannot_be_preempted(self, ledger: Ledger) -> None:
        """A grant without a job has nobody to stop it; one that waits has nothing to give; a target and a stop exclude each other."""
        held, waiting = running(ledger), ledger.open_attempt(job("big", cpu=99))
        ledger.request(demand("bare"))
        run_round(ledger)
        for decision, message in (
            (Decision(preempted={"bare": "w"}), "belongs to no job"),
            (Decision(preempted={waiting.id: "w"}), "is not held"),
            (Decision(preempted={held.id: "w"}, targets={held.id: resize(held.id, 2)}), "preempted and changed"),
        ):
            with pytest.raises(LedgerError, match=message):
                run_round(ledger, lambda _, decided=decision: decided, force=True)
        with pytest.raises(InvalidSpec, match="'y' must not be preemptible"):
            ledger.request(demand("y", preemptible=True))

    # Priorities

    @pytest.mark.parametrize("started", [False, True])
    def test_priority_of_a_live_job(self, ledger: Ledger, *, started: bool) -> None:
        """It changes where rounds see it and in the spec that the next attempt is made from; the change is kept."""
        ledger.register_node(node())
        attempt = running(ledger) if started else ledger.open_attempt(job(cpu=99))
        run_round(ledger)
        changed = ledger.set_priority(attempt.job, 7, by="me")
        assert changed.spec.policy.priority == 7
        seen = ledger.snapshot()
        assert [*[held.demand.priority for held in seen.held], *[waiting.priority for waiting in seen.pending]] == [7]
        assert not run_round(ledger, lambda _: Decision()).skipped
        assert ledger.set_priority(attempt.job, 7, by="me") == changed
        assert run_round(ledger, refuse_all).skipped
        (event,) = ledger.history(kind="attempt.priority")
        assert event.data == {"old": 0, "new": 7, "by": "me"}

    def test_priority_of_what_does_not_live(self, ledger: Ledger) -> None:
        """A job that ended, or never was, has no priority to change."""
        done = running(ledger)
        ledger.finish(done.id, FAILED)
        for unknown, message in ((done.job, "has ended"), ("nobody", "never ran")):
            with pytest.raises(NotFound, match=message):
                ledger.set_priority(unknown, 1, by="me")

    # Teams

    def test_teams_are_replaced(self, ledger: Ledger) -> None:
        """Every difference is told by team and field, and kept; the default team stays."""
        vision = TeamSpec(name="vision", weight=2.0)
        came = ledger.apply_teams([vision, TeamSpec(name="text")], by="me")
        assert came == (
            TeamChange("text", "", None, {"name": "text"}),
            TeamChange("vision", "", None, {"name": "vision", "weight": 2.0}),
        )
        more = TeamSpec(name="vision", guaranteed={"gpu": 4.0}, dags=("v*",))
        planned = ledger.apply_teams([more], by="me", dry_run=True)
        assert [team.name for team in ledger.teams()] == ["default", "text", "vision"]
        assert ledger.apply_teams([more], by="me") == planned
        assert planned == (
            TeamChange("text", "", {"name": "text"}, None),
            TeamChange("vision", "weight", 2.0, 1.0),
            TeamChange("vision", "guaranteed", {}, {"gpu": 4.0}),
            TeamChange("vision", "dags", (), ("v*",)),
        )
        assert ledger.teams() == (TeamSpec(name="default"), more)
        events = ledger.history(kind="team.changed")
        assert [event.subject for event in events] == ["vision", "text", "vision", "text"]
        assert events[0].data["by"] == "me"
        assert events[0].data["changes"][0] == {"field": "weight", "old": 2.0, "new": 1.0}

    def test_teams_make_a_round_due_when_they_change(self, ledger: Ledger) -> None:
        """The snapshot has them; the same again is no reason to decide anew."""
        running(ledger)
        limited = TeamSpec(name="default", quota={"cpu": 2.0})
        ledger.apply_teams([limited], by="me")
        assert ledger.snapshot().teams == (limited,)
        assert not run_round(ledger, lambda snapshot: Decision(accounts=snapshot.accounts)).skipped
        assert ledger.apply_teams([], by="me") == ()
        assert ledger.apply_teams([limited], by="me") == ()
        assert run_round(ledger, refuse_all).skipped

    def test_team_named_twice(self, ledger: Ledger) -> None:
        """Names must differ."""
        with pytest.raises(InvalidSpec, match="'a' is there twice"):
            ledger.apply_teams([TeamSpec(name="a"), TeamSpec(name="a", weight=2.0)], by="me", dry_run=True)

    def test_accounts_are_kept(self, ledger: Ledger) -> None:
        """What a round writes the next one reads, also of a team that nobody described or that went."""
        running(ledger)
        written = tuple(Account(team=team, at=1.0, past_use={"cpu": 0.5}, tokens=3.0) for team in ("a", "nobody"))
        ledger.apply_teams([TeamSpec(name="a")], by="me")
        run_round(ledger, lambda _: Decision(accounts=written))
        ledger.apply_teams([], by="me")
        changed = Account(team="a", at=2.0)
        run_round(ledger, lambda snapshot: Decision(accounts=(changed, snapshot.accounts[1])))
        assert ledger.snapshot().accounts == (changed, written[1])

    # What is expected

    def test_expected_of_each_source(self, ledger: Ledger) -> None:
        """A source replaces its own and leaves those of others; the snapshot has them in order of time."""
        now = ledger.now()
        ledger.expect("schedule", [soon("b", now + 20), soon("a", now + 10)])
        ledger.expect("season", [soon("a", now + 15)])
        assert [(one.id, one.at) for one in ledger.snapshot().expected] == [("a", now + 10), ("a", now + 15), ("b", now + 20)]
        ledger.expect("schedule", [soon("b", now + 5)])
        assert [(one.id, one.at) for one in ledger.snapshot().expected] == [("b", now + 5), ("a", now + 15)]
        ledger.expect("season", [])
        assert ledger.snapshot().expected == (soon("b", now + 5),)

    def test_expected_no_more(self, ledger: Ledger) -> None:
        """What is late is expected until its lateness is over; then it is left out, and forgotten by the reaper."""
        now = ledger.now()
        late, over = soon("late", now - 10, late_s=60.0), soon("over", now + 0.01)
        ledger.expect("s", [late, over, soon("old", now - 1)])
        while ledger.now() <= over.at:
            pass
        assert ledger.snapshot().expected == (late,)
        ledger.claim_reaping(interval_s=0)
        ledger.expect("s", [late, over])
        assert ledger.snapshot().expected == (late,)

    def test_who_has_come_is_expected_no_more(self, ledger: Ledger) -> None:
        """Also when his job is over; another task's arrival, and next day's job, change nothing."""
        now, came = ledger.now(), job("t")
        task = {"dag": came.key.dag, "task": came.key.task, "late_s": 60.0}
        other = soon("other", now, **{**task, "task": "u"})
        tomorrow = soon("tomorrow", now + 86_400, **task)
        ledger.expect("s", [soon("today", now, **task), other, tomorrow])
        attempt = ledger.open_attempt(came)
        assert ledger.snapshot().expected == (other, tomorrow)
        ledger.want_stop(attempt.id, ExitReason.STOPPED)
        assert ledger.snapshot().expected == (other, tomorrow)

    def test_news_make_a_round_due(self, ledger: Ledger) -> None:
        """Only a change does."""
        running(ledger)
        jobs = [soon("a", ledger.now() + 60, dag="d", task="t")]
        run_round(ledger, lambda _: Decision())
        for wanted, due in ((jobs, True), (jobs, False), ([], True), ([], False)):
            ledger.expect("s", wanted)
            assert run_round(ledger, lambda _: Decision()).skipped is not due

    # What is past

    def test_past_run(self, ledger: Ledger) -> None:
        """A run is told with who asked for what, when, and what it used."""
        policy = {"team": "vision", "priority": 3}
        spec = job(cpu="1-2", verb="train", policy=policy, lineage={"run_type": "scheduled"})
        done = running(ledger, spec)
        end = Exit(reason=ExitReason.SUCCEEDED, peaks={"memory": 0.5})
        ended = ledger.finish(done.id, end)
        (run,) = ledger.past_runs()
        assert (run.attempt, run.dag, run.run, run.task) == (done.id, "d", "r", "train")
        assert (run.agent, run.verb, run.team, run.priority, run.scheduled) == ("digits", "train", "vision", 3, True)
        assert (run.request, run.grant, run.exit) == (Request.from_mapping({"cpu": "1-2"}), done.grant, end)
        assert (run.created_at, run.granted_at, run.running_at, run.ended_at) == (
            done.created_at, done.granted_at, done.running_at, ended.ended_at,
        )  # fmt: skip
        assert run.granted_at is not None
        assert run.ended_at is not None
        assert run.cpu_s == pytest.approx(2 * (run.ended_at - run.granted_at))
        assert run.gpu_s == 0

    def test_past_run_counts_resizes(self, ledger: Ledger) -> None:
        """Each amount counts for as long as it was held; a live grant until now."""
        held = running(ledger)
        for cpu in (4, 2):
            tell(ledger, resize(held.id, cpu))
            ledger.resized(held.id, target=resize(held.id, cpu), applied=True)
        steps = [event.at for event in reversed(ledger.history(kind="grant.resized"))]
        (run,) = ledger.past_runs()
        now = ledger.now()
        assert run.granted_at is not None
        told = steps[0] - run.granted_at + 4 * (steps[1] - steps[0])
        assert told <= run.cpu_s <= told + 2 * (now - steps[1])
        assert run.grant == resize(held.id, 2)
        ended = ledger.finish(held.id, DONE)
        assert ended.ended_at is not None
        assert ledger.past_runs()[0].cpu_s == pytest.approx(told + 2 * (ended.ended_at - steps[1]))

    def test_past_runs_that_are_looked_for(self, ledger: Ledger) -> None:
        """By time, dag, task and team, newest first; one that waits, or was asked for by hand, is among them."""
        ledger.register_node(node())
        first = later(ledger, ledger.open_attempt(job("a", policy={"team": "x"})))
        second = later(ledger, ledger.open_attempt(job("b", dag="e", lineage={"run_type": "manual"})))
        third = ledger.open_attempt(job("b"))
        found = {"dag": "d", "task": "b", "team": "x", "since": second.created_at}
        wanted = {"dag": [third, first], "task": [third, second], "team": [first], "since": [third, second]}
        for key, value in found.items():
            assert [run.attempt for run in ledger.past_runs(**{key: value})] == [one.id for one in wanted[key]]  # type: ignore[arg-type]
        assert [run.attempt for run in ledger.past_runs(limit=1)] == [third.id]
        waits = ledger.past_runs()[-1]
        assert (waits.granted_at, waits.grant, waits.exit, waits.cpu_s, waits.scheduled) == (None, None, None, 0.0, False)
