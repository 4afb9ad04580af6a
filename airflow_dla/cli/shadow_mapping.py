"""The file that says what an Airflow's tasks use, and its task instances as jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, Self

from airflow_dla.allocation import Policy, read_policy, read_team_shares
from airflow_dla.allocation.simulation.replay import ReplayJob
from airflow_dla.allocation.teams import TeamShare
from airflow_dla.cli.learnt import Ran, expected_runs
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Demand, Node, Range, Request
from airflow_dla.specs.values import boolean, identifier, integer, mapping, optional, refuse_unknown, seconds, sequence_of, text

_KEYS: Final = ("tasks", "teams", "policy", "nodes", "restart", "grace")
_MATCHED: Final = ("dag", "task", "pool", "operator")
_RULE: Final = (*_MATCHED, "request", "per_slot", "team", "priority", "preemptible")


@dataclass(frozen=True, slots=True)
class Rule:
    """What the task instances use that match patterns.

    Parameters
    ----------
    patterns : mapping of field to str
        Of `dag`, `task`, `pool` and `operator`, with ``*``.
    request : mapping
        What each asks for; empty: it asks for nothing of ours.
    per_slot : mapping of resource to float
        On top, for each of its pool slots.
    team : str
    priority : int or None
        None: the task's priority weight.
    preemptible : bool
    """

    patterns: Mapping[str, str]
    request: Mapping[str, Any] = field(default_factory=dict)
    per_slot: Mapping[str, Any] = field(default_factory=dict)
    team: str = "default"
    priority: int | None = None
    preemptible: bool = False

    @classmethod
    def from_mapping(cls, raw: object, where: str) -> Self:
        """Read one rule.

        Raises
        ------
        InvalidSpec
            On unknown keys and on amounts that cannot be read.
        """
        given = mapping(raw, where)
        refuse_unknown(given, list(_RULE), where)
        rule = cls(
            patterns={key: text(given[key], f"{where}.{key}") for key in _MATCHED if key in given},
            request=mapping(given.get("request") or {}, f"{where}.request"),
            per_slot=mapping(given.get("per_slot") or {}, f"{where}.per_slot"),
            team=identifier(given.get("team", "default"), f"{where}.team"),
            priority=optional(integer)(given.get("priority"), f"{where}.priority"),
            preemptible=boolean(given.get("preemptible", False), f"{where}.preemptible"),
        )
        if rule.request or rule.per_slot:
            rule.asks(1, where)
        return rule

    def asks(self, slots: int, where: str = "request") -> Request | None:
        """Return what an instance with so many pool slots asks for; None where it is nothing."""
        if not (self.request or self.per_slot):
            return None
        own = dict(Request.from_mapping(self.request, where).amounts) if self.request else {}
        for resource, found in (Request.from_mapping(self.per_slot, f"{where}.per_slot").amounts if self.per_slot else {}).items():
            base = own.get(resource, Range(0.0, 0.0))
            own[resource] = Range(base.minimum + found.minimum * slots, base.wanted + found.wanted * slots)
        return Request(own, gpu_type=self.request.get("gpu_type"))

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a task instance of the REST API is meant."""
        said = {"dag": row.get("dag_id"), "task": row.get("task_id"), "pool": row.get("pool"), "operator": row.get("operator")}
        return all(fnmatchcase(str(said[key] or ""), pattern) for key, pattern in self.patterns.items())


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the file says.

    Parameters
    ----------
    rules : tuple of `Rule`
        The first that matches counts; what none matches is left out.
    policy : `Policy`
        With the teams.
    nodes : tuple of `Node`
    restart_s, grace_s : float
        What it takes to start a preempted job again, and to stop it.
    """

    rules: tuple[Rule, ...]
    policy: Policy
    nodes: tuple[Node, ...]
    restart_s: float
    grace_s: float

    @classmethod
    def from_mapping(cls, raw: object, where: str) -> Self:
        """Read ``{tasks: [{pool: gpu, per_slot: {gpu: 1}, team: vision}], teams: …, policy: …, nodes: …, restart: 2m}``.

        Raises
        ------
        InvalidSpec
            On unknown keys and values that break their rule; says where.
        """
        given = mapping(raw, where)
        refuse_unknown(given, list(_KEYS), where)
        rows = sequence_of(mapping)(given.get("tasks") or (), f"{where}: tasks")
        if not rows:
            raise InvalidSpec(f"{where} lacks tasks; write tasks: [{{pool: gpu_*, per_slot: {{gpu: 1}}, team: vision}}]")
        teams: tuple[TeamShare, ...] = read_team_shares(given.get("teams") or {}, f"{where}: teams")
        nodes = sequence_of(mapping)(given.get("nodes") or (), f"{where}: nodes")
        return cls(
            rules=tuple(Rule.from_mapping(row, f"{where}: tasks[{place}]") for place, row in enumerate(rows)),
            policy=_with_teams(read_policy(given.get("policy") or {}, f"{where}: policy"), teams),
            nodes=tuple(Node.from_mapping(row, f"{where}: nodes[{place}]") for place, row in enumerate(nodes)),
            restart_s=seconds(given.get("restart", 0.0), f"{where}: restart"),
            grace_s=seconds(given.get("grace", 30.0), f"{where}: grace"),
        )


def _with_teams(policy: Policy, teams: tuple[TeamShare, ...]) -> Policy:
    return Policy(**{name: getattr(policy, name) for name in policy.__slots__} | {"teams": teams})


@dataclass(frozen=True, slots=True)
class Seen:
    """A task instance that was run, as a job.

    Parameters
    ----------
    job : `ReplayJob`
    started_at, ended_at : float
        When it really was, seconds since the epoch.
    """

    job: ReplayJob
    started_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class History:
    """What was read.

    Parameters
    ----------
    seen : tuple of `Seen`
    unmatched, unfinished, unasking : int
        Task instances left out: no rule matched, no start or end, nothing asked for.
    """

    seen: tuple[Seen, ...]
    unmatched: int
    unfinished: int
    unasking: int


def read_history(rows: Iterable[Mapping[str, Any]], rules: Iterable[Rule]) -> History:
    """Turn task instances into jobs.

    Parameters
    ----------
    rows : iterable of mapping
        As Airflow's REST API writes them.
    rules : iterable of `Rule`
    """
    rules, kept, ran = tuple(rules), [], []
    unmatched = unfinished = unasking = 0
    for row in rows:
        rule = next((rule for rule in rules if rule.matches(row)), None)
        if rule is None:
            unmatched += 1
            continue
        request, times = rule.asks(int(row.get("pool_slots") or 1)), _times(row)
        if request is None:
            unasking += 1
        elif times is None:
            unfinished += 1
        else:
            kept.append((row, rule, request, times))
            ran.append(Ran(f"{row['dag_id']}.{row['task_id']}", times[0], times[2], times[2] - times[1]))
    expected = expected_runs(ran)
    seen = tuple(_seen(*one, run_s) for one, run_s in zip(kept, expected, strict=True))
    return History(seen, unmatched, unfinished, unasking)


def _seen(row: Mapping[str, Any], rule: Rule, request: Request, times: tuple[float, float, float], expected_s: float | None) -> Seen:
    asked, started, ended = times
    demand = Demand(
        id=f"{row['dag_id']}.{row['task_id']}[{row.get('map_index', -1)}] {row['dag_run_id']} #{row.get('try_number', 1)}",
        request=request,
        team=rule.team,
        priority=int(row.get("priority_weight") or 0) if rule.priority is None else rule.priority,
        created_at=asked,
        preemptible=rule.preemptible,
        run_s=expected_s,
    )
    return Seen(ReplayJob(demand=demand, run_s=ended - started), started, ended)


def _times(row: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Return when an instance was ready to run, started and ended."""
    started, ended = row.get("start_date"), row.get("end_date")
    if not started or not ended:
        return None
    begun, over = _seconds(started), _seconds(ended)
    asked = min(begun, _seconds(row.get("scheduled_when") or row.get("queued_when") or started))
    return (asked, begun, over) if over > begun else None


def _seconds(written: str) -> float:
    return datetime.fromisoformat(written).timestamp()
