"""Tests of naming jobs for people."""

from __future__ import annotations

from fakes.flaky_ledger import FlakyLedger
from fixtures_workspace import job_spec

from airflow_dla.control import Workspace
from airflow_dla.control.naming import named


def test_others_are_named_and_one_knows_oneself(workspace: Workspace) -> None:
    """Ids of other jobs become names; the own one, unknown ones and other numbers stay."""
    mine, other = (workspace.ledger.open_attempt(job_spec(task)) for task in ("mine", "other"))
    unknown = "0" * 20 + ".1"
    text = f"{mine.id} stops for {other.id}, not for {unknown}; it holds 0.5 cpu"
    assert named(workspace.ledger, text, but=mine.job) == f"{mine.id} stops for d.other (r), not for {unknown}; it holds 0.5 cpu"


def test_most_lines_ask_nobody(workspace: Workspace) -> None:
    """A line without another job's id costs no read."""
    mine = workspace.ledger.open_attempt(job_spec("mine"))
    counting = FlakyLedger(workspace.ledger)
    assert named(counting, f"Launched attempt 1 ({mine.id}).", but=mine.job).endswith(f"({mine.id}).")
    assert counting.calls == []
