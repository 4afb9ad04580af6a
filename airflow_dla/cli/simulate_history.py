"""``airflow dla simulate --history``: what would have become of our own jobs with other capacity, or another strategy."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from airflow_dla.allocation import Policy, team_share
from airflow_dla.allocation.simulation.acting import grown
from airflow_dla.allocation.simulation.measures import Measures, measure
from airflow_dla.allocation.simulation.replay import Course, Replayed, ReplayJob, Stay, replay
from airflow_dla.allocation.simulation.rounds import round_of
from airflow_dla.cli.answer import Answer, table
from airflow_dla.cli.learnt import Ran, expected_runs
from airflow_dla.cli.plots import Chart, Line, write_plot
from airflow_dla.cli.reach import Reach
from airflow_dla.errors import InvalidSpec
from airflow_dla.ledger import PastRun
from airflow_dla.specs import Demand, Node, TeamSpec

_HOUR: Final = 3600.0
_HEADER: Final = ("", "TEAM", "JOBS", "MEAN WAIT", "P95 WAIT", "GPU-H", "IN USE", "BELOW GUARANTEE")
_LIMIT: Final = 100_000


def simulate_history(args: Namespace) -> Answer:
    """Replay the ledger's past runs as they were decided, and as they would be.

    Raises
    ------
    InvalidSpec
        If there is nothing to replay, or what shall be added no node has.
    """
    reach = Reach(args.conn_id)
    ledger = reach.ledger
    since = ledger.now() - args.since
    runs = [run for run in ledger.past_runs(since=since, limit=_LIMIT) if run.granted_at is not None and run.ended_at is not None]
    if not runs:
        raise InvalidSpec(
            f"the ledger knows no job that was asked for in the last {args.since / 86_400:g} days and has ended; name more with --since"
        )
    nodes, jobs = tuple(row.node for row in ledger.nodes()), read_jobs(runs)
    own = with_teams(reach.settings.policy, ledger.teams())
    other = replace(own, strategy=args.strategy) if args.strategy else own
    found = {
        "happened": _happened(runs, jobs, nodes),
        "replayed": replay(jobs, nodes, round_of(own), restart_s=args.restart_s),
        "changed": replay(jobs, added(nodes, args.add), round_of(other), restart_s=args.restart_s),
    }
    guarantees = {team.name: team.guaranteed for team in own.teams}
    measures = {name: measure(replayed, guarantees) for name, replayed in found.items()}
    if args.plot:
        write_plot(args.plot, charts(measures, since=found["happened"].began))
    document = {
        "since": since,
        "jobs": len(jobs),
        "strategy": other.strategy,
        "added": args.add or {},
        "assumptions": _assumptions(args),
        **{name: plain(one) for name, one in measures.items()},
    }
    return Answer(document, f"{compared(measures)}\n\n" + "\n".join(f"- {line}" for line in _assumptions(args)))


def read_jobs(runs: Sequence[PastRun]) -> list[ReplayJob]:
    """Turn past runs into jobs, each with what a round would have been told to expect of it."""
    ran = [Ran(f"{run.dag}.{run.task}", run.created_at, run.ended_at or 0.0, _held_s(run)) for run in runs]
    return [_job(run, expected) for run, expected in zip(runs, expected_runs(ran), strict=True)]


def _job(run: PastRun, expected_s: float | None) -> ReplayJob:
    demand = Demand(id=run.attempt, request=run.request, team=run.team, priority=run.priority, created_at=run.created_at, run_s=expected_s)
    return ReplayJob(demand=demand, run_s=_held_s(run))


def _held_s(run: PastRun) -> float:
    return max(1.0, (run.ended_at or 0.0) - (run.granted_at or 0.0))


def with_teams(policy: Policy, teams: Sequence[TeamSpec]) -> Policy:
    """Return a policy that keeps what the ledger knows of teams."""
    shares = tuple(team_share(team) for team in teams)
    return replace(
        policy, teams=policy.teams or shares, quotas={**policy.quotas, **{team.name: team.quota for team in teams if team.quota}}
    )


def added(nodes: Sequence[Node], more: Mapping[str, float] | None) -> tuple[Node, ...]:
    """Return nodes of which one, that has most of it, has more of each resource.

    Raises
    ------
    InvalidSpec
        If no node has any of it.
    """
    changed = {node.name: node for node in nodes}
    for resource, amount in (more or {}).items():
        best = max(changed.values(), key=lambda node: (node.capacity.get(resource, 0.0), node.name), default=None)
        if best is None or not best.capacity.get(resource, 0.0):
            raise InvalidSpec(f"--add {resource}={amount:g}: no node has any {resource}; name what nodes have")
        changed[best.name] = grown(best, {resource: amount})
    return tuple(changed.values())


def _happened(runs: Sequence[PastRun], jobs: Sequence[ReplayJob], nodes: tuple[Node, ...]) -> Replayed:
    courses = [_course(run, job) for run, job in zip(runs, jobs, strict=True)]
    courses.sort(key=lambda course: (course.asked_at, course.job.demand.id))
    over = max(run.ended_at or 0.0 for run in runs)
    return Replayed(nodes=nodes, courses=tuple(courses), began=courses[0].asked_at, over=over, rounds=0)


def _course(run: PastRun, job: ReplayJob) -> Course:
    assert run.granted_at is not None, "only runs that were granted are replayed"
    assert run.ended_at is not None, "only runs that have ended are replayed"
    stay = () if run.grant is None else (Stay(grant=run.grant, since=run.granted_at, until=run.ended_at),)
    return Course(job=job, stays=stay, ended_at=run.ended_at)


def plain(found: Measures) -> dict[str, Any]:
    """Write measures as JSON values."""
    return {"utilisation": found.utilisation, "all": asdict(found.all), "teams": [asdict(team) for team in found.teams]}


def compared(measures: Mapping[str, Measures]) -> str:
    """Write measures of several replays side by side, all teams first."""
    rows = []
    for name, found in measures.items():
        for team in (found.all, *found.teams):
            whole = not team.team
            rows.append(
                (
                    name if whole else "",
                    team.team or "all",
                    team.jobs,
                    f"{team.wait_mean_s / 60:.1f} min",
                    f"{team.wait_p95_s / 60:.1f} min",
                    f"{team.useful_gpu_hours:.1f}",
                    f"{found.utilisation:.1%}" if whole else None,
                    f"{team.longest_below_s / 60:.0f} min" if team.below_s else None,
                )
            )
    return table(_HEADER, rows)


def charts(measures: Mapping[str, Measures], *, since: float) -> tuple[Chart, ...]:
    """Return what was in use and who waited, over time."""

    def lines(part: str) -> tuple[Line, ...]:
        return tuple(Line(name, [((at - since) / _HOUR, value) for at, value in getattr(one, part)]) for name, one in measures.items())

    return (
        Chart("GPUs in use", "hours", "GPUs", lines("in_use"), steps=True),
        Chart("Jobs waiting", "hours", "jobs", lines("waiting"), steps=True),
    )


def _assumptions(args: Namespace) -> list[str]:
    return [
        "jobs ask when they asked, however late the jobs before them end",
        "a job takes as long as it took, whatever it is granted of a range",
        f"starting a preempted job again costs {args.restart_s:g} s; attempts that were preempted count as jobs of their own",
        "nodes are those of today, for all of the time",
        "jobs that have not ended, or were never granted, are left out",
    ]
