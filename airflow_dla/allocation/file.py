"""An allocation problem in a file, for ``airflow dla allocate FILE``, and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from airflow_dla.allocation.problem import Plan, Policy
from airflow_dla.allocation.teams import TeamShare
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import Demand, Node, Request
from airflow_dla.specs.resources import SELECTORS, amounts, refuse_no_resources
from airflow_dla.specs.values import (
    amount,
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

_KNOWN = ("capacity", "nodes", "requests", "teams", "policy")
_OWN = ("name", "priority", "team", "weight", "created_at", "gang", "gang_size", "deadline", "run_s", "place", "node")
_CLUSTER = "cluster"
_POLICY = ("strategy", "shedding", "costs", "weights", "budgets", "ageing_s")


def read_problem(raw: object) -> tuple[tuple[Node, ...], tuple[Demand, ...], Policy]:
    """Read a problem as JSON or YAML left it.

    Parameters
    ----------
    raw : mapping
        ``capacity`` of one node, or a list of ``nodes`` as in `Node`; ``requests``, each a
        ``name``, amounts and labels as in any request and, if need be, ``priority``, ``team``,
        ``weight``, ``created_at`` and what else a `Demand` has; ``teams`` by
        name, each with ``parent``, ``weight``, ``guaranteed``, ``borrow``, ``lend`` and
        ``past_use`` as in `TeamShare`, all optional; and ``policy`` with ``strategy``,
        ``shedding``, ``costs``, ``weights``, ``budgets`` of teams in tokens and ``ageing_s``,
        as in `Policy`. Of equal priority, the request that is written first goes first.

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
    pending = tuple(_demand(row, index) for index, row in enumerate(rows))
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


def _as_given(granted: Mapping[str, float]) -> dict[str, float]:
    """Write a whole number without a fraction, as people write it."""
    return {resource: int(value) if value.is_integer() else value for resource, value in granted.items()}


def _demand(row: Any, index: int) -> Demand:
    where = f"requests[{index}]"
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
    """Read ``{strategy, shedding, costs, weights, budgets, ageing_s}``.

    Raises
    ------
    InvalidSpec
        If a key is unknown or a value breaks its rule.
    """
    given = mapping(raw, where)
    refuse_unknown(given, _POLICY, where)
    costs = mapping_of(amount)(given.get("costs") or {}, f"{where}.costs")
    refuse_no_resources(costs, f"{where}.costs")
    return Policy(
        strategy=text(given.get("strategy", "lp"), f"{where}.strategy"),
        shedding=given.get("shedding", "strict"),
        costs=costs,
        weights=mapping_of(positive(number))(given.get("weights") or {}, f"{where}.weights"),
        budgets=mapping_of(amount)(given.get("budgets") or {}, f"{where}.budgets"),
        ageing_s=optional(positive(seconds))(given.get("ageing_s"), f"{where}.ageing_s"),
    )
