"""Who borrows, who is guarded, and who may take back."""

from __future__ import annotations

from airflow_dla.allocation import TeamShare
from airflow_dla.allocation.lending import Lending, reclaiming
from airflow_dla.specs import Demand, Request

TREE = (
    TeamShare(name="vision", guaranteed={"gpu": 2.0}),
    TeamShare(name="ocr", parent="vision", guaranteed={"gpu": 2.0}, reclaim_after_s=60.0),
    TeamShare(name="speech", guaranteed={"gpu": 4.0}),
    TeamShare(name="guests"),
)


def test_a_child_that_uses_its_parents_guarantee_borrows_from_nobody_outside() -> None:
    """Three GPUs of ocr are within the four of vision; five are not."""
    assert Lending(TREE, {"ocr": {"gpu": 3.0}}).guards("ocr", {"gpu": 3.0}, "speech")
    assert not Lending(TREE, {"ocr": {"gpu": 5.0}}).guards("ocr", {"gpu": 5.0}, "speech")


def test_what_no_guarantee_names_is_guarded_by_priority_alone() -> None:
    """CPUs are not named; guests are guaranteed nothing; a team does not guard against itself."""
    lending = Lending(TREE, {"ocr": {"cpu": 9.0, "gpu": 1.0}, "guests": {"gpu": 1.0}})
    assert not lending.guards("ocr", {"cpu": 9.0}, "speech")
    assert lending.guards("ocr", {"cpu": 9.0, "gpu": 1.0}, "speech")
    assert not lending.guards("guests", {"gpu": 1.0}, "speech")
    assert not lending.guards("ocr", {"gpu": 1.0}, "ocr")


def test_a_claim_ends_where_the_guarantee_does() -> None:
    """One more fits, two do not; nothing is claimed of what is not guaranteed."""
    lending = Lending(TREE, {"ocr": {"gpu": 1.0}})
    assert lending.claim("ocr", {"gpu": 1.0, "cpu": 4.0}) == ("gpu",)
    assert lending.claim("ocr", {"gpu": 2.0}) == ()
    assert lending.claim("guests", {"gpu": 1.0}) == ()
    assert lending.claim("ocr", {"cpu": 1.0}) == ()


def test_those_who_reclaim_fit_the_guarantee_together() -> None:
    """The highest priority first, then the oldest; not before its time; not teams that say no time."""

    def ask(name: str, team: str, **more: int) -> Demand:
        return Demand(
            id=name, team=team, request=Request.from_mapping({"gpu": 1}), priority=more.get("priority", 0), created_at=more.get("at", 0)
        )

    pending = [ask("a", "ocr"), ask("b", "ocr", priority=1), ask("c", "ocr", at=5), ask("late", "ocr", at=50), ask("s", "speech")]
    assert reclaiming(pending, TREE, {}, 100.0) == {"a", "b"}
    assert reclaiming(pending, TREE, {"ocr": {"gpu": 1.0}}, 100.0) == {"b"}
    assert reclaiming(pending, TREE, {}, 10.0) == frozenset()
