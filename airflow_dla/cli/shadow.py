"""``airflow dla shadow``: what our rounds would have made of an Airflow's own history. Nothing is changed."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.configuration import conf

from airflow_dla.allocation import never_grantable
from airflow_dla.allocation.simulation.measures import measure
from airflow_dla.allocation.simulation.replay import Course, Replayed, Stay, replay
from airflow_dla.allocation.simulation.rounds import round_of
from airflow_dla.cli.airflow_rest import AirflowRest
from airflow_dla.cli.answer import Answer, table
from airflow_dla.cli.documents import read_document
from airflow_dla.cli.kubernetes_files import read_nodes
from airflow_dla.cli.plots import write_plot
from airflow_dla.cli.running import command
from airflow_dla.cli.shadow_mapping import History, Seen, Shadow, read_history
from airflow_dla.cli.simulate_history import charts, compared, plain
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Grant, Node


@command
def run(args: Namespace) -> Answer:
    """Replay task instances under our rounds, and compare."""
    shadow = Shadow.from_mapping(read_document(args.mapping), args.mapping)
    nodes = _nodes(args, shadow)
    history = read_history(_saved(args.task_instances) if args.task_instances else _asked(args), shadow.rules)
    able, never = _sorted_out(history.seen, nodes)
    if not able:
        raise InvalidSpec(
            f"no task instance is left to replay: {history.unmatched} match no rule of {args.mapping}, {history.unfinished} have not ended,"
            f" {history.unasking} ask for nothing, {len(never)} are larger than every node"
        )
    found = {
        "happened": _happened(able, nodes),
        "ours": replay([seen.job for seen in able], nodes, round_of(shadow.policy), restart_s=shadow.restart_s, grace_s=shadow.grace_s),
    }
    guarantees = {team.name: team.guaranteed for team in shadow.policy.teams}
    # Both are measured over the same time: what happened has an end.
    measures = {name: measure(one, guarantees, until=found["happened"].over) for name, one in found.items()}
    if args.plot:
        write_plot(args.plot, charts(measures, since=found["happened"].began))
    reasons = _reasons(found["ours"].courses, found["happened"].over)
    assumptions = _assumptions(shadow, history)
    document = {
        "jobs": len(able),
        "left_out": {
            "unmatched": history.unmatched,
            "unfinished": history.unfinished,
            "asking_for_nothing": history.unasking,
            "larger_than_every_node": [{"job": name, "why": why} for name, why in never.items()],
        },
        **{name: plain(one) for name, one in measures.items()},
        "waited_for_s": reasons,
        "grants": [_course(course) for course in found["ours"].courses],
        "assumptions": assumptions,
    }
    why = table(("WAITED FOR", "JOB-HOURS"), [(name, f"{waited / 3600:.1f}") for name, waited in reasons.items()], empty="nobody waited")
    return Answer(document, "\n\n".join([compared(measures), why, "\n".join(f"- {line}" for line in assumptions)]))


def _nodes(args: Namespace, shadow: Shadow) -> tuple[Node, ...]:
    if args.nodes:
        return read_nodes(read_document(args.nodes), args.nodes, read_document(args.pods) if args.pods else None)
    if not shadow.nodes:
        raise InvalidSpec(f"{args.mapping} names no nodes; add nodes: [{{name: n1, capacity: {{gpu: 8, cpu: 96}}}}], or give --nodes FILE")
    return shadow.nodes


def _asked(args: Namespace) -> Iterator[Mapping[str, Any]]:
    url = args.url or conf.get("api", "base_url", fallback="") or "http://localhost:8080"
    since = (datetime.now(UTC) - timedelta(seconds=args.since)).isoformat()
    rest = AirflowRest(url, user=args.user)
    try:
        yield from rest.pages("/dags/~/dagRuns/~/taskInstances", "task_instances", start_date_gte=since, order_by="start_date")
    finally:
        rest.close()


def _saved(path: str) -> Iterable[Mapping[str, Any]]:
    raw = read_document(path)
    rows = raw.get("task_instances") if isinstance(raw, Mapping) else raw
    if not isinstance(rows, list):
        raise InvalidSpec(f"{path} must hold task instances as Airflow's REST API writes them: {{task_instances: [...]}}")
    return rows


def _sorted_out(seen: Iterable[Seen], nodes: tuple[Node, ...]) -> tuple[list[Seen], dict[str, str]]:
    able, never = [], {}
    for one in seen:
        reason = never_grantable(nodes, one.job.demand)
        if reason is None:
            able.append(one)
        else:
            never[one.job.demand.id] = reason.text
    return able, never


def _happened(seen: Iterable[Seen], nodes: tuple[Node, ...]) -> Replayed:
    courses = [_as_it_was(one) for one in seen]
    courses.sort(key=lambda course: (course.asked_at, course.job.demand.id))
    over = max(course.ended_at or 0.0 for course in courses)
    return Replayed(nodes=nodes, courses=tuple(courses), began=courses[0].asked_at, over=over, rounds=0)


def _as_it_was(seen: Seen) -> Course:
    wanted = {resource: found.wanted for resource, found in seen.job.demand.request.amounts.items()}
    grant = Grant(id=seen.job.demand.id, node="airflow", amounts=wanted)
    return Course(job=seen.job, stays=(Stay(grant=grant, since=seen.started_at, until=seen.ended_at),), ended_at=seen.ended_at)


def _reasons(courses: Iterable[Course], over: float) -> dict[str, float]:
    """Return how long jobs waited for what, longest first."""
    waited: dict[str, float] = {}
    for course in courses:
        until = over if course.granted_at is None else course.granted_at
        times = [at for at, _ in course.reasons if at < until]
        for (_, reason), since, to in zip(course.reasons, times, [*times[1:], until], strict=False):
            waited[reason.binding] = waited.get(reason.binding, 0.0) + max(0.0, to - since)
    return dict(sorted(waited.items(), key=lambda item: -item[1]))


def _course(course: Course) -> dict[str, Any]:
    return {
        "job": course.job.demand.id,
        "team": course.job.demand.team,
        "asked_at": course.asked_at,
        "granted_at": course.granted_at,
        "ended_at": course.ended_at,
        "preemptions": course.preemptions,
        "node": course.stays[0].grant.node if course.stays else None,
        "why": [{"at": at, "text": reason.text} for at, reason in course.reasons],
    }


def _assumptions(shadow: Shadow, history: History) -> list[str]:
    return [
        "useful GPU-hours are those in which a job made progress until the last task of the history ended; starting again is not useful",
        "a task is ready when its history says it was scheduled, however much earlier the tasks before it would have ended",
        "a task takes as long as it took, wherever it runs; a round expects the median of its last runs that had ended by then",
        "what tasks used is what the file says, not what was measured; nothing else runs on the nodes",
        f"starting a preempted task again costs {shadow.restart_s:g} s, stopping it {shadow.grace_s:g} s; the rest of its work is kept",
        f"left out: {history.unmatched} task instances match no rule, {history.unfinished} never ran, {history.unasking} ask for nothing",
    ]
