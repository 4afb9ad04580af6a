"""Our own rounds, replayed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_dla.allocation import STRATEGIES, Policy, TeamShare
from airflow_dla.allocation.simulation.measures import measure, waits
from airflow_dla.allocation.simulation.replay import Replayed, ReplayJob, Scene, by_gpus, replay
from airflow_dla.allocation.simulation.rounds import Ruled, planned, round_of
from airflow_dla.errors import InvalidSpec, SolverFailed
from airflow_dla.specs import Demand, Grant, Node, Request

FOUR = (Node(name="n1", capacity={"gpu": 4.0}),)


def job(name: str, at: float, lasts: float, gpu: Any = 1, **fields: Any) -> ReplayJob:
    """Make a job."""
    return ReplayJob(demand=Demand(id=name, request=Request.from_mapping({"gpu": gpu}), created_at=at, **fields), run_s=lasts)


@st.composite
def workloads(draw: Callable[..., Any]) -> list[ReplayJob]:
    """Make jobs of two teams, some with a known run time."""
    count = draw(st.integers(1, 14))
    return [
        job(
            f"j{index}",
            float(draw(st.integers(0, 50))),
            float(draw(st.integers(1, 40))),
            draw(st.sampled_from([1, 2, 4, "1-3"])),
            team=draw(st.sampled_from(["red", "blue"])),
            priority=draw(st.integers(0, 2)),
            run_s=draw(st.sampled_from([None, 10.0, 30.0])),
        )
        for index in range(count)
    ]


LAW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors])
ROOM = (Node(name="n1", capacity={"gpu": 4.0}), Node(name="n2", capacity={"gpu": 2.0}, gpu_ids=("a", "b")))


@pytest.mark.parametrize("strategy", STRATEGIES)
@LAW
@given(jobs=workloads(), seed=st.integers(0, 9))
def test_no_node_is_over_granted_and_the_order_of_listing_means_nothing(strategy: str, jobs: list[ReplayJob], seed: int) -> None:
    """At every moment what is held is at most what there is; shuffled jobs have the same outcome."""
    decide = planned(Policy(strategy=strategy), known_ends=True)
    found = replay(jobs, ROOM, decide)
    stays = [stay for course in found.courses for stay in course.stays]
    for moment in {stay.since for stay in stays}:
        for node in ROOM:
            held = sum(stay.grant.amounts["gpu"] for stay in stays if stay.grant.node == node.name and stay.since <= moment < stay.until)
            assert held <= node.capacity["gpu"] + 1e-9
    assert replay(random.Random(seed).sample(jobs, len(jobs)), ROOM, decide) == found


@LAW
@given(jobs=workloads())
def test_nobody_waits_while_what_it_needs_is_free(jobs: list[ReplayJob]) -> None:
    """Work-conserving: without backfill whoever fits starts, so every job ends, and no GPU idles beside one that fits it."""
    room = (Node(name="n1", capacity={"gpu": 4.0}),)
    found = replay(jobs, room, planned(Policy()))
    assert all(course.ended_at is not None for course in found.courses)
    stays = [stay for course in found.courses for stay in course.stays]
    for moment in {at for stay in stays for at in (stay.since, stay.until)}:
        held = sum(stay.grant.amounts["gpu"] for stay in stays if stay.since <= moment < stay.until)
        for course in found.courses:
            if any(since <= moment < to for since, to in waits(course, found.over)):
                assert course.job.demand.request.amounts["gpu"].minimum > 4.0 - held


def preempting(scene: Scene) -> Ruled:
    """Stop whoever runs for whoever is more important, else plan."""
    answer = planned(Policy())(scene)
    for held in scene.held:
        if held.stopping or not any(demand.priority > held.demand.priority for demand in scene.pending if demand.id in answer.reasons):
            continue
        return Ruled(grants=answer.grants, reasons=answer.reasons, preempted={held.grant.id: "for what matters more"})
    return answer  # type: ignore[return-value]


def test_a_preempted_job_goes_on_with_what_is_left() -> None:
    """It keeps its progress, holds its grant until it has stopped, and pays for starting again."""
    jobs = [job("low", 0.0, 100.0, 4), job("high", 40.0, 10.0, 4, priority=5)]
    found = replay(jobs, FOUR, preempting, restart_s=7.0, grace_s=5.0)
    low, high = found.courses
    assert (low.preemptions, high.granted_at, high.ended_at) == (1, 45.0, 55.0)
    assert low.ended_at == 55.0 + 7.0 + 55.0
    assert sum(stay.lost_s for stay in low.stays) == 7.0
    assert waits(low, found.over) == [(45.0, 55.0)]
    whole = measure(found).all
    assert whole.gpu_hours - whole.useful_gpu_hours == pytest.approx(4 * 7.0 / 3600)


def test_a_resized_job_changes_its_speed() -> None:
    """Half of the GPUs, half as fast."""

    def shrinking(scene: Scene) -> Ruled:
        answer = planned(Policy())(scene)
        targets = {
            held.grant.id: Grant(id=held.grant.id, node="n1", amounts={"gpu": 2.0})
            for held in scene.held
            if scene.now >= 10.0 and held.grant.amounts["gpu"] > 2
        }
        return Ruled(grants=answer.grants, reasons=answer.reasons, targets=targets, again_at=10.0)

    found = replay([job("a", 0.0, 20.0, "1-4")], FOUR, shrinking, speed=by_gpus)
    assert found.courses[0].ended_at == 30.0
    assert [stay.grant.amounts["gpu"] for stay in found.courses[0].stays] == [4.0, 2.0]


def test_what_waits_says_since_when_and_why() -> None:
    """Reasons are kept when they change; one that is never granted waits until the end."""
    jobs = [job("a", 0.0, 50.0, 4), job("b", 5.0, 10.0, 2), job("c", 6.0, 10.0, 9)]
    found = replay(jobs, FOUR, round_of(Policy()))
    assert [(at, reason.binding) for at, reason in found.courses[1].reasons] == [(5.0, "gpu")]
    assert found.courses[2].reasons[0][1].never
    assert found.courses[2].granted_at is None


def test_until_ends_the_looking() -> None:
    """What runs then has not ended; what it held until then counts."""
    found = replay([job("a", 0.0, 100.0, 2)], FOUR, planned(Policy()), until=30.0)
    assert found.courses[0].ended_at is None
    assert measure(found).all.gpu_hours == pytest.approx(2 * 30 / 3600)
    assert measure(found).utilisation == pytest.approx(0.5)


def test_bad_jobs_and_decisions_are_refused() -> None:
    """Twins, no time at all, more than there is, and a round that never settles."""
    with pytest.raises(InvalidSpec, match="'a' is there twice"):
        replay([job("a", 0.0, 1.0), job("a", 1.0, 1.0)], FOUR, planned(Policy()))
    with pytest.raises(InvalidSpec, match="run_s must be a finite number of seconds > 0, got 0"):
        job("a", 0.0, 0.0)
    with pytest.raises(SolverFailed, match="which has 4"):
        replay(
            [job("a", 0.0, 1.0)],
            FOUR,
            lambda scene: Ruled(grants={one.id: Grant(id=one.id, node="n1", amounts={"gpu": 5.0}) for one in scene.pending}),
        )

    def restless(scene: Scene) -> Ruled:
        return Ruled(grants=planned(Policy())(scene).grants, preempted={held.grant.id: "because" for held in scene.held})

    with pytest.raises(SolverFailed, match="did not settle"):
        replay([job("a", 0.0, 10.0), job("b", 1.0, 10.0)], FOUR, restless)


def below(found: Replayed) -> tuple[float, float]:
    """Return how long the team red was below its guarantee, in all and at a time."""
    red = next(team for team in measure(found, {"red": {"gpu": 2.0}}).teams if team.team == "red")
    return red.below_s, red.longest_below_s


def test_a_guarantee_is_broken_while_a_demand_within_it_waits() -> None:
    """Blue holds all four for 50 s: red waits from 10 on; a demand beyond the guarantee does not count."""
    blue = job("b", 0.0, 50.0, 4, team="blue")
    assert below(replay([blue, job("r", 10.0, 5.0, 2, team="red")], FOUR, planned(Policy()))) == (40.0, 40.0)
    assert below(replay([blue, job("r", 10.0, 5.0, 3, team="red")], FOUR, planned(Policy()))) == (0.0, 0.0)
    kept = Policy(teams=(TeamShare(name="red", guaranteed={"gpu": 2.0}, lend={"gpu": 0.0}), TeamShare(name="blue")))
    half = job("b", 0.0, 50.0, 2, team="blue")
    assert below(replay([half, job("r", 10.0, 5.0, 2, team="red")], FOUR, planned(kept))) == (0.0, 0.0)
