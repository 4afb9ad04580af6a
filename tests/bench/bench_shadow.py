"""Shadow mode on a generated history: what our rounds make of what Airflow's pools made of it.

Run ``python tests/bench/bench_shadow.py [--seeds N] [--days D]``. Three teams share 40 GPUs in 5 nodes of 8. As
it was, each team had a pool of its own with as many slots as it is guaranteed GPUs, served as
Airflow serves pools: by priority weight, then age, whoever fits into the open slots of the pool
starts, and nobody is stopped. The pools are as if all GPUs were in one node: no job ever waits
for GPUs that are scattered. Ours run the same jobs on the real nodes, with guarantees of the size of
the pools, borrowing, backfill, and preemption of jobs that are preemptible.

Useful are GPU-hours in which a job made progress, before the end of the days: what it takes
to start a preempted job again is not, nor is waiting. Jobs take as long under both.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from airflow_dla.allocation import Policy, TeamShare
from airflow_dla.allocation.simulation.measures import Measures, measure
from airflow_dla.allocation.simulation.replay import Decide, ReplayJob, Scene, replay
from airflow_dla.allocation.simulation.rounds import Ruled, round_of
from airflow_dla.specs import Demand, Grant, Node, Request

DAY, HOUR = 86_400.0, 3600.0
POOLS = {"vision": 16, "speech": 12, "search": 12}
#: GPUs that each team asks for on average, in GPUs at work.
LOADS = {"vision": 22.0, "speech": 9.0, "search": 6.0}
RESTART_S = 120.0
NODES = tuple(
    Node(name=f"n{place}", capacity={"gpu": 8.0, "cpu": 96.0}, gpu_ids=tuple(f"n{place}-{gpu}" for gpu in range(8))) for place in range(5)
)
SHARES = tuple(TeamShare(name=team, guaranteed={"gpu": float(slots)}, reclaim_after_s=120.0) for team, slots in POOLS.items())


def history(seed: int, days: float) -> list[ReplayJob]:
    """Draw a month: by day more than by night, each team with bursts, lognormal run times, mostly preemptible."""
    rng, made = np.random.default_rng(seed), list[ReplayJob]()
    for team, load in LOADS.items():
        sizes, mean_s = np.array([1, 1, 1, 2, 2, 4]), 1.6 * HOUR
        rate = load / (sizes.mean() * mean_s)
        burst = np.repeat(rng.choice([0.5, 1.0, 1.5], p=[0.3, 0.4, 0.3], size=int(days * 2) + 2), 1)
        at = 0.0
        while (at := at + rng.exponential(1 / (2.2 * rate))) < days * DAY:
            intensity = burst[int(at // (DAY / 2))] * (1.0 + 0.4 * np.sin(2 * np.pi * (at / DAY - 0.25)))
            if rng.random() > intensity / 2.2:
                continue
            gpus = int(rng.choice(sizes))
            expected = float(np.clip(rng.lognormal(np.log(mean_s) - 0.405, 0.9), 120, DAY))
            demand = Demand(
                id=f"{team}-{len(made):05d}", request=Request.from_mapping({"gpu": gpus, "cpu": 4 * gpus}), team=team,
                priority=int(rng.choice([0, 0, 0, 1])), created_at=at, run_s=expected, preemptible=bool(rng.random() < 0.9),
            )  # fmt: skip
            made.append(ReplayJob(demand=demand, run_s=expected * float(np.exp(0.4 * rng.normal()))))
    return made


def pools(scene: Scene) -> Ruled:
    """Serve as Airflow serves pools: each team's own, by priority weight and age, first fit."""
    left = {
        team: slots - sum(held.grant.amounts["gpu"] for held in scene.held if held.demand.team == team) for team, slots in POOLS.items()
    }
    grants = {}
    for demand in sorted(scene.pending, key=lambda one: (-one.priority, one.created_at, one.id)):
        need = demand.request.amounts["gpu"].minimum
        if need <= left[demand.team]:
            left[demand.team] -= need
            grants[demand.id] = Grant(id=demand.id, node="all", amounts={"gpu": need})
    return Ruled(grants=grants)


def replayed(jobs: Sequence[ReplayJob], nodes: Sequence[Node], decide: Decide, days: float) -> Measures:
    """Replay and measure."""
    found = replay(jobs, nodes, decide, restart_s=RESTART_S, grace_s=30.0, until=days * DAY)
    return measure(found, {team: {"gpu": float(slots)} for team, slots in POOLS.items()}, until=days * DAY)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--days", type=float, default=30.0)
    args = parser.parse_args()
    policies = {
        "lp": Policy(teams=SHARES),
        "fair": Policy(strategy="fair", teams=SHARES),
    }
    policies = {name: replace(policy, ageing_s=6 * HOUR) for name, policy in policies.items()}
    print(f"pools {POOLS}, asked for on average {LOADS} GPUs; restart {RESTART_S:g} s; {args.days:g} days\n")  # noqa: T201
    print(  # noqa: T201
        "| seed | round | useful GPU-h | gain | p95 wait, min | change | mean wait, min | below guarantee, min | preempted | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")  # noqa: T201
    for seed in range(args.seeds):
        jobs = history(seed, args.days)
        before = replayed(jobs, [Node(name="all", capacity={"gpu": 40.0})], pools, args.days)
        said = f"{before.all.useful_gpu_hours:.0f} | | {before.all.wait_p95_s / 60:.0f} | | {before.all.wait_mean_s / 60:.0f}"
        print(f"| {seed} | pools, {len(jobs)} jobs | {said} | {max(team.longest_below_s for team in before.teams) / 60:.0f} | | |")  # noqa: T201
        for name, policy in policies.items():
            began = time.process_time()
            ours = replayed(jobs, NODES, round_of(policy), args.days)
            useful, p95 = ours.all.useful_gpu_hours, ours.all.wait_p95_s
            gain, change = useful / before.all.useful_gpu_hours - 1, p95 / before.all.wait_p95_s - 1
            longest = max(team.longest_below_s for team in ours.teams) / 60
            print(  # noqa: T201
                f"| {seed} | {name} | {useful:.0f} | {gain:+.1%} | {p95 / 60:.0f} | {change:+.0%} | {ours.all.wait_mean_s / 60:.0f}"
                f" | {longest:.1f} | {ours.all.preemptions} | {time.process_time() - began:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
