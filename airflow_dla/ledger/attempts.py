"""Jobs and their attempts: numbered, opened by compare-and-set, ended once.

Every function that changes a state runs under the ledger's lock, so that what it reads
is what it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Select, bindparam, insert, select, update

from airflow_dla.errors import Conflict, InvalidSpec, NotFound
from airflow_dla.ledger import demands, rows
from airflow_dla.ledger.history import record
from airflow_dla.ledger.records import Attempt
from airflow_dla.ledger.schema import attempts, grants, jobs
from airflow_dla.ledger.schema import demands as demands_table
from airflow_dla.ledger.transaction import Transaction, batched
from airflow_dla.specs import AttemptState, Demand, Exit, ExitReason, JobKey, JobSpec

#: Those that no runtime has heard of: they end by a word.
_NOT_LAUNCHED = frozenset({AttemptState.WAITING, AttemptState.GRANTED})

_WHOLE = (
    select(
        attempts,
        demands_table.c.reason.label("waits"),
        *(grants.c[name] for name in ("holder", "token", "expires_at", "suspect", "target")),
    )
    .outerjoin(demands_table, demands_table.c.id == attempts.c.id)
    .outerjoin(grants, grants.c.id == attempts.c.id)
)
_SOME = _WHOLE.where(attempts.c.id.in_(bindparam("ids", expanding=True)))
_LAST = _WHOLE.join(jobs, (jobs.c.id == attempts.c.job) & (jobs.c.last == attempts.c.number))


def open_attempt(tx: Transaction, spec: JobSpec, *, node: str | None, deferred: bool) -> Attempt:
    """Return the attempt to follow, making one when none may be taken over."""
    last = last_attempt(tx, spec.key.id)
    if last is None or not _to_be_followed(last):
        return _open(tx, spec, 1 if last is None else last.number + 1, node=node, deferred=deferred)
    if last.deferred != deferred:
        set_deferred(tx, last.id, deferred=deferred)
        return get(tx, last.id)
    return last


def _to_be_followed(last: Attempt) -> bool:
    if last.exit is None:
        return True
    return last.exit.succeeded and last.delivered_at is None


def _open(tx: Transaction, spec: JobSpec, number: int, *, node: str | None, deferred: bool) -> Attempt:
    job = spec.key.id
    id_ = f"{job}.{number}"
    _number_job(tx, spec.key, number)
    tx.connection.execute(
        insert(attempts).values(
            id=id_,
            job=job,
            number=number,
            spec=rows.dump(spec.to_mapping()),
            team=spec.policy.team,
            state=AttemptState.WAITING.value,
            log_offset=0,
            deferred=deferred,
            created_at=tx.now,
            unfollowed_s=0.0,
        )
    )
    policy = spec.policy
    asked_at = float(spec.lineage.get("asked_at", tx.now))
    wanted = Demand(
        id=id_,
        request=spec.request,
        place=policy.place,
        node=node,
        team=policy.team,
        priority=policy.priority,
        created_at=asked_at,
        preemptible=policy.preemptible,
        gang=None if policy.gang is None else f"{spec.key.dag}/{spec.key.run}/{policy.gang}",
        gang_size=policy.gang_size,
        deadline=None if policy.deadline_s is None else asked_at + policy.deadline_s,
        run_s=spec.expected_s,
    )
    demands.add(tx, wanted, job=True)
    record(tx, "attempt.opened", id_, {"job": str(spec.key), "verb": spec.verb})
    return get(tx, id_)


def _number_job(tx: Transaction, key: JobKey, number: int) -> None:
    tx.upsert(jobs, id=key.id, dag=key.dag, run=key.run, task=key.task, map_index=key.index, last=number)


def get(tx: Transaction, attempt: str) -> Attempt:
    """Return one attempt.

    Raises
    ------
    NotFound
        If there is none of that id.
    """
    found = by_ids(tx, [attempt])
    if not found:
        raise NotFound(f"the ledger knows no attempt {attempt!r}; `airflow dla jobs list` shows those it knows")
    return found[attempt]


def by_ids(tx: Transaction, ids: Iterable[str]) -> dict[str, Attempt]:
    """Return attempts by id."""
    found = (row for part in batched(ids) for row in tx.connection.execute(_SOME, {"ids": part}))
    return {row.id: rows.attempt(row) for row in found}


def last_attempt(tx: Transaction, job: str) -> Attempt | None:
    """Return the last attempt of a job."""
    row = tx.connection.execute(_LAST.where(jobs.c.id == job)).one_or_none()
    return None if row is None else rows.attempt(row)


def list_jobs(tx: Transaction, *, state: str | None, dag: str | None, limit: int) -> tuple[Attempt, ...]:
    """Return the last attempt of each job, newest first."""
    query = _LAST.order_by(attempts.c.created_at.desc(), attempts.c.id).limit(limit)
    if state is not None:
        query = _in_state(query, state)
    if dag is not None:
        query = query.where(jobs.c.dag == dag)
    return tuple(rows.attempt(row) for row in tx.connection.execute(query))


def _in_state(query: Select[Any], state: str) -> Select[Any]:
    if state == "live":
        return query.where(attempts.c.state != AttemptState.ENDED.value)
    if state in set(AttemptState):
        return query.where(attempts.c.state == state)
    if state in set(ExitReason):
        return query.where(attempts.c.exit_reason == state)
    raise InvalidSpec(f"a job's state must be one of live, {', '.join([*AttemptState, *ExitReason])}, got {state!r}")


def begin_launch(tx: Transaction, attempt: str, *, holder: str, lease_s: float) -> Attempt:
    """Move a granted attempt to ``launching`` and renew its lease."""
    found = get(tx, attempt)
    if found.stop is not None:
        raise Conflict(f"attempt {attempt} must not be launched: its stop is wanted ({found.stop.value}); wait for its end")
    if found.state not in {AttemptState.GRANTED, AttemptState.LAUNCHING}:
        raise Conflict(f"attempt {attempt} must be granted or launching to be launched, it is {found.state.value}; read it again")
    demands.renew(tx, [attempt], holder=holder, lease_s=lease_s)
    _set(tx, attempt, state=AttemptState.LAUNCHING.value)
    if found.state is AttemptState.GRANTED:
        record(tx, "attempt.launching", attempt, {"holder": holder})
    return get(tx, attempt)


def record_launch(tx: Transaction, attempt: str, handle: Mapping[str, Any]) -> Attempt:
    """Remember the runtime's handle; nothing happens when it runs already or has ended."""
    found = get(tx, attempt)
    if found.state in _NOT_LAUNCHED:
        raise Conflict(f"attempt {attempt} is {found.state.value}, so no runtime can have launched it; call begin_launch first")
    if found.state is not AttemptState.LAUNCHING:
        return found
    _set(tx, attempt, state=AttemptState.RUNNING.value, handle=rows.dump(handle), running_at=tx.now)
    record(tx, "attempt.running", attempt, {})
    return get(tx, attempt)


def want_stop(tx: Transaction, attempt: str, reason: ExitReason, *, why: str = "") -> Attempt:
    """Say that an attempt should stop; one that no runtime knows ends at once."""
    found = get(tx, attempt)
    outranked = found.stop is ExitReason.PREEMPTED and reason is not ExitReason.PREEMPTED
    if found.ended or (found.stop is not None and not outranked):
        return found
    tx.connection.execute(update(grants).where(grants.c.id == attempt).values(stopping=True))
    _set(tx, attempt, stop=reason.value, stop_why=why)
    record(tx, "attempt.stop_wanted", attempt, {"reason": reason.value, **({"why": why} if why else {})})
    if found.state in _NOT_LAUNCHED:
        said = why or f"its stop was wanted while it was {found.state.value}"
        return finish(tx, attempt, Exit(reason=reason, message=f"it never started: {said}"))
    return get(tx, attempt)


def finish(tx: Transaction, attempt: str, exit_: Exit) -> Attempt:
    """End an attempt and free what it holds."""
    found = get(tx, attempt)
    if found.ended:
        return found
    # Grants before attempts, the order of every transaction: two never wait for each other in a circle.
    demands.free(tx, [attempt])
    _set(
        tx,
        attempt,
        state=AttemptState.ENDED.value,
        exit=rows.dump(_readable(exit_)),
        exit_reason=exit_.reason.value,
        ended_at=tx.now,
        reason=None if found.reason is None else rows.dump_reason(found.reason),
    )
    record(tx, "attempt.ended", attempt, {"reason": exit_.reason.value, "message": exit_.message})
    return get(tx, attempt)


def _readable(exit_: Exit) -> dict[str, Any]:
    """Write an end as it will be read: an attempt must end whatever its program measured."""
    return Exit.from_mapping(exit_.to_mapping()).to_mapping()


def deliver(tx: Transaction, attempt: str) -> None:
    """Say that the result has reached Airflow."""
    if get(tx, attempt).delivered_at is None:
        _set(tx, attempt, delivered_at=tx.now)
        record(tx, "attempt.delivered", attempt, {})


def set_deferred(tx: Transaction, attempt: str, *, deferred: bool) -> None:
    """Say who follows from now on."""
    if not _set(tx, attempt, deferred=deferred):
        get(tx, attempt)


def save_offsets(tx: Transaction, offsets: Mapping[str, int]) -> None:
    """Move offsets on; a follower that lags behind moves none back."""
    moved = update(attempts).where(attempts.c.id == bindparam("of"), attempts.c.log_offset < bindparam("to"))
    _each(tx, moved.values(log_offset=bindparam("to")), offsets)


def unfollowed(tx: Transaction, seconds: Mapping[str, float]) -> None:
    """Add time without a follower, where the lease is still expired."""
    expired = select(grants.c.id).where(grants.c.id == bindparam("of"), grants.c.expires_at < tx.now).exists()
    added = update(attempts).where(attempts.c.id == bindparam("of"), expired)
    _each(tx, added.values(unfollowed_s=attempts.c.unfollowed_s + bindparam("to")), seconds)


def _each(tx: Transaction, statement: Any, values: Mapping[str, float]) -> None:
    # In order of ids, so that two processes never wait for each other in a circle.
    bound = [{"of": attempt, "to": value} for attempt, value in sorted(values.items())]
    if bound:
        tx.connection.execute(statement, bound)


def _set(tx: Transaction, attempt: str, **values: Any) -> int:
    return tx.connection.execute(update(attempts).where(attempts.c.id == attempt).values(**values)).rowcount
