"""Between rows and records: JSON text, with caches for what is read again and again.

Specs are frozen, and equal text gives an equal spec, so that a round over 10,000
waiting demands parses only the texts it has not seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Row

from airflow_dla.errors import InvalidSpec
from airflow_dla.ledger.records import Alias, AliasMove, Attempt, Event, Lease, ModelVersion, NodeRow
from airflow_dla.specs import (
    Account,
    AgentSpec,
    AttemptState,
    Demand,
    Exit,
    ExitReason,
    Expected,
    Grant,
    Held,
    JobSpec,
    Node,
    Reason,
    Request,
    TeamSpec,
)

# One encoder each: json.dumps would make a new one for every value.
_plain: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_reason: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

_REASON_FIELDS: Final = (
    "binding",
    "node",
    "shortfall",
    "price",
    "position",
    "expected_start",
    "start_low",
    "start_high",
    "unblock",
    "never",
    "text",
)
_reason_values: Final = attrgetter(*_REASON_FIELDS)


def dump(value: Mapping[str, Any]) -> str:
    """Write a plain mapping as canonical JSON text.

    Raises
    ------
    InvalidSpec
        If a number is not finite, or a value is not plain JSON.
    """
    try:
        return _plain(value)
    except (TypeError, ValueError) as error:
        raise InvalidSpec(f"the ledger holds plain JSON with finite numbers, got {_shown(value)}: {error}") from None


def _shown(value: object) -> str:
    return f"{value!r:.120}"


def dump_reason(reason: Reason) -> str:
    """Write a reason, every field: a round may write thousands."""
    return _reason(dict(zip(_REASON_FIELDS, _reason_values(reason), strict=True)))


@lru_cache(maxsize=16_384)
def request(text: str) -> Request:
    """Read a request."""
    return Request.from_mapping(json.loads(text))


@lru_cache(maxsize=4_096)
def grant(text: str) -> Grant:
    """Read a grant."""
    return Grant.from_mapping(json.loads(text))


@lru_cache(maxsize=1_024)
def node(text: str) -> Node:
    """Read a node."""
    return Node.from_mapping(json.loads(text))


@lru_cache(maxsize=1_024)
def team(text: str) -> TeamSpec:
    """Read a team."""
    return TeamSpec.from_mapping(json.loads(text))


@lru_cache(maxsize=1_024)
def account(text: str) -> Account:
    """Read a team's account."""
    return Account.from_mapping(json.loads(text))


@lru_cache(maxsize=4_096)
def expected(text: str) -> Expected:
    """Read what is expected."""
    return Expected.from_mapping(json.loads(text))


@lru_cache(maxsize=1_024)
def job_spec(text: str) -> JobSpec:
    """Read a job's spec."""
    return JobSpec.from_mapping(json.loads(text))


def reason(text: str | None) -> Reason | None:
    """Read a reason."""
    return None if text is None else Reason.from_mapping(json.loads(text))


def agent(row: Row[Any]) -> AgentSpec:
    """Read an agent."""
    return AgentSpec.from_mapping(json.loads(row.agent))


def node_row(row: Row[Any]) -> NodeRow:
    """Read a node with what is known of it."""
    return NodeRow(node=node(row.node), host=row.host, seen_at=row.seen_at, silent_since=row.silent_since)


def lease(row: Row[Any]) -> Lease:
    """Read a grant that is held, from a row of grants or of attempts."""
    return Lease(
        grant=grant(row.granted),
        holder=row.holder,
        token=row.token,
        expires_at=row.expires_at,
        suspect=bool(row.suspect),
        target=None if row.target is None else grant(row.target),
    )


#: Columns of a demand's table, and of a grant's, in the order of `demand`.
DEMAND_COLUMNS: Final = (
    "id", "request", "place", "pinned", "team", "priority", "weight", "created_at", "preemptible", "gang", "gang_size", "deadline", "run_s"
)  # fmt: skip


def demand_values(wanted: Demand) -> dict[str, Any]:
    """Return the columns of a demand."""
    values = (
        wanted.id, dump(wanted.request.to_mapping()), wanted.place, wanted.node, wanted.team, wanted.priority, wanted.weight,
        wanted.created_at, wanted.preemptible, wanted.gang, wanted.gang_size, wanted.deadline, wanted.run_s,
    )  # fmt: skip
    return dict(zip(DEMAND_COLUMNS, values, strict=True))


def demand(values: Sequence[Any]) -> Demand:
    """Read a demand from the columns of `DEMAND_COLUMNS`, in that order; what the ledger wrote is not checked again."""
    id_, request_, place, pinned, team_, priority, weight, created_at, preemptible, gang, gang_size, deadline, run_s = values
    return Demand(
        id=id_,
        request=request(request_),
        place=place,
        node=pinned,
        team=team_,
        priority=priority,
        weight=weight,
        created_at=created_at,
        preemptible=bool(preemptible),
        gang=gang,
        gang_size=gang_size,
        deadline=deadline,
        run_s=run_s,
    )


#: Columns of a grant with its demand, in the order of `held`.
HELD_COLUMNS: Final = (*DEMAND_COLUMNS, "granted", "granted_at", "target", "stopping", "rigid")
_DEMAND: Final = len(DEMAND_COLUMNS)


def held(values: Sequence[Any]) -> Held:
    """Read a grant with its demand.

    Parameters
    ----------
    values : sequence
        Begins with the columns of `HELD_COLUMNS`.
    """
    granted, since, target, stopping, rigid = values[_DEMAND : len(HELD_COLUMNS)]
    return Held(
        demand=demand(values[:_DEMAND]),
        grant=grant(granted),
        since=since,
        target=None if target is None else grant(target),
        stopping=bool(stopping),
        rigid=bool(rigid),
    )


def attempt(row: Row[Any]) -> Attempt:
    """Read an attempt, with its lease and its demand's reason when it has them."""
    return Attempt(
        id=row.id,
        job=row.job,
        number=row.number,
        spec=job_spec(row.spec),
        state=AttemptState(row.state),
        created_at=row.created_at,
        lease=None if row.holder is None else lease(row),
        grant=None if row.granted is None else grant(row.granted),
        reason=reason(row.waits or row.reason),
        handle=None if row.handle is None else json.loads(row.handle),
        stop=None if row.stop is None else ExitReason(row.stop),
        stop_why=row.stop_why or "",
        log_offset=row.log_offset,
        exit=None if row.exit is None else Exit.from_mapping(json.loads(row.exit)),
        deferred=bool(row.deferred),
        granted_at=row.granted_at,
        running_at=row.running_at,
        ended_at=row.ended_at,
        followed_at=row.followed_at,
        delivered_at=row.delivered_at,
        unfollowed_s=row.unfollowed_s,
    )


def model_version(row: Row[Any]) -> ModelVersion:
    """Read a model version."""
    return ModelVersion(
        model=row.model,
        number=row.number,
        digest=row.digest,
        signature=json.loads(row.signature),
        metrics=json.loads(row.metrics),
        lineage=json.loads(row.lineage),
        registered_by=row.registered_by,
        created_at=row.created_at,
    )


def alias(row: Row[Any]) -> Alias:
    """Read an alias."""
    return Alias(model=row.model, alias=row.alias, number=row.number, interval_end=row.interval_end, moved_at=row.moved_at)


def alias_move(row: Row[Any]) -> AliasMove:
    """Read a line of an alias' log."""
    return AliasMove(model=row.model, alias=row.alias, old=row.old, new=row.new, why=row.why, by=row.by, at=row.at)


def event(row: Row[Any]) -> Event:
    """Read a line of the history."""
    return Event(id=row.id, at=row.at, kind=row.kind, subject=row.subject, data=json.loads(row.data))
