"""An allocation problem in a file, for ``airflow dla allocate FILE``, and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from airflow_dla.allocation.problem import Plan, Policy
from airflow_dla.allocation.teams import TeamShare
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import RESOURCES, Demand, Node, Request
from airflow_dla.specs.resources import amounts
from airflow_dla.specs.values import (
    amount,
    integer,
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

_KNOWN = ("capacity", "requests", "teams", "policy")
_OWN = ("name", "priority", "team", "weight", "created_at")
_POLICY = ("strategy", "shedding", "costs", "weights", "budgets", "ageing_s")


def read_problem(raw: object) -> tuple[tuple[Node, ...], tuple[Demand, ...], Policy]:
    """Read a problem as JSON or YAML left it.

    Parameters
    ----------
    raw : mapping
        ``capacity`` of one node; ``requests``, each a ``name``, amounts as in any request
        and, if need be, ``priority``, ``team``, ``weight`` and ``created_at``; ``teams`` by
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
    missing = [key for key in ("capacity", "requests") if key not in given]
    if missing:
        raise InvalidSpec(f"problem lacks {', '.join(missing)}; write {{capacity: {{cpu: 80}}, requests: [{{name: a, cpu: 50}}]}}")
    capacity = amounts(given["capacity"], "capacity")
    rows = sequence_of(mapping)(given["requests"], "requests")
    pending = tuple(_demand(row, index) for index, row in enumerate(rows))
    _refuse_twins(pending)
    policy = replace(read_policy(given.get("policy") or {}), teams=read_team_shares({} if given.get("teams") is None else given["teams"]))
    return (Node(name="cluster", capacity=capacity),), pending, policy


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
        an auction asks for tokens, ``payments`` by name; where it is not optimal, ``status``.

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
    payments = {"payments": {name: plan.payments[name] for name in names if name in plan.payments}} if plan.payments else {}
    status = {"status": plan.status} if plan.status != "optimal" else {}
    return answer | payments | status


def _as_given(granted: Mapping[str, float]) -> dict[str, float]:
    """Write a whole number without a fraction, as people write it."""
    return {resource: int(value) if value.is_integer() else value for resource, value in granted.items()}


def _demand(row: Any, index: int) -> Demand:
    where = f"requests[{index}]"
    refuse_unknown(row, [*_OWN, *RESOURCES, "gpu_type"], where)
    if "name" not in row:
        raise InvalidSpec(f"{where} lacks a name; the answer is given by name")
    request = Request.from_mapping({key: value for key, value in row.items() if key not in _OWN}, where)
    return Demand(
        id=text(row["name"], f"{where}.name"),
        request=request,
        team=text(row.get("team", "default"), f"{where}.team"),
        priority=integer(row.get("priority", 0), f"{where}.priority"),
        weight=positive(number)(row.get("weight", 1.0), f"{where}.weight"),
        created_at=number(row.get("created_at", index), f"{where}.created_at"),
    )


def _refuse_twins(pending: Sequence[Demand]) -> None:
    seen: dict[str, int] = {}
    for index, demand in enumerate(pending):
        if seen.setdefault(demand.id, index) != index:
            raise InvalidSpec(f"requests[{index}].name {demand.id!r} is taken by requests[{seen[demand.id]}]; names must differ")


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
    refuse_unknown(costs, list(RESOURCES), f"{where}.costs")
    return Policy(
        strategy=text(given.get("strategy", "lp"), f"{where}.strategy"),
        shedding=given.get("shedding", "strict"),
        costs=costs,
        weights=mapping_of(positive(number))(given.get("weights") or {}, f"{where}.weights"),
        budgets=mapping_of(amount)(given.get("budgets") or {}, f"{where}.budgets"),
        ageing_s=optional(positive(seconds))(given.get("ageing_s"), f"{where}.ageing_s"),
    )
