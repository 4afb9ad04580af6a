"""From the history to what is expected: the ledger's table of who will ask soon, and what a task should ask for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

from airflow_dla.allocation import Policy
from airflow_dla.allocation.forecast import Observed, Sized, Use, by_task, holds, learn, right_size, run_quantile, season
from airflow_dla.ledger import Ledger, PastRun, Snapshot
from airflow_dla.specs import ExitReason, Expected, JobSpec, Reason, Request

#: The request of an operator that leaves it to us.
AUTO: Final = "auto"
#: What the two sources are called in the ledger.
SCHEDULE: Final = "schedule"
SEASON: Final = "season"
#: How far ahead jobs are expected, and how far back runs are learnt from, s.
HORIZON_S: Final = 86_400.0
MEMORY_S: Final = 60 * 86_400.0
#: Attempts that are read: of one task, of one DAG, and of everybody.
_OF_TASK, _OF_DAG, _OF_ALL = 60, 300, 5000
#: Airflow names runs for when they were due: ``scheduled__2026-11-22T06:00:00+00:00``.
_DUE = re.compile(r"[a-z_]+__(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d:\d\d|Z)?)")


@dataclass(frozen=True, slots=True)
class ComingRun:
    """A run of a DAG that is due, or has begun.

    Parameters
    ----------
    dag, run : str
        Airflow's ids; of a run that does not exist yet, any name that tells it from others.
    due : float
        Seconds since the epoch.
    """

    dag: str
    run: str
    due: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected, by source.

    Parameters
    ----------
    schedule, season : tuple of `Expected`
        In order of time.
    """

    schedule: tuple[Expected, ...] = ()
    season: tuple[Expected, ...] = ()


def refresh(ledger: Ledger, policy: Policy, coming: Callable[[frozenset[str]], Iterable[ComingRun]]) -> Forecast:
    """Write what is expected into the ledger, and return it.

    Parameters
    ----------
    ledger : `Ledger`
    policy : `Policy`
        What waiting and idleness cost.
    coming : function
        Given DAGs, returns their runs that are due within the horizon, and those that have
        begun and are not over.
    """
    now = ledger.now()
    past = ledger.past_runs(since=now - MEMORY_S, limit=_OF_ALL)
    dags = frozenset(run.dag for run in past)
    runs = sorted(
        (run for run in coming(dags) if run.dag in dags and run.due <= now + HORIZON_S), key=lambda run: (run.dag, run.due, run.run)
    )
    found = [
        job for dag, due in groupby(runs, lambda run: run.dag) for job in _of_dag(_runs_of(ledger, dag, past, now), list(due), policy, now)
    ]
    schedule = tuple(sorted(found, key=lambda job: (job.at, job.id)))
    ledger.expect(SCHEDULE, schedule)
    seasonal = _unscheduled(past, policy, now)
    ledger.expect(SEASON, seasonal)
    return Forecast(schedule, seasonal)


def _unscheduled(past: Sequence[PastRun], policy: Policy, now: float) -> tuple[Expected, ...]:
    if not past:
        return ()
    # Where there were more than are read, what is read is complete only from its oldest on.
    since, seen = past[-1].created_at, [observed(run) for run in past]
    return season(seen, now, since=since, shortage=policy.shortage_cost, holding=policy.holding_cost)


def _runs_of(ledger: Ledger, dag: str, past: Sequence[PastRun], now: float) -> Sequence[PastRun]:
    """Return the past runs of a DAG; asked for where those of everybody were too many to be read."""
    if len(past) < _OF_ALL:
        return [run for run in past if run.dag == dag]
    return ledger.past_runs(since=now - MEMORY_S, dag=dag, limit=_OF_DAG)


def _of_dag(past: Sequence[PastRun], coming: Sequence[ComingRun], policy: Policy, now: float) -> Iterator[Expected]:
    """Return the jobs of a DAG's coming runs that have not asked yet."""
    jobs = Counter((run.run, run.task) for run in past if _first(run))
    for (_, task), seen in by_task(map(observed, past)).items():
        pattern = learn(seen, shortage=policy.shortage_cost, holding=policy.holding_cost)
        if pattern is not None:
            number = _usual([count for (_, of), count in jobs.items() if of == task])
            awaited = [(run, place) for run in coming for place in range(jobs[run.run, task], number)]
            expected = (pattern.expect(run.due, run.run, place) for run, place in awaited)
            yield from (job for job in expected if job.at + job.late_s >= now)


def _first(run: PastRun) -> bool:
    """Whether an attempt is its job's first: the ledger numbers them."""
    return run.attempt.endswith(".1")


def _usual(counts: Sequence[int]) -> int:
    """Return how many jobs a task has in a run: mapped tasks have several."""
    return sorted(counts)[len(counts) // 2] if counts else 1


def observed(run: PastRun) -> Observed:
    """Return a past run as the forecast sees it."""
    ended_well = run.exit is not None and run.exit.succeeded
    return Observed(
        dag=run.dag,
        task=run.task,
        due=due(run.run) if run.scheduled and _first(run) else None,
        asked_at=run.created_at,
        run_s=_held_s(run) if ended_well else None,
        amounts={} if run.grant is None else run.grant.amounts,
        team=run.team,
        priority=run.priority,
        place=run.place,
        gpu_type=run.request.gpu_type,
        scheduled=run.scheduled,
    )


def _held_s(run: PastRun) -> float | None:
    """Return how long a run held its grant, its launch included."""
    return None if run.granted_at is None or run.ended_at is None else max(run.ended_at - run.granted_at, 1e-3)


def due(run: str) -> float | None:
    """Return when a run was due by its name, seconds since the epoch; None when the name does not say.

    Examples
    --------
    >>> due("scheduled__1970-01-01T06:00:00+00:00"), due("my run")
    (21600.0, None)
    """
    found = _DUE.match(run)
    if found is None:
        return None
    when = datetime.fromisoformat(found[1])
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def foresee(snapshot: Snapshot, policy: Policy) -> Policy:
    """Let a policy hold room for what a round expects."""
    if not snapshot.expected:
        return policy
    kept = holds(snapshot.expected, snapshot.now, shortage=policy.shortage_cost, holding=policy.holding_cost)
    return replace(policy, holds=kept)


def given_up_at(policy: Policy, waiting: Mapping[str, Reason], now: float) -> float | None:
    """Return when the next of those is given up that keep others waiting: then they may start; None when nobody waits for that."""
    if not any(reason.binding == "expected" for reason in waiting.values()):
        return None
    # A moment later: at the very time it may still come.
    return min((hold.until + 1.0 for hold in policy.holds if hold.until + 1.0 > now), default=None)


def foretold(ledger: Ledger, spec: JobSpec) -> tuple[JobSpec, tuple[str, ...]]:
    """Return a job with how long it is expected to run, and with its request where that was left to us.

    Reads the earlier runs of its task once.

    Returns
    -------
    spec : `JobSpec`
    why : tuple of str
        What was chosen and why, a sentence each; empty where nothing was left to choose.
    """
    found = ledger.past_runs(since=ledger.now() - MEMORY_S, dag=spec.key.dag, task=spec.key.task, limit=_OF_TASK)
    past = [run for run in found if run.exit is not None]
    runs = [seconds for run in past if run.exit is not None and run.exit.succeeded and (seconds := _held_s(run))]
    expected_s = run_quantile(runs, 0.5) if runs and spec.expected_s is None else spec.expected_s
    foreseen = replace(spec, expected_s=expected_s)
    if spec.lineage.get("request") != AUTO:
        return foreseen, ()
    sized = _sized(ledger, past, spec.request)
    return replace(foreseen, request=sized.request), sized.why or ("nothing is known of earlier runs: it asks for the default",)


def _sized(ledger: Ledger, past: Sequence[PastRun], base: Request) -> Sized:
    nodes = [row.node for row in ledger.nodes()]
    largest = {resource: max(node.capacity.get(resource, 0.0) for node in nodes) for node in nodes for resource in node.capacity}
    return right_size([use for run in past if (use := _use(run)) is not None], base, largest)


def _use(run: PastRun) -> Use | None:
    """Return what a run used; None where it says nothing of what the next one needs."""
    if run.exit is None or run.exit.reason not in {ExitReason.SUCCEEDED, ExitReason.OUT_OF_MEMORY}:
        return None
    peaks, seconds = run.exit.peaks, run.run_s
    granted: Mapping[str, Any] = {} if run.grant is None else run.grant.amounts
    cpu = peaks["cpu_s"] / seconds if seconds and peaks.get("cpu_s") else None
    return Use(peaks.get("memory") or None, cpu, granted, run.exit.reason is ExitReason.OUT_OF_MEMORY)
