"""What a demo run came to, for a person and for a program; pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_dla.specs.grants import describe_amounts


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step.

    Parameters
    ----------
    name, state : str
    seconds : float
        From its task's begin to its end.
    granted : mapping of resource to float
        Empty when it never had a grant.
    reason : str
        Why this much.
    error : str
        What went wrong, empty when nothing did.
    log : path or None
        Its task log.
    """

    name: str
    state: str
    seconds: float
    granted: Mapping[str, float]
    reason: str
    error: str = ""
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole run.

    Parameters
    ----------
    home : path
    run : str
        Airflow's id of it.
    steps : tuple of `StepReport`
        In the order they ran.
    accuracy : float or None
        On the held-out third.
    version : int or None
    digest : str or None
        Of the model version.
    model, predictions : path or None
        Folders with plain files.
    store : str
    """

    home: Path
    run: str
    steps: tuple[StepReport, ...]
    accuracy: float | None
    version: int | None
    digest: str | None
    model: Path | None
    predictions: Path | None
    store: str

    @property
    def succeeded(self) -> bool:
        """Whether every step did what it should."""
        return bool(self.steps) and all(step.state == "success" for step in self.steps)


def as_mapping(outcome: Outcome, wall_s: float) -> dict[str, Any]:
    """Return what ``--json`` prints.

    Parameters
    ----------
    outcome : `Outcome`
    wall_s : float
        Seconds from the start of the process to the report.
    """
    return {
        "accuracy": outcome.accuracy,
        "version": outcome.version,
        "digest": outcome.digest,
        "wall_s": round(wall_s, 2),
        "steps": [
            {"name": step.name, "state": step.state, "seconds": step.seconds, "granted": dict(step.granted), "reason": step.reason}
            for step in outcome.steps
        ],
    }


def as_text(outcome: Outcome, wall_s: float) -> str:
    """Return the report for a person."""
    parts = (_summary(outcome, wall_s), _table(outcome.steps), failures(outcome.steps), _where(outcome))
    return "\n\n".join(text for part in parts if (text := "\n".join(part))) + "\n"


def _summary(outcome: Outcome, wall_s: float) -> Iterator[str]:
    verdict = "all steps succeeded" if outcome.succeeded else "NOT all steps succeeded"
    yield f"digits, run {outcome.run}: {verdict} in {wall_s:.1f} s"
    if outcome.accuracy is not None:
        yield f"  accuracy {outcome.accuracy:.4f} on the held-out third of 1,797 images"
    if outcome.version is not None:
        yield f"  model    digits@{outcome.version}, {outcome.digest}"


def _table(steps: Sequence[StepReport]) -> list[str]:
    rows = [("step", "state", "seconds", "granted", "why")]
    rows += [(step.name, step.state, f"{step.seconds:.1f}", describe_amounts(step.granted) or "-", step.reason or "-") for step in steps]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]).rstrip() for row in rows]


def failures(steps: Sequence[StepReport]) -> Iterator[str]:
    """Yield what went wrong in each step, and where its log is."""
    for step in steps:
        if step.error:
            yield f"{step.name} {step.state}: {step.error}"
            yield f"  its log: {step.log}"


def _where(outcome: Outcome) -> Iterator[str]:
    yield "Where things are"
    if outcome.model is not None:
        yield f"  model        {outcome.model}"
    if outcome.predictions is not None:
        yield f"  predictions  {outcome.predictions}"
    yield f"  artifacts    {outcome.store}"
    yield f"  DAG          {outcome.home / 'dags' / 'digits.py'}"
    yield ""
    yield "Next"
    yield f"  export AIRFLOW_HOME={shlex.quote(str(outcome.home))}"
    yield "  airflow standalone              # then open http://localhost:8080: this run is there, with its logs"
    yield "  airflow dla models list         # the versions so far, and who is champion"
    yield "  airflow dla jobs list           # what each job was granted, and how it ended"
