"""From past runs to what is expected, and to what a job asks for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from fakes.history_ledger import HistoryLedger
from fixtures_workspace import job_spec

from airflow_dla.allocation import Policy
from airflow_dla.control import AUTO, ComingRun, decide, foretold, refresh
from airflow_dla.control.forecast import due
from airflow_dla.ledger import PastRun, Snapshot
from airflow_dla.specs import Demand, Exit, ExitReason, Expected, Grant, JobSpec, Node, Request

DAY, HOUR = 86_400.0, 3600.0
NOW = 40 * DAY
SUCCEEDED = Exit(reason=ExitReason.SUCCEEDED, peaks={"memory": 2.0, "cpu_s": 300.0})
KILLED = Exit(reason=ExitReason.OUT_OF_MEMORY, peaks={"memory": 3.9})
NODES = [Node(name="n", capacity={"cpu": 16.0, "memory": 12.0})]


def written(seconds: float) -> str:
    """Return a time as Airflow writes it into the names of runs."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def past(day: int, *, hour: float = 6, task: str = "t", job: str = "", number: int = 1, **more: Any) -> PastRun:
    """Return a run of a day that was due at an hour and asked a minute later."""
    at = day * DAY + hour * HOUR
    fields: dict[str, Any] = {
        "attempt": f"{job or f'{task}{day}'}.{number}",
        "dag": "d",
        "run": f"scheduled__{written(at)}",
        "task": task,
        "agent": "a",
        "verb": "train",
        "team": "default",
        "priority": 5,
        "scheduled": True,
        "request": Request.from_mapping({"cpu": 2, "memory": "4GiB"}),
        "created_at": at + 60,
        "granted_at": at + 90,
        "running_at": at + 100,
        "ended_at": at + 700,
        "grant": Grant(id="g", node="n", amounts={"cpu": 2.0, "memory": 4.0}),
        "exit": SUCCEEDED,
    }
    return PastRun(**{**fields, **more})


MONTH = [past(day) for day in range(10, 40)]


def coming(*runs: ComingRun) -> Any:
    """Return what asks Airflow for runs."""

    def ask(dags: Iterable[str]) -> tuple[ComingRun, ...]:
        assert set(dags) <= {"d"}
        return runs

    return ask


def next_run(at: float = NOW + 6 * HOUR) -> ComingRun:
    """Return a run that is due."""
    return ComingRun("d", f"scheduled__{written(at)}", at)


def test_next_runs_are_expected_as_the_last_ones_were() -> None:
    """A minute after they are due, for as long as the grant is held, and in the ledger."""
    ledger = HistoryLedger(NOW, MONTH)
    forecast = refresh(ledger, Policy(), coming(next_run()))
    (job,) = forecast.schedule
    assert job.at == pytest.approx(NOW + 6 * HOUR + 60, abs=2)
    assert job.run_s == pytest.approx(610.0)
    assert (job.dag, job.task, job.priority, dict(job.amounts)) == ("d", "t", 5, {"cpu": 2.0, "memory": 4.0})
    assert ledger.expected == {"schedule": (job,), "season": ()}


def test_a_job_that_asked_is_expected_no_more_but_those_after_it_are() -> None:
    """Of a run under way, with two tasks, one has come."""
    under_way = ComingRun("d", past(39).run, NOW - DAY + 6 * HOUR)
    slow = [past(day, task="u", created_at=day * DAY + 29 * HOUR, ended_at=day * DAY + 30 * HOUR) for day in range(20, 38)]
    ledger = HistoryLedger(NOW, [*MONTH, *slow])
    assert [job.task for job in refresh(ledger, Policy(), coming(under_way)).schedule] == ["u"]


def test_of_a_mapped_task_as_many_are_expected_as_usually_come() -> None:
    """Three in most runs; retries are no jobs of their own."""
    jobs = [past(day, job=f"{place}of{day}") for day in range(10, 40) for place in range(3)]
    retries = [past(day, job=f"0of{day}", number=2) for day in range(10, 40)]
    ledger = HistoryLedger(NOW, [*jobs, *retries])
    assert len({job.id for job in refresh(ledger, Policy(), coming(next_run())).schedule}) == 3


@pytest.mark.parametrize("run", [next_run(NOW + 2 * DAY), next_run(NOW - 5 * HOUR), ComingRun("other", "r", NOW)])
def test_nobody_is_expected_of_runs_that_are_far_off_long_past_or_not_ours(run: ComingRun) -> None:
    """And what was expected before is so no more."""
    ledger = HistoryLedger(NOW, MONTH)
    refresh(ledger, Policy(), coming(next_run()))
    assert refresh(ledger, Policy(), coming(run)).schedule == ()
    assert ledger.expected["schedule"] == ()


def test_a_ledger_without_a_past_expects_nobody() -> None:
    """The first day."""
    assert refresh(HistoryLedger(NOW), Policy(), coming()).schedule == ()


def test_when_runs_were_due_is_read_from_their_names() -> None:
    """As Airflow writes them; a name of one's own says nothing."""
    assert due("scheduled__2026-11-22T06:00:00+00:00") == datetime(2026, 11, 22, 6, tzinfo=UTC).timestamp()
    assert due("manual__2026-11-22T06:00:00.5+00:00_abc") == datetime(2026, 11, 22, 6, 0, 0, 500_000, tzinfo=UTC).timestamp()
    assert due("backfill of May") is None


def auto(**more: Any) -> JobSpec:
    """Return a job that leaves its request to us."""
    return job_spec(lineage={"request": AUTO}, request={"cpu": 1, "memory": "4GiB"}, **more)


def test_a_request_is_learnt_with_the_run_time() -> None:
    """From one read of the task's past, with the reasons."""
    spec, why = foretold(HistoryLedger(NOW, MONTH, NODES), auto())
    assert spec.expected_s == pytest.approx(610.0)
    assert spec.request.amounts["memory"].wanted == pytest.approx(2.3125)
    assert spec.request.amounts["cpu"].minimum == pytest.approx(0.6)
    assert len(why) == 2


def test_an_explicit_request_stays_and_the_run_time_is_learnt() -> None:
    """And nothing is said."""
    asked = job_spec()
    spec, why = foretold(HistoryLedger(NOW, MONTH, NODES), asked)
    assert (spec.request, why) == (asked.request, ())
    assert spec.expected_s == pytest.approx(610.0)


def test_a_first_run_asks_for_the_default_and_says_so() -> None:
    """How long it runs nobody knows."""
    asked = auto()
    spec, why = foretold(HistoryLedger(NOW, (), NODES), asked)
    assert spec == asked
    assert why == ("nothing is known of earlier runs: it asks for the default",)


def test_after_an_out_of_memory_kill_twice_as_much_is_asked_for() -> None:
    """Of what the last attempt had; and again, up to the largest node."""
    once = past(40, hour=-5, exit=KILLED)
    spec, why = foretold(HistoryLedger(NOW, [*MONTH, once], NODES), auto())
    assert spec.request.amounts["memory"].wanted == 8.0
    assert "killed for memory" in why[0]
    twice = past(40, hour=-4, exit=KILLED, grant=Grant(id="g", node="n", amounts={"memory": 8.0}))
    spec, why = foretold(HistoryLedger(NOW, [*MONTH, once, twice], NODES), auto())
    assert spec.request.amounts["memory"].wanted == 12.0
    assert "bounded by the largest node" in why[0]


def test_a_run_that_failed_by_itself_says_nothing() -> None:
    """Neither of its memory nor of its time."""
    failed = past(40, hour=-5, exit=Exit(reason=ExitReason.USER_ERROR, peaks={"memory": 11.0}), ended_at=NOW)
    assert foretold(HistoryLedger(NOW, [*MONTH, failed], NODES), auto()) == foretold(HistoryLedger(NOW, MONTH, NODES), auto())


def test_a_round_keeps_room_for_who_is_expected_and_comes_again_when_he_is_given_up() -> None:
    """Time alone lets the one who waits start."""
    expected = Expected(id="e", amounts={"cpu": 16.0}, at=NOW + 60, late_s=120.0, run_s=600.0, dag="d", task="t", priority=5)
    waits = Demand(id="w", request=Request.from_mapping({"cpu": 4}), run_s=HOUR)
    snapshot = Snapshot(now=NOW, nodes=tuple(NODES), pending=(waits,), expected=(expected,))
    decision = decide(snapshot, Policy())
    assert decision.reasons["w"].binding == "expected"
    assert decision.again_at == NOW + 181
    assert decide(Snapshot(now=NOW + 181, nodes=tuple(NODES), pending=(waits,), expected=(expected,)), Policy()).grants
    nobody = decide(Snapshot(now=NOW, nodes=tuple(NODES), pending=(waits,)), Policy())
    assert (list(nobody.grants), nobody.again_at) == (["w"], None)
