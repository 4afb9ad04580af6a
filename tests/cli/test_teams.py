"""``airflow dla teams`` and ``airflow dla usage``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures_workspace import job_spec

from airflow_dla.cli.reach import Reach
from airflow_dla.control import decide
from airflow_dla.specs import Exit, ExitReason, Node

HERE = ("--conn-id", "dla_test")
TEAMS = """
vision:
  guaranteed: {gpu: 4}
  lend: {gpu: 2}
  reclaim_after: 10m
  gpu_hours: 1000
  dags: ["ocr_*"]
ocr: {parent: vision, weight: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Return a file of teams."""
    path = tmp_path / "teams.yaml"
    path.write_text(TEAMS)
    return str(path)


def test_apply_says_what_changes(dla: Any, reach: Reach, file: str) -> None:
    """First only shown, then done and logged, then nothing is left to change."""
    reach.ledger.upgrade()
    shown = dla("teams", "apply", file, "--dry-run", *HERE)
    assert "vision: new" in shown.out
    assert "only shown" in shown.out
    assert [team.name for team in reach.ledger.teams()] == ["default"]
    assert dla("teams", "apply", file, *HERE, "--json").document["applied"]
    assert {team.name: team.reclaim_after_s for team in reach.ledger.teams()} == {"default": None, "ocr": None, "vision": 600.0}
    assert dla("teams", "apply", file, *HERE).out == "nothing changes\n"


def test_a_team_that_goes_or_changes_is_named(dla: Any, reach: Reach, file: str) -> None:
    """Field by field, with both values."""
    reach.ledger.upgrade()
    dla("teams", "apply", file, *HERE)
    Path(file).write_text("vision: {guaranteed: {gpu: 8}, weight: 3}")
    said = dla("teams", "apply", file, *HERE).out
    assert "ocr: gone" in said
    assert "vision: weight 1.0 -> 3.0" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vision: {guarantee: {gpu: 1}}", "did you mean 'guaranteed'"),
        ("vision: {weight: 0}", "weight"),
        ("a: {parent: b}\nb: {parent: a}", "cycle"),
        ("a: {parent: nobody}", "nobody"),
        ("a: {lend: {gpu: 1}}", "lend"),
        ("a: {guaranteed: {gpu: 4}, quota: {gpu: 2}}", "quota"),
        ("[a, b]", "mapping"),
    ],
)
def test_contradictions_are_refused(dla: Any, reach: Reach, file: str, text: str, said: str) -> None:
    """Nothing is applied in part."""
    reach.ledger.upgrade()
    Path(file).write_text(text)
    refused = dla("teams", "apply", file, *HERE)
    assert refused.status == 1
    assert said in refused.err
    assert [team.name for team in reach.ledger.teams()] == ["default"]


def test_list_and_usage(dla: Any, reach: Reach, file: str) -> None:
    """What teams hold now, and what they held."""
    ledger = reach.ledger
    ledger.upgrade()
    dla("teams", "apply", file, *HERE)
    ledger.register_node(Node(name="n", capacity={"cpu": 4.0, "memory": 8.0}))
    attempt = ledger.open_attempt(job_spec(policy={"team": "ocr"}))
    ledger.round(lambda snapshot: decide(snapshot, reach.settings.policy), holder="h", lease_s=60)
    (ocr,) = [row for row in dla("teams", "list", *HERE, "--json").document["teams"] if row["name"] == "ocr"]
    assert ocr["holds"] == {"cpu": 1.0, "memory": 1.0}
    assert "ocr" in dla("teams", "list", *HERE).out
    ledger.finish(attempt.id, Exit(reason=ExitReason.SUCCEEDED))
    (row,) = dla("usage", *HERE, "--json").document["usage"]
    assert (row["name"], row["jobs"]) == ("ocr", 1)
    assert row["cpu_hours"] > 0
    assert dla("usage", "--by", "dag", *HERE).out.splitlines()[1].startswith("d ")
