"""Laws of a simulation, on every strategy; and cases that can be counted by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dla.allocation.heterogeneous import OBJECTIVES
from airflow_dla.allocation.simulation import SCHEDULERS, Decision, Scheduler, View, Workload, report, scheduler, simulate
from airflow_dla.errors import InvalidSpec, SolverFailed

CAPACITY = np.array([4, 5])
WAYS = [("heterogeneous", objective) for objective in sorted(OBJECTIVES)] + [
    (name, "") for name in sorted(SCHEDULERS) if name != "heterogeneous"
]


def jobs(*rows: tuple[float, int, float, list[float]]) -> Workload:
    """Make jobs of arrival, GPUs, steps and throughput."""
    arrival, gpus, steps, throughput = zip(*rows, strict=True)
    count = len(rows)
    return Workload(
        np.array(arrival, float),
        np.array(gpus),
        np.array(steps, float),
        np.array(throughput, float),
        np.ones(count),
        np.full(count, np.inf),
    )


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Draw jobs that fit the cluster."""
    row = st.tuples(
        st.sampled_from([0.0, 0.0, 30.0, 500.0, 2000.0]),
        st.sampled_from([1, 1, 2, 4]),
        st.floats(10, 5000),
        st.sampled_from([[4.0, 1.0], [2.0, 2.0], [1.0, 0.0], [3.0, 2.5]]),
    )
    return jobs(*draw(st.lists(row, min_size=1, max_size=7)))


class Watch:
    """Asks a scheduler, and checks each of its decisions."""

    def __init__(self, asked: Scheduler) -> None:
        self.asked = asked

    def __call__(self, view: View) -> Decision:
        """Decide as the scheduler does."""
        decision = self.asked(view)
        runs = decision.kind >= 0
        used = np.bincount(decision.kind[runs], weights=view.gpus[runs], minlength=len(view.capacity))
        assert (used <= view.capacity).all()
        assert (view.throughput[runs, decision.kind[runs]] > 0).all()
        assert (view.arrival_s <= view.now_s).all()
        return decision


@pytest.mark.parametrize(("strategy", "objective"), WAYS)
@settings(max_examples=12, deadline=None)
@given(workload=workloads(), round_s=st.sampled_from([None, 100.0]), restart_s=st.sampled_from([0.0, 20.0]))
def test_laws(strategy: str, objective: str, workload: Workload, round_s: float | None, restart_s: float) -> None:
    """Gangs are whole and fit, only jobs that arrived are seen, all steps are made, and the order of jobs means nothing."""
    found = simulate(workload, CAPACITY, Watch(scheduler(strategy, objective)), round_s=round_s, restart_s=restart_s)
    fastest = workload.steps / workload.throughput.max(axis=1)
    assert (found.finish_s >= workload.arrival_s + fastest * (1 - 1e-9)).all()
    assert found.made == pytest.approx(workload.steps)
    made = (found.run_s * workload.throughput).sum(axis=1)
    assert (made >= workload.steps * (1 - 1e-6)).all()
    if restart_s == 0:
        assert made == pytest.approx(workload.steps, rel=1e-6)
    assert (found.run_s.sum(axis=1) <= (found.finish_s - workload.arrival_s) * (1 + 1e-9)).all()
    back = np.arange(len(workload.steps))[::-1]
    turned = Workload(*(getattr(workload, field.name)[back] for field in dataclasses.fields(workload)))
    again = simulate(turned, CAPACITY, scheduler(strategy, objective), round_s=round_s, restart_s=restart_s)
    assert sorted(again.finish_s) == pytest.approx(sorted(found.finish_s), rel=1e-9)


def test_is_deterministic() -> None:
    """The same workload twice gives the same numbers to the last bit."""
    rng = np.random.default_rng(5)
    rows = [(float(rng.uniform(0, 1000)), int(rng.choice([1, 2])), float(rng.uniform(10, 5000)), [3.0, 1.0]) for _ in range(30)]
    first, second = (simulate(jobs(*rows), CAPACITY, scheduler("heterogeneous", "jct")) for _ in range(2))
    assert first.finish_s.tolist() == second.finish_s.tolist()


def test_the_short_job_goes_first() -> None:
    """One GPU, 100 s and 10 s: the short one runs first, then the long one."""
    found = simulate(jobs((0, 1, 100, [1.0]), (0, 1, 10, [1.0])), np.array([1]), scheduler("heterogeneous", "jct"))
    assert found.finish_s.tolist() == pytest.approx([110, 10])
    late = simulate(jobs((0, 1, 100, [1.0]), (0, 1, 10, [1.0])), np.array([1]), scheduler("fifo"))
    assert sorted(late.finish_s) == pytest.approx([10, 110])


def test_who_gains_most_gets_the_fast_gpu() -> None:
    """Two equally long jobs: the one that the slow type slows down more takes the fast one."""
    found = simulate(jobs((0, 1, 100, [1.0, 0.9]), (0, 1, 100, [1.0, 0.1])), np.array([1, 1]), scheduler("heterogeneous", "jct"))
    assert found.finish_s[1] == pytest.approx(100)
    assert found.finish_s[0] < 100 / 0.9 + 1e-6


def test_a_restart_costs_its_time_and_no_step() -> None:
    """A short job takes the only GPU; the long one pays for going on afterwards, not for its first start."""
    work = jobs((0, 1, 1000, [1.0]), (100, 1, 10, [1.0]))
    found = simulate(work, np.array([1]), scheduler("heterogeneous", "jct"), restart_s=5)
    assert found.restarts.tolist() == [1, 0]
    assert found.finish_s.tolist() == pytest.approx([1015, 110])
    assert found.made.tolist() == [1000, 10]


def test_rounds_make_arrivals_wait() -> None:
    """Who arrives within a round is seen at the next; who ends within it leaves its GPU at once."""
    work = jobs((0, 1, 150, [1.0]), (10, 1, 20, [1.0]))
    assert simulate(work, np.array([2]), scheduler("fifo"), round_s=100).finish_s.tolist() == pytest.approx([150, 120])
    assert simulate(work, np.array([1]), scheduler("fifo"), round_s=100).finish_s.tolist() == pytest.approx([150, 170])


def test_shares_are_realised_by_turns() -> None:
    """Two jobs share one GPU fairly: half-way neither has had more than a turn beyond its half."""
    work = jobs((0, 1, 7200, [1.0]), (0, 1, 7200, [1.0]))
    found = simulate(work, np.array([1]), scheduler("heterogeneous", "max-min"))
    assert abs(found.finish_s[0] - found.finish_s[1]) <= 360 + 1e-6


def test_measures() -> None:
    """Completion, waiting, makespan, utilisation and fairness of a case counted by hand."""
    work = jobs((0, 1, 100, [1.0]), (0, 1, 100, [1.0]))
    found = report(work, np.array([1]), simulate(work, np.array([1]), scheduler("fifo")))
    assert sorted(found.jct_s) == pytest.approx([100, 200])
    assert sorted(found.wait_s) == pytest.approx([0, 100])
    assert (found.makespan_s, found.utilisation) == pytest.approx((200, 1.0))
    # Two are present for 100 s; the second is then alone for 100 s, so n is 1.5 for it.
    assert sorted(found.fairness) == pytest.approx([100 / 200, 200 / 150])
    assert len(report(work, np.array([1]), simulate(work, np.array([1]), scheduler("fifo")), slice(1, 2)).jct_s) == 1


def test_refuses_what_cannot_be_simulated() -> None:
    """Jobs that fit nowhere, unknown names and senseless times are clear errors."""
    work = jobs((0, 8, 100, [1.0, 0.0]))
    with pytest.raises(InvalidSpec, match="job 0 can never run: it takes 8 GPUs"):
        simulate(work, np.array([4, 8]), scheduler("fifo"))
    with pytest.raises(InvalidSpec, match="must have a GPU"):
        simulate(work, np.array([0, 0]), scheduler("fifo"))
    with pytest.raises(InvalidSpec, match="fifo, heterogeneous, las, typed-fifo"):
        scheduler("lifo")
    with pytest.raises(InvalidSpec, match="known are cost"):
        scheduler("heterogeneous", "speed")
    small = jobs((0, 1, 100, [1.0]))
    for wrong in ({"round_s": 0.0}, {"restart_s": -1.0}, {"round_s": float("nan")}):
        with pytest.raises(InvalidSpec, match="_s must be"):
            simulate(small, np.array([1]), scheduler("fifo"), **wrong)
    with pytest.raises(SolverFailed, match="runs none of 1 jobs"):
        simulate(small, np.array([1]), lambda view: Decision(view.kind))
    with pytest.raises(InvalidSpec, match="no job is measured"):
        report(small, np.array([1]), simulate(small, np.array([1]), scheduler("fifo")), slice(5, 9))


@pytest.mark.parametrize("field", ["arrival_s", "gpus", "steps", "weight", "throughput", "deadline_s"])
def test_refuses_numbers_that_break_their_rule(field: str) -> None:
    """Each names the field and the job."""
    good = jobs((0, 1, 100, [1.0]), (0, 1, 100, [1.0]))
    bad = getattr(good, field).astype(float)
    bad[1] = np.nan
    with pytest.raises(InvalidSpec, match=f"{field} must be .*job 1"):
        dataclasses.replace(good, **{field: bad})


def test_deadlines_matter_to_slo() -> None:
    """The slower job is late unless deadlines count; one that nothing can save is given up."""
    work = jobs((0, 1, 50, [1.0]), (0, 1, 200, [4.0]))
    tight = dataclasses.replace(work, deadline_s=np.array([60.0, np.inf]))
    late = {
        objective: report(tight, np.array([1]), simulate(tight, np.array([1]), scheduler("heterogeneous", objective))).late
        for objective in ("makespan", "slo")
    }
    assert late["slo"] == 0
    lost = dataclasses.replace(work, deadline_s=np.array([10.0, np.inf]))
    found = simulate(lost, np.array([1]), scheduler("heterogeneous", "slo"))
    assert found.finish_s.max() == pytest.approx(100)


def test_a_scheduler_may_be_used_again() -> None:
    """What it keeps from one simulation does not change the next."""
    work = jobs((0, 1, 900, [2.0, 1.0]), (100, 2, 900, [3.0, 1.0]), (200, 4, 5000, [1.0, 2.0]))
    used = scheduler("heterogeneous", "finish-time")
    first, second = (simulate(work, CAPACITY, used).finish_s.tolist() for _ in range(2))
    assert first == second
