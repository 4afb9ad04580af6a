"""Tests of whose a job is."""

from __future__ import annotations

import pytest

from airflow_dla.control import Origin, assigned, owner
from airflow_dla.errors import InvalidSpec
from airflow_dla.specs import JobPolicy, TeamSpec

VISION = TeamSpec(name="vision", dags=("ocr_*", "faces"))
OCR = TeamSpec(name="ocr", parent="vision")
SPEECH = TeamSpec(name="speech", bundles=("speech",), airflow_teams=("audio",))
OPEN = TeamSpec(name="guests")
TEAMS = (TeamSpec(name="default"), VISION, OCR, SPEECH, OPEN)


@pytest.mark.parametrize(
    ("origin", "team"),
    [
        (Origin("faces"), "vision"),
        (Origin("ocr_train", bundle="speech"), "vision"),
        (Origin("tts", bundle="speech"), "speech"),
        (Origin("tts", airflow_team="audio"), "speech"),
        (Origin("else", bundle="main"), "default"),
    ],
)
def test_the_closest_claim_counts(origin: Origin, team: str) -> None:
    """A DAG's own name, then a pattern, then its bundle, then its Airflow team."""
    assert owner(TEAMS, origin) == team


def test_of_a_team_and_its_child_the_child() -> None:
    """Both may name a DAG."""
    assert owner([VISION, TeamSpec(name="ocr", parent="vision", dags=("ocr_*",))], Origin("ocr_x")) == "ocr"


def test_two_that_claim_alike_are_refused() -> None:
    """Nobody may guess who pays."""
    with pytest.raises(InvalidSpec, match="claimed by the teams a, b alike"):
        owner([TeamSpec(name="b", dags=("x",)), TeamSpec(name="a", dags=("x",))], Origin("x"))


@pytest.mark.parametrize(
    ("named", "origin", "team"),
    [
        ("default", Origin("faces"), "vision"),
        ("vision", Origin("faces"), "vision"),
        ("ocr", Origin("faces"), "ocr"),
        ("guests", Origin("else"), "guests"),
        ("default", Origin("else"), "default"),
    ],
)
def test_a_dag_may_narrow_its_team(named: str, origin: Origin, team: str) -> None:
    """Its own, one below it, or one that is open to all."""
    assert assigned(JobPolicy(team=named), TEAMS, origin).team == team


@pytest.mark.parametrize(
    ("named", "origin", "said"),
    [
        ("speech", Origin("faces"), "belongs to team 'vision'"),
        ("guests", Origin("faces"), "belongs to team 'vision'"),
        ("ocr", Origin("else"), "belongs to team 'default'"),
        ("visoin", Origin("faces"), "is no team; known are default, guests, ocr, speech, vision"),
    ],
)
def test_a_dag_may_not_leave_its_team(named: str, origin: Origin, said: str) -> None:
    """Nor enter one that claims its own DAGs, nor one that is not there."""
    with pytest.raises(InvalidSpec, match=said):
        assigned(JobPolicy(team=named), TEAMS, origin)


def test_without_teams_any_name_will_do() -> None:
    """A laptop describes none."""
    assert assigned(JobPolicy(team="mine"), [TeamSpec(name="default")], Origin("x")).team == "mine"


def test_a_team_may_make_its_jobs_preemptible() -> None:
    """Whatever they say themselves."""
    assert assigned(JobPolicy(), [TeamSpec(name="t", dags=("x",), preemptible=True)], Origin("x")).preemptible
