"""An allocation problem in a file, for ``airflow dla allocate FILE``, and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from airflow_dla.allocation.adjusting import Adjustment
from airflow_dla.allocation.problem import Plan, Policy
from airflow_dla.allocation.teams import TeamShare
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Demand, Grant, Held, Node, Request
from airflow_dla.specs.resources import SELECTORS, amounts, refuse_no_resources
from airflow_dla.specs.values import (
    amount,
    boolean,
    mapping,
    mapping_of,
    number,
    optional,
    positive,
    refuse_unknown,
    seconds,
    sequence_of,
    text,
)

_KNOWN = ("capacity", "nodes", "requests", "live", "teams", "policy", "now")
_OWN = ("name", "priority", "team", "weight", "created_at", "preemptible", "gang", "gang_size", "deadline", "run_s", "place", "node")
_LIVE = ("since", "granted", "gpu_ids", "rigid")
_CLUSTER = "cluster"
_TIMES = ("drain_after_s", "grace_s", "min_run_s", "patience_s")
_TERMS = ("term_s", "half_life_s")
_POLICY = (
    "strategy",
    "shedding",
    "costs",
    "weights",
    "quotas",
    "budgets",
    "ageing_s",
    "min_gain",
    "shortage_cost",
    "holding_cost",
    *_TIMES,
    *_TERMS,
)
_NOW_S = 600.0


def read_problem(raw: object) -> tuple[tuple[Node, ...], tuple[Demand, ...], Policy]:
    """Read a problem as JSON or YAML left it.

    Parameters
    ----------
    raw : mapping
        ``capacity`` of one node, or a list of ``nodes`` as in `Node`; ``requests``, each a
        ``name``, amounts and labels as in any request and, if need be, ``priority``, ``team``,
        ``weight``, ``created_at`` and what else a `Demand` has; ``teams`` by
        name, each with ``parent``, ``weight``, ``guaranteed``, ``borrow``, ``lend``,
        ``past_use`` and ``reclaim_after_s`` as in `TeamShare`, all optional; and ``policy`` as
        in `read_policy`. Of equal priority, the request that is written first goes first. What
        `read_live` reads is left to it.

    Returns
    -------
    cluster, pending, policy
        What `plan` takes.

    Raises
    ------
    InvalidSpec
        On unknown keys, names that occur twice and amounts that cannot be read.

    Examples
    --------
    >>> cluster, pending, policy = read_problem({"capacity": {"cpu": 80}, "requests": [{"name": "a", "cpu": 50}]})
    >>> cluster[0].capacity, pending[0].id, policy.strategy
    ({'cpu': 80.0}, 'a', 'lp')
    """
    given = mapping(raw, "problem")
    refuse_unknown(given, _KNOWN, "problem")
    missing = [key for key in ("capacity", "requests") if key not in given and not (key == "capacity" and "nodes" in given)]
    if missing:
        raise InvalidSpec(f"problem lacks {', '.join(missing)}; write {{capacity: {{cpu: 80}}, requests: [{{name: a, cpu: 50}}]}}")
    cluster = _cluster(given)
    rows = sequence_of(mapping)(given["requests"], "requests")
    pending = tuple(_demand(row, index, f"requests[{index}]") for index, row in enumerate(rows))
    _refuse_twins([demand.id for demand in pending], "requests")
    policy = replace(read_policy(given.get("policy") or {}), teams=read_team_shares({} if given.get("teams") is None else given["teams"]))
    return cluster, pending, policy


def _cluster(given: Mapping[str, Any]) -> tuple[Node, ...]:
    if "nodes" not in given:
        return (Node(name=_CLUSTER, capacity=amounts(given["capacity"], "capacity")),)
    if "capacity" in given:
        raise InvalidSpec("problem has capacity and nodes; give the capacity of one node, or a list of nodes with a capacity each")
    nodes: tuple[Node, ...] = sequence_of(Node.from_mapping)(given["nodes"], "nodes")
    _refuse_twins([node.name for node in nodes], "nodes")
    return nodes


def read_live(raw: object) -> tuple[tuple[Held, ...], float]:
    """Read what is already held from a problem as JSON or YAML left it.

    Parameters
    ----------
    raw : mapping
        ``live``: requests as those that wait, and, if need be, ``since``, when each was
        granted, ``granted``, amounts where they are not all that was wanted, and ``rigid``;
        ``now``, seconds on the same clock, ten minutes unless said otherwise.

    Returns
    -------
    held, now
        What `allocate` takes.

    Raises
    ------
    InvalidSpec
        On unknown keys, names that occur twice and amounts that cannot be read.

    Examples
    --------
    >>> held, now = read_live({"live": [{"name": "a", "cpu": "2-4", "granted": {"cpu": 3}}]})
    >>> held[0].grant.text(), now
    ('3 cpu on cluster', 600.0)
    """
    given = mapping(raw, "problem")
    rows = sequence_of(mapping)(given.get("live") or [], "live")
    only = None if "nodes" in given else _CLUSTER
    held = tuple(_held(row, index, only) for index, row in enumerate(rows))
    names = [text(row["name"], "name") for key in ("live", "requests") for row in given.get(key) or [] if "name" in row]
    twins = sorted({name for name in names if names.count(name) > 1})
    if held and twins:
        raise InvalidSpec(f"live and requests: the name {twins[0]!r} is there twice; names must differ")
    return held, number(given.get("now", _NOW_S), "now")


def _held(row: Mapping[str, Any], index: int, only: str | None) -> Held:
    where = f"live[{index}]"
    demand = _demand({key: value for key, value in row.items() if key not in _LIVE}, index, where)
    node = demand.node or only
    if node is None:
        raise InvalidSpec(f"{where} lacks a node; name the one that it runs on")
    wanted = {name: found.wanted for name, found in demand.request.amounts.items()}
    granted = wanted if row.get("granted") is None else amounts(row["granted"], f"{where}.granted")
    gpu_ids = sequence_of(text)(row.get("gpu_ids") or [], f"{where}.gpu_ids")
    return Held(
        demand=demand,
        grant=Grant(id=demand.id, node=node, amounts=granted, gpu_ids=gpu_ids),
        since=number(row.get("since", 0.0), f"{where}.since"),
        rigid=boolean(row.get("rigid", False), f"{where}.rigid"),
    )


def read_team_shares(raw: object, where: str = "teams") -> tuple[TeamShare, ...]:
    """Read teams by name: ``{vision: {guaranteed: {gpu: 4}, lend: {gpu: 2}}, ocr: {parent: vision}}``.

    Raises
    ------
    InvalidSpec
        If a key is unknown or a value breaks its rule.

    Examples
    --------
    >>> read_team_shares({"ocr": {"parent": "vision"}, "vision": None})[0].parent
    'vision'
    """
    return tuple(_team(name, {} if value is None else value, f"{where}.{name}") for name, value in mapping(raw, where).items())


def _team(name: str, raw: object, where: str) -> TeamShare:
    given = mapping(raw, where)
    refuse_unknown(given, [field.name for field in fields(TeamShare) if field.name != "name"], where)
    return TeamShare.from_mapping({**given, "name": name}, where)


def answer_mapping(plan: Plan, demands: Sequence[Demand]) -> dict[str, Any]:
    """Write a plan as plain JSON values, in the order of the demands.

    Returns
    -------
    dict
        ``grants`` by name with their amounts, ``waiting`` with a reason each, ``prices`` of
        every resource, and ``reasons``: the text for everyone who waits or got less. Where
        an auction asks for tokens, ``payments`` by name; where the problem names nodes, ``nodes`` by
        name of the request; where it is not optimal, ``status``.

    Examples
    --------
    >>> from airflow_dla.allocation import plan
    >>> problem = {"capacity": {"cpu": 80}, "requests": [{"name": "a", "cpu": 50}, {"name": "b", "cpu": 30}]}
    >>> cluster, pending, policy = read_problem(problem)
    >>> answer_mapping(plan(cluster, [], pending, policy, 0.0), pending)
    {'grants': {'a': {'cpu': 50}, 'b': {'cpu': 30}}, 'waiting': {}, 'prices': {'cpu': 0.0}, 'reasons': {}}
    """
    names = [demand.id for demand in demands]
    reasons = {**plan.shrunk, **plan.waiting}
    answer = {
        "grants": {name: _as_given(plan.grants[name].amounts) for name in names if name in plan.grants},
        "waiting": {name: plan.waiting[name].to_mapping() for name in names if name in plan.waiting},
        "prices": dict(plan.prices),
        "reasons": {name: reasons[name].text for name in names if name in reasons},
    }
    nodes = {name: plan.grants[name].node for name in names if name in plan.grants}
    placed = {"nodes": nodes} if set(nodes.values()) - {_CLUSTER} else {}
    payments = {"payments": {name: plan.payments[name] for name in names if name in plan.payments}} if plan.payments else {}
    status = {"status": plan.status} if plan.status != "optimal" else {}
    return answer | placed | payments | status


def adjustment_mapping(adjustment: Adjustment) -> dict[str, Any]:
    """Write what becomes of what is held as plain JSON values.

    Returns
    -------
    dict
        ``targets`` by name with the amounts that each shall have, and ``preempted`` with the
        reason for each.
    """
    return {
        "targets": {name: _as_given(target.amounts) for name, target in adjustment.targets.items()},
        "preempted": dict(adjustment.preempted),
    }


def _as_given(granted: Mapping[str, float]) -> dict[str, float]:
    """Write a whole number without a fraction, as people write it."""
    return {resource: int(value) if value.is_integer() else value for resource, value in granted.items()}


def _demand(row: Any, index: int, where: str) -> Demand:
    refuse_no_resources([key for key in row if key not in (*_OWN, *SELECTORS)], where, besides=(*_OWN, *SELECTORS))
    if "name" not in row:
        raise InvalidSpec(f"{where} lacks a name; the answer is given by name")
    request = Request.from_mapping({key: value for key, value in row.items() if key not in _OWN}, where)
    own = {key: row[key] for key in _OWN if key in row and key != "name"}
    return Demand.from_mapping({"created_at": index, **own, "id": row["name"], "request": request}, where)


def _refuse_twins(names: Sequence[str], where: str) -> None:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if seen.setdefault(name, index) != index:
            raise InvalidSpec(f"{where}[{index}].name {name!r} is taken by {where}[{seen[name]}]; names must differ")


def read_policy(raw: object, where: str = "policy") -> Policy:
    """Read what a user may set of a `Policy`: all but what a round finds out by itself.

    ``strategy``, ``shedding``, ``costs``, ``weights``, ``quotas`` (amounts by team),
    ``budgets`` (tokens by team), ``ageing_s``, ``drain_after_s``, ``grace_s``, ``min_run_s``,
    ``patience_s``, ``min_gain``, ``term_s``, ``half_life_s``, ``shortage_cost`` and
    ``holding_cost``, all optional.

    Raises
    ------
    InvalidSpec
        If a key is unknown or a value breaks its rule.

    Examples
    --------
    >>> read_policy({"quotas": {"vision": {"gpu": 8}}, "min_run_s": "5m"}).min_run_s
    300.0
    """
    given = mapping(raw, where)
    refuse_unknown(given, _POLICY, where)
    costs = mapping_of(amount)(given.get("costs") or {}, f"{where}.costs")
    refuse_no_resources(costs, f"{where}.costs")
    times: dict[str, Any] = {name: seconds(given[name], f"{where}.{name}") for name in _TIMES if given.get(name) is not None}
    times |= {name: positive(seconds)(given[name], f"{where}.{name}") for name in _TERMS if given.get(name) is not None}
    return Policy(
        strategy=text(given.get("strategy", "lp"), f"{where}.strategy"),
        shedding=given.get("shedding", "strict"),
        costs=costs,
        weights=mapping_of(positive(number))(given.get("weights") or {}, f"{where}.weights"),
        quotas={team: dict(most) for team, most in mapping_of(amounts)(given.get("quotas") or {}, f"{where}.quotas").items()},
        budgets=mapping_of(amount)(given.get("budgets") or {}, f"{where}.budgets"),
        ageing_s=optional(positive(seconds))(given.get("ageing_s"), f"{where}.ageing_s"),
        shortage_cost=amount(given.get("shortage_cost", 4.0), f"{where}.shortage_cost"),
        holding_cost=amount(given.get("holding_cost", 1.0), f"{where}.holding_cost"),
        min_gain=amount(given.get("min_gain", 0.1), f"{where}.min_gain"),
        **times,
    )
