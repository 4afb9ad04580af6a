"""Are reasons true? Unblocks acted upon, and forecast starts against what happened.

Run ``python tests/bench/bench_reasons.py [--quick] [--seeds N]``. Random workloads over strategies,
loads and clusters are replayed; in some rounds every unblock of every waiting demand
is acted upon, each alone, and the demand must start in the next round. Each demand's first
forecast is kept: the middle 80 % should hold 75 to 85 % of the starts. Who comes later and goes
first is learnt from other seeds, the history of the installation.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from airflow_dla.allocation import STRATEGIES, Policy, TeamShare
from airflow_dla.allocation.simulation.acting import Problem, unblocks
from airflow_dla.allocation.simulation.replay import Decide, ReplayJob, Ruling, Scene, replay
from airflow_dla.allocation.simulation.rounds import Ruled, facts
from airflow_dla.allocation.starts import stretch
from airflow_dla.specs import Demand, Node, Request, Unblock

Waits = npt.NDArray[np.float64]

SPREAD = 0.5
TEAMS = ("vision", "speech", "search")
HOUR = 3600.0
SHARES = (
    TeamShare(name="vision", guaranteed={"gpu": 8.0}, lend={"gpu": 2.0}),
    TeamShare(name="speech", guaranteed={"gpu": 4.0}, borrow={"gpu": 4.0}),
)


@dataclass
class Found:
    """What was counted."""

    acted: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    told: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)


def jobs(seed: int, load: float, gpus: int, days: float, *, elastic: float = 0.2) -> list[ReplayJob]:
    """Draw jobs of one to eight GPUs, lognormal about what is expected of them."""
    rng = np.random.default_rng(seed)
    sizes, mean_s = np.array([1, 1, 1, 1, 2, 2, 4, 8]), 1.8 * HOUR
    rate = load * gpus / (sizes.mean() * mean_s)
    at, made = 0.0, list[ReplayJob]()
    while (at := at + rng.exponential(1 / rate)) < days * 24 * HOUR:
        wanted = int(rng.choice(sizes))
        expected = float(np.clip(rng.lognormal(np.log(0.9 * HOUR), 1.0), 120, 24 * HOUR))
        least = max(1, wanted // 2) if rng.random() < elastic else wanted
        request = Request.from_mapping(
            {"gpu": wanted if least == wanted else f"{least}-{wanted}", "cpu": 4 * wanted, "memory": 8.0 * wanted}
        )
        demand = Demand(
            id=f"j{len(made):05d}", request=request, team=str(rng.choice(TEAMS)), priority=int(rng.choice([0, 0, 0, 1])),
            created_at=at, run_s=expected,
        )  # fmt: skip
        made.append(ReplayJob(demand=demand, run_s=expected * float(np.exp(SPREAD * rng.normal()))))
    return made


def cluster(kind: str) -> list[Node]:
    """Make nodes: with and without ids, alike and unlike."""
    if kind == "small":
        return [Node(name="only", capacity={"gpu": 8.0, "cpu": 40.0, "memory": 80.0})]
    sizes = {"even": (8, 8, 8), "mixed": (8, 8, 4, 4)}[kind]
    return [
        Node(
            name=f"n{place}", capacity={"gpu": float(size), "cpu": 5.0 * size, "memory": 9.0 * size},
            gpu_ids=tuple(f"g{place}-{gpu}" for gpu in range(size)) if kind == "mixed" else (),
        )
        for place, size in enumerate(sizes)
    ]  # fmt: skip


def watched(policy: Policy, found: Found, *, known_ends: bool, every: int) -> Decide:
    """Return the round of a policy that also acts, now and then, upon what it says."""
    count = 0

    def decide(scene: Scene) -> Ruling:
        nonlocal count
        count += 1
        problem = Problem(scene.nodes, scene.live, scene.pending, facts(policy, scene, known_ends=known_ends), scene.now)
        answer = problem.plan()
        for name, reason in answer.waiting.items():
            if reason.expected_start is not None and reason.start_low is not None:
                found.told.setdefault(name, (scene.now, reason.start_low, reason.expected_start, reason.start_high or np.inf))
        if count % every == 0:
            act(problem, answer, found)
        return Ruled(grants=answer.grants, reasons={**answer.waiting, **answer.shrunk})

    return decide


def act(problem: Problem, answer: object, found: Found) -> None:
    """Act upon every unblock of everybody who waits."""
    for name, reason in [*list(answer.waiting.items())[:12], *list(answer.shrunk.items())[:4]]:  # type: ignore[attr-defined]
        for unblock in reason.unblock:
            assert isinstance(unblock, Unblock)
            kind = ("more: " if name in answer.grants else "") + "+".join(step.kind for step in unblock.steps)  # type: ignore[attr-defined]
            found.acted[kind] += 1
            if not unblocks(problem, answer, name, unblock):  # type: ignore[arg-type]
                found.failed[kind] += 1
                found.examples.append(f"{problem.policy.strategy} {name}: {reason.text!r} -> {unblock!r}")


def cases() -> Iterator[tuple[str, Policy]]:
    """Yield policies by name."""
    for strategy in STRATEGIES:
        yield strategy, Policy(strategy=strategy, spread=SPREAD)
    for strategy in ("lp", "fair", "auction"):
        yield f"{strategy} teams", Policy(strategy=strategy, spread=SPREAD, teams=SHARES)
        yield f"{strategy} quotas", Policy(strategy=strategy, spread=SPREAD, quotas={"vision": {"gpu": 8.0}, "speech": {"cpu": 30.0}})
    yield "auction budgets", Policy(strategy="auction", spread=SPREAD, budgets={"vision": 1.0, "speech": 3.0})


def followed(policy: Policy, *, known_ends: bool, seeds: range, days: float, every: int) -> tuple[Found, Waits]:
    """Replay the workloads of some seeds; return what was acted upon, and forecasts with what they came to."""
    row, waits = Found(), []
    for seed in seeds:
        for kind, load in (("small", 0.9), ("even", 0.8), ("even", 1.1), ("mixed", 0.95)):
            one, nodes = Found(), cluster(kind)
            drawn = jobs(seed, load, int(sum(node.capacity["gpu"] for node in nodes)), days)
            outcome = replay(drawn, nodes, watched(policy, one, known_ends=known_ends, every=every))
            started = {course.job.demand.id: course.granted_at for course in outcome.courses}
            waits += [(now, *told, started[job] or np.inf) for job, (now, *told) in one.told.items()]
            row.acted.update(one.acted)
            row.failed.update(one.failed)
            row.examples += one.examples
    found = np.array(waits).reshape(len(waits), 5)
    return row, found[:, 1:] - found[:, :1]


def covered(waits: Waits) -> npt.NDArray[np.bool_]:
    """Return which waits were within what was forecast."""
    return (waits[:, 0] <= waits[:, 3]) & (waits[:, 3] <= waits[:, 2])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--days", type=float, default=2.0)
    args = parser.parse_args()
    seeds = range(1) if args.quick else range(args.seeds)
    began, everything, coverage = time.process_time(), Found(), []
    unlearnt: list[npt.NDArray[np.bool_]] = []
    print(  # noqa: T201
        "| policy | ends | unblocks | true | forecasts | in 80 % | learnt | median error, min | stretch |\n" + 9 * "|---" + "|"
    )
    for name, policy in cases():
        for known in (True, False):
            told = "- | - | - | - | -"
            if known:
                plain, before = replace(policy, stretch=(1.0, 1.0, 1.0)), range(100, 100 + len(seeds))
                _, past = followed(plain, known_ends=True, seeds=before, days=args.days, every=10**9)
                learnt = replace(policy, stretch=stretch(past[:, :3], past[:, 3]))
                row, waits = followed(learnt, known_ends=True, seeds=seeds, days=args.days, every=17)
                coverage.append(covered(waits))
                usual = past * np.array([*policy.stretch, 1.0])
                unlearnt.append(covered(usual))
                error = np.median(np.abs(waits[:, 3] - waits[:, 1])) / 60
                factors = ", ".join(f"{factor:.2f}" for factor in learnt.stretch)
                told = f"{len(waits)} | {unlearnt[-1].mean():.1%} | {coverage[-1].mean():.1%} | {error:.1f} | {factors}"
            else:
                row, _ = followed(policy, known_ends=False, seeds=seeds[:1], days=args.days, every=17)
            everything.acted.update(row.acted)
            everything.failed.update(row.failed)
            everything.examples += row.examples[:3]
            true = 1 - sum(row.failed.values()) / max(1, sum(row.acted.values()))
            print(f"| {name} | {'known' if known else 'unknown'} | {sum(row.acted.values())} | {true:.2%} | {told} |", flush=True)  # noqa: T201
    acted, failed = sum(everything.acted.values()), sum(everything.failed.values())
    print(f"\nunblocks that unblock: {acted - failed} of {acted}; by steps:")  # noqa: T201
    for kind, count in sorted(everything.acted.items()):
        print(f"  {kind}: {count - everything.failed[kind]} of {count}")  # noqa: T201
    inside, first = np.concatenate(coverage), np.concatenate(unlearnt)
    said = f"forecast starts inside their 80 %: {inside.mean():.1%} of {len(inside)}, {first.mean():.1%} before anything is learnt"
    print(f"{said}; CPU {time.process_time() - began:.0f} s")  # noqa: T201
    for example in everything.examples[:20]:
        print("  not true:", example)  # noqa: T201


if __name__ == "__main__":
    main()
