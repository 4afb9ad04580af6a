"""``airflow dla why``: why a job waits, or got what it got, and what would help."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from airflow_dla.cli.answer import Answer, listing, when
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import command
from airflow_dla.errors import NotFound
from airflow_dla.ledger import Attempt, Ledger, Snapshot
from airflow_dla.specs import AttemptState, Held, describe_amounts


@command
def why(args: Namespace) -> Answer:
    """Explain the jobs of a task."""
    ledger = Reach(args.conn_id).ledger
    found = find(ledger, args.task, args.run)
    seen = ledger.snapshot()
    return Answer({"jobs": [_document(attempt, seen) for attempt in found]}, "\n\n".join(_text(attempt, seen) for attempt in found))


def find(ledger: Ledger, named: str, run: str | None = None) -> Sequence[Attempt]:
    """Return the jobs that a person means: an id, or ``DAG.TASK`` or ``TASK``, those that live first.

    Raises
    ------
    NotFound
        If there is none.
    """
    exact = ledger.attempts([named]).get(named) or ledger.last_attempt(named)
    if exact is not None:
        return [exact]
    for state in ("live", None):
        jobs = [one for one in ledger.jobs(state=state, limit=10_000) if _means(one, named) and run in {None, one.spec.key.run}]
        if jobs:
            return jobs if state else jobs[:1]
    raise NotFound(
        f"there is no job of {named!r}{f' in run {run!r}' if run else ''}; name it as DAG.TASK, or by its id, "
        "as `airflow dla jobs list` shows them"
    )


def _means(attempt: Attempt, named: str) -> bool:
    key = attempt.spec.key
    return named in {key.task, f"{key.dag}.{key.task}"}


def _held(attempt: Attempt, seen: Snapshot) -> Held | None:
    return next((held for held in seen.held if held.demand.id == attempt.id), None)


def _rivals(attempt: Attempt, seen: Snapshot) -> Iterator[Held]:
    """Yield who holds what a waiting job lacks, where it lacks least, the largest share first."""
    reason = attempt.reason
    if reason is None or attempt.state is not AttemptState.WAITING:
        return
    holding = [held for held in seen.held if held.grant.node == reason.node and held.grant.amounts.get(reason.binding, 0.0) > 0]
    yield from sorted(holding, key=lambda held: (-held.grant.amounts[reason.binding], held.demand.id))


def _document(attempt: Attempt, seen: Snapshot) -> dict[str, Any]:
    held = _held(attempt, seen)
    rivals = [{"id": rival.demand.id, "team": rival.demand.team, "amounts": dict(rival.grant.amounts)} for rival in _rivals(attempt, seen)]
    return {
        "job": attempt.job,
        "attempt": attempt.id,
        "key": attempt.spec.key.to_mapping(),
        "team": attempt.spec.policy.team,
        "priority": attempt.spec.policy.priority,
        "state": attempt.state.value,
        "waited_s": (attempt.granted_at or attempt.ended_at or seen.now) - attempt.created_at,
        "granted": attempt.grant.to_mapping() if attempt.grant else None,
        "target": held.target.to_mapping() if held and held.target else None,
        "reason": attempt.reason.to_mapping() if attempt.reason else None,
        "stop": attempt.stop.value if attempt.stop else None,
        "stop_why": attempt.stop_why,
        "held_by": rivals,
    }


def _text(attempt: Attempt, seen: Snapshot) -> str:
    reason, held, rivals = attempt.reason, _held(attempt, seen), list(_rivals(attempt, seen))
    fields: dict[str, object] = {
        "job": f"{attempt.spec.key} ({attempt.id})",
        "team": attempt.spec.policy.team,
        "priority": attempt.spec.policy.priority,
        "state": attempt.exit.reason.value if attempt.exit else attempt.state.value,
        "waited": f"{(attempt.granted_at or attempt.ended_at or seen.now) - attempt.created_at:.0f} s",
        "granted": attempt.grant.text() if attempt.grant else None,
        "because": attempt.grant.reason or None if attempt.grant else None,
        "becomes": held.target.text() if held and held.target else None,
        "stop wanted": f"{attempt.stop.value}: {attempt.stop_why}" if attempt.stop and attempt.stop_why else attempt.stop,
    }
    if reason is not None:
        fields |= {
            "why": reason.text,
            "short of": f"{reason.shortfall:g} {reason.binding}" if reason.shortfall else None,
            "worth": f"{reason.price:g} for one more unit" if reason.price else None,
            "starts": f"about {when(reason.expected_start)}" if reason.expected_start is not None else None,
        }
    helps = [f"  - {text}" for text in reason.unblock] if reason is not None else []
    holders = [f"  - {rival.demand.id} of team {rival.demand.team}: {describe_amounts(rival.grant.amounts)}" for rival in rivals[:10]]
    said = [listing(fields), *(["what would help:", *helps] if helps else []), *(["held there by:", *holders] if holders else [])]
    return "\n".join(said)
