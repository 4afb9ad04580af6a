"""Tests of what ended attempts leave behind, and when it goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.runtime import FakeRuntime
from fixtures_workspace import job_spec

from airflow_dla.control import Follow, Listener, Workspace, run_round
from airflow_dla.control.collecting import collect
from airflow_dla.specs import ExitReason


class KeepingRuntime(FakeRuntime):
    """Keeps something of everything that ended, like an engine keeps containers."""

    keep_s = 3600.0

    def __init__(self, *, node: str) -> None:
        super().__init__(node=node)
        self.collected: list[str] = []

    def kept(self) -> dict[str, float]:
        """Return what has ended and was not collected."""
        return {label: 1.0 for label, alive in self.jobs().items() if not alive and label not in self.collected}

    def collect(self, attempt: str) -> None:
        """Remember it."""
        self.collected.append(attempt)


@pytest.fixture
def keeping(workspace: Workspace) -> tuple[Workspace, KeepingRuntime]:
    """Return a workspace whose only place keeps what ended."""
    node = next(iter(workspace.runtimes))
    runtime = KeepingRuntime(node=node)
    return replace(workspace, runtimes={node: runtime}), runtime


def run(workspace: Workspace, runtime: KeepingRuntime, reason: ExitReason | None) -> str:
    """Run a job and end it; return its attempt."""
    follow = Follow(workspace, workspace.ledger.open_attempt(job_spec()), Listener())
    run_round(workspace)
    for _ in range(2):
        follow.step(workspace.ledger.attempts([follow.attempt.id])[follow.attempt.id], workspace.ledger.now())
        if reason is not None:
            runtime.end(follow.attempt.id, reason)
    return follow.attempt.id


def test_what_runs_stays(keeping: tuple[Workspace, KeepingRuntime]) -> None:
    """Nothing is collected that the ledger has not seen the end of."""
    workspace, runtime = keeping
    attempt = run(workspace, runtime, None)
    runtime.end(attempt)
    collect(workspace, runtime)
    assert runtime.collected == []


def test_a_success_goes_when_it_was_delivered(keeping: tuple[Workspace, KeepingRuntime]) -> None:
    """Its result may be asked for until then."""
    workspace, runtime = keeping
    attempt = run(workspace, runtime, ExitReason.SUCCEEDED)
    collect(workspace, runtime)
    assert runtime.collected == []
    workspace.ledger.deliver(attempt)
    collect(workspace, runtime)
    assert runtime.collected == [attempt]


@pytest.mark.parametrize(("keep_s", "gone"), [(3600.0, False), (-1.0, True)])
def test_a_failure_is_kept_for_a_while(keeping: tuple[Workspace, KeepingRuntime], keep_s: float, gone: bool) -> None:
    """Somebody wants to look into it."""
    workspace, runtime = keeping
    runtime.keep_s = keep_s
    attempt = run(workspace, runtime, ExitReason.USER_ERROR)
    collect(workspace, runtime)
    assert (runtime.collected == [attempt]) is gone


def test_what_nobody_knows_goes_too(keeping: tuple[Workspace, KeepingRuntime]) -> None:
    """A container of an attempt that is in no ledger is kept no longer than a failure."""
    workspace, runtime = keeping
    run(workspace, runtime, None)
    runtime.attempts["stray.1"] = runtime.attempts.popitem()[1]
    runtime.end("stray.1")
    collect(workspace, runtime)
    assert runtime.collected == ["stray.1"]


def test_a_place_that_keeps_nothing_is_left_alone(workspace: Workspace, fake_runtime: FakeRuntime) -> None:
    """The contract does not ask for it."""
    collect(workspace, fake_runtime)
