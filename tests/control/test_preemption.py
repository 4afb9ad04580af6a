"""A real training job makes way for another in mid-run and ends as if nothing had happened."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contracts.runtime import wait_until
from fixtures_workspace import job_spec

from airflow_dla.allocation import Policy
from airflow_dla.control import Crew, Follow, Listener, Timing, Workspace, ship_code
from airflow_dla.ledger import Attempt, Decision, Snapshot, SqlLedger
from airflow_dla.runtime.local import LocalRuntime
from airflow_dla.specs import ExitReason, JobSpec, Node

#: Stochastic gradient descent with a checkpoint at every fifth step; who runs when is written into one file.
TRAIN = """
import json, os, time
import numpy as np

def say(job, what):
    with open(job.args["seen"], "a") as seen:
        seen.write(f"{job.args['name']} {what} {os.getpid()}\\n")

def train(job):
    say(job, "begins")
    rng, weights, step = np.random.default_rng(job.seed), np.zeros(8), 0
    saved = job.checkpoint.load()
    if saved is not None:
        state = json.loads((saved / "state.json").read_text())
        rng.bit_generator.state = state["rng"]
        weights, step = np.array(state["weights"]), state["step"]
    job.log(resumed_at=step)
    while step < job.args["steps"]:
        if job.args["looks"] and job.stopping:
            break
        inputs = rng.normal(size=8)
        weights -= 0.05 * (inputs @ weights - inputs.sum() + 0.1 * rng.normal()) * inputs
        step += 1
        if step % 5 == 0:
            state = {"rng": rng.bit_generator.state, "weights": weights.tolist(), "step": step}
            job.checkpoint.save(lambda folder: (folder / "state.json").write_text(json.dumps(state)))
            job.log(step=step, loss=float(((weights - 1) ** 2).sum()))
        time.sleep(job.args["pace_s"])
    say(job, "ends")
    (job.outputs["model"].path / "weights.json").write_text(json.dumps(weights.tolist()))
"""


@pytest.fixture
def one_cpu(workspace: Workspace, sqlite_ledger: SqlLedger, tmp_path: Path) -> Workspace:
    """Return a workspace of one node with one CPU, whose runtime starts processes."""
    sqlite_ledger.remove_node("fake")
    sqlite_ledger.register_node(Node(name="here", capacity={"cpu": 1.0, "memory": 4.0}), host="here")
    timing = Timing(poll_s=0.05, eager_s=0.02, renew_s=0.5, reap_s=60.0)
    runtime = LocalRuntime(tmp_path / "jobs", node="here")
    hasty = Policy(min_run_s=0.0, patience_s=0.0)
    return replace(workspace, runtimes={"here": runtime}, timing=timing, policy=hasty)


Spec = Callable[..., JobSpec]


@pytest.fixture
def spec(one_cpu: Workspace, tmp_path: Path) -> Spec:
    """Return a function that makes the training job of a name."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "work.py").write_text(TRAIN)
    code = ship_code(one_cpu, folder)
    assert code is not None

    def spec_(name: str, *, steps: int, looks: bool = True, pace_s: float = 0.02, **policy: Any) -> JobSpec:
        args = {"name": name, "steps": steps, "looks": looks, "pace_s": pace_s, "seen": str(tmp_path / "seen")}
        given = {"entrypoint": "work:train", "args": args, "outputs": ["model"], "code": code.to_mapping(), "seed": 7}
        return job_spec(name, **given, policy=policy, request={"cpu": 1, "memory": "512MiB"})

    return spec_


class Followed:
    """A job that a crew follows."""

    def __init__(self, crew: Crew, spec: JobSpec) -> None:
        self.lines: list[str] = []
        self.ended: list[Attempt] = []
        self.follow = Follow(crew.workspace, crew.workspace.ledger.open_attempt(spec), Listener(self.lines.append, self.ended.append))
        crew.join(self.follow)

    def end(self) -> Attempt:
        """Wait for the job's end."""
        wait_until(lambda: self.ended, 30)
        return self.ended[0]


def model(attempt: Attempt) -> str:
    """Return the digest of a trained model."""
    assert attempt.exit is not None
    assert attempt.exit.succeeded, attempt.exit
    return attempt.exit.outputs["model"].digest


@pytest.mark.parametrize("looks", [True, False])
def test_the_result_is_that_of_an_undisturbed_run(one_cpu: Workspace, spec: Spec, tmp_path: Path, *, looks: bool) -> None:
    """A job that makes way goes on from its checkpoint after the other, in the same Airflow try, and writes the same bytes."""
    crew = Crew(one_cpu)
    undisturbed = Followed(crew, spec("alone", steps=60, pace_s=0.0)).end()
    low = Followed(crew, spec("low", steps=60, looks=looks, preemptible=True, grace=20, infra_retries=0))
    wait_until(lambda: any(line.startswith("step 10") for line in low.lines), 30)
    high = Followed(crew, spec("high", steps=5, priority=9))
    first = low.follow.attempt
    other, second = high.end(), low.end()

    assert model(second) == model(undisturbed)
    assert (second.number, first.number) == (2, 1)
    assert second.spec.lineage["asked_at"] == first.created_at
    before = one_cpu.ledger.attempts([first.id])[first.id]
    assert before.exit is not None
    assert before.exit.reason is ExitReason.PREEMPTED
    order = [attempt for attempt in (before, other, second) if attempt.running_at and attempt.ended_at]
    assert [(a.ended_at or 0) <= (b.running_at or 0) for a, b in itertools.pairwise(order)] == [True, True]
    said = [line.split()[:2] for line in (tmp_path / "seen").read_text().splitlines() if not line.startswith("alone")]
    began = [name for name, what in said if what == "begins"]
    assert began == ["low", "high", "low"]
    assert said.index(["high", "ends"]) < len(said) - 1
    assert any(line.startswith("Preempted: ") for line in low.lines)
    assert second.exit is not None
    assert second.exit.metrics["resumed_at"] >= 10


def test_a_running_job_is_resized_through_a_round(one_cpu: Workspace, spec: Spec) -> None:
    """A crew puts in force what a round wants of a real process and confirms it; what was freed is granted to another."""
    crew = Crew(one_cpu)
    low = Followed(crew, spec("low", steps=200, preemptible=True))
    wait_until(lambda: any(line.startswith("step 5") for line in low.lines), 30)

    def half(seen: Snapshot) -> Decision:
        (held,) = seen.held
        return Decision(targets={held.grant.id: replace(held.grant, amounts={"cpu": 0.5, "memory": 0.25}, reason="two share a CPU")})

    one_cpu.ledger.round(half, holder="round", lease_s=60.0, force=True)
    began = time.monotonic()
    wait_until(lambda: one_cpu.ledger.leases()[0].grant.amounts["cpu"] == 0.5, 10)
    taken_s = time.monotonic() - began
    crew.stop(low.follow, ExitReason.STOPPED)
    low.end()
    assert "Resized to 0.5 cpu, 0.25 GiB memory (was 1 cpu, 0.5 GiB memory): two share a CPU" in low.lines
    assert taken_s < 5
