"""What a job's end looks like in XCom and in the task log."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

from airflow_dla.ledger import Attempt
from airflow_dla.specs import ArtifactRef

#: Metrics that cross XCom, at most; the rest stays in the ledger.
MAX_METRICS: Final = 16
#: Bytes that one task's XComs may have, all together.
MAX_XCOM: Final = 1024


def result(attempt: Attempt) -> dict[str, Any]:
    """Return a job's outputs and metrics as flat, small, plain values.

    Outputs come first; metrics are left out from the end when all would be more than 1 KiB.
    """
    exit_ = attempt.exit
    assert exit_ is not None
    values: dict[str, Any] = {name: made_by(ref, attempt).to_mapping() for name, ref in exit_.outputs.items()}
    for name, value in list(exit_.metrics.items())[:MAX_METRICS]:
        if name not in values and len(json.dumps({**values, name: value})) < MAX_XCOM:
            values[name] = value
    return values


def made_by(ref: ArtifactRef, attempt: Attempt) -> ArtifactRef:
    """Return a reference that remembers which attempt made the artifact."""
    return dataclasses.replace(ref, by=attempt.id)


def say_end(log: Any, attempt: Attempt) -> None:
    """Write a job's end into the task log: how, how long, with what, what it made."""
    exit_ = attempt.exit
    assert exit_ is not None
    took = f" after {exit_.ended_at - exit_.started_at:.1f} s" if exit_.started_at else ""
    log.info("Job %s attempt %d: %s%s. %s", attempt.spec.key, attempt.number, exit_.reason.value, took, exit_.message)
    if attempt.grant is not None:
        log.info("It was granted %s (%s); peaks: %s", attempt.grant.text(), attempt.grant.reason, dict(exit_.peaks) or "unknown")
    for name, ref in exit_.outputs.items():
        log.info("Output %s: %s %s, %d bytes", name, ref.kind, ref.digest, ref.size)
    if exit_.metrics:
        log.info("Metrics: %s", dict(exit_.metrics))
