"""Tests of the trigger: what it fires, when, and what a kill does."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import TriggerEvent
from fixtures_airflow import MakeTask, context
from fixtures_workspace import job_spec

from airflow_dla.control import Workspace
from airflow_dla.hooks import DlaHook
from airflow_dla.ledger import Attempt, Decision
from airflow_dla.operators import JobOperator
from airflow_dla.specs import ExitReason
from airflow_dla.triggers import JobTrigger
from airflow_dla.triggers.job import out_of_reach
from airflow_dla.triggers.settling import this_process

pytestmark = pytest.mark.usefixtures("embedded")


def defer(make_task: MakeTask, sleep: float, **kwargs: Any) -> JobTrigger:
    """Return the trigger that a task of a job so long defers with, made again as the triggerer does."""
    task = make_task(JobOperator, entrypoint="agent_code:write", outputs=["out"], args={"sleep": sleep}, **kwargs)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context("t"))
    return JobTrigger(**deferred.value.trigger.serialize()[1])


async def first(trigger: JobTrigger) -> TriggerEvent:
    """Return the one event of a trigger."""
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    return events[0]


def test_it_fires_once_when_the_job_is_over(make_task: MakeTask) -> None:
    """The event names the attempt; its result is in the ledger."""
    trigger = defer(make_task, 1)
    assert asyncio.run(first(trigger)).payload == {"attempt": trigger.attempt}
    ended = DlaHook().workspace().ledger.attempts([trigger.attempt])[trigger.attempt]
    assert ended.exit is not None
    assert ended.exit.succeeded


def test_a_kill_stops_the_job_though_the_coroutine_is_cancelled(make_task: MakeTask) -> None:
    """As the triggerer does it: cancel the coroutine, then ``on_kill``."""
    trigger = defer(make_task, 60)
    workspace = DlaHook().workspace()

    async def kill() -> None:
        running = asyncio.create_task(first(trigger))
        await asyncio.sleep(0.5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await trigger.on_kill()

    asyncio.run(kill())
    end = time.monotonic() + 5
    while workspace.ledger.leases() and time.monotonic() < end:
        time.sleep(0.05)
    ended = workspace.ledger.attempts([trigger.attempt])[trigger.attempt]
    assert ended.exit is not None
    assert ended.exit.reason is ExitReason.STOPPED
    assert not workspace.runtimes[ended.grant.node].status(trigger.attempt).alive


def test_a_restart_of_the_triggerer_goes_on(make_task: MakeTask) -> None:
    """A second trigger of the same attempt in another loop follows on; one attempt ran."""
    trigger = defer(make_task, 2)

    async def cut_off() -> None:
        running = asyncio.create_task(first(trigger))
        await asyncio.sleep(0.5)
        running.cancel()

    asyncio.run(cut_off())
    assert asyncio.run(first(JobTrigger(**trigger.serialize()[1]))).payload == {"attempt": trigger.attempt}
    assert trigger.attempt.endswith(".1")


def test_a_deadline_ends_the_job(make_task: MakeTask) -> None:
    """The trigger owns ``execution_timeout``: Airflow does not look at it while a task is deferred."""
    trigger = defer(make_task, 60)
    trigger.deadline = DlaHook().workspace().ledger.now() + 1
    asyncio.run(first(trigger))
    ended = DlaHook().workspace().ledger.attempts([trigger.attempt])[trigger.attempt]
    assert ended.exit is not None
    assert ended.exit.reason is ExitReason.TIMED_OUT


def test_another_workspace_is_refused(make_task: MakeTask) -> None:
    """A triggerer whose connection leads elsewhere fails loudly."""
    trigger = defer(make_task, 1)
    trigger.fingerprint = "0" * 16
    with pytest.raises(Exception, match="make the connection the same"):
        asyncio.run(first(trigger))


def attempt_of(workspace: Workspace, task: str, **fields: Any) -> Attempt:
    """Open a job's attempt."""
    return workspace.ledger.open_attempt(job_spec(task, **fields), node=None, deferred=True)


def test_what_is_bound_to_another_host_is_out_of_reach(workspace: Workspace) -> None:
    """By the node it is pinned to, or by the host that it asks for before it is granted any."""
    assert not out_of_reach(workspace, attempt_of(workspace, "free"))
    assert not out_of_reach(workspace, attempt_of(workspace, "here", lineage={"pinned": "fake"}))
    assert out_of_reach(workspace, attempt_of(workspace, "there", lineage={"pinned": "gpu1-other"}))
    asking = {"cpu": 1, "labels": {"host": "here"}}
    assert not out_of_reach(workspace, attempt_of(workspace, "label", request=asking))
    assert out_of_reach(replace(workspace, host="other/boot/1"), attempt_of(workspace, "label", request=asking))


def test_a_job_that_is_granted_out_of_reach_goes_back_to_its_worker(make_task: MakeTask) -> None:
    """It was bound to no node while it waited; the trigger does not fail it."""
    trigger = defer(make_task, 60)
    workspace = DlaHook().workspace()
    blind = replace(workspace, runtimes={}, follower="blind", timing=replace(workspace.timing, poll_s=0.02, eager_s=0.01))
    event = asyncio.run(trigger._follow(blind, workspace.ledger.attempts([trigger.attempt])[trigger.attempt]))
    assert event.payload == {"attempt": trigger.attempt, "elsewhere": True}
    trigger._following = None
    asyncio.run(trigger.on_kill())


def test_no_event_while_the_process_that_deferred_lives(make_task: MakeTask) -> None:
    """The scheduler would fail the task (apache/airflow#71580)."""
    trigger = defer(make_task, 0.6)
    trigger.task_instance = type("Instance", (), {"task_id": "t"})()
    trigger.task_process = this_process()

    async def wait() -> None:
        await asyncio.wait_for(first(trigger), 1.5)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())


def test_a_preempted_job_goes_on_under_the_same_trigger(make_task: MakeTask) -> None:
    """The task stays deferred while its job makes way and runs again; the event names the attempt that ended well."""
    trigger = defer(make_task, 1.5, policy={"preemptible": True})
    workspace = DlaHook().workspace()

    async def preempted() -> TriggerEvent:
        running = asyncio.create_task(first(trigger))
        await asyncio.sleep(0.3)
        decision = Decision(preempted={trigger.attempt: "for d.big"})
        workspace.ledger.round(lambda _seen: decision, holder="round", lease_s=60.0, force=True)
        return await running

    event = asyncio.run(preempted())
    assert isinstance(event.payload, dict)
    ended = workspace.ledger.attempts([trigger.attempt, event.payload["attempt"]])
    assert [attempt.exit.reason for _, attempt in sorted(ended.items()) if attempt.exit] == [ExitReason.PREEMPTED, ExitReason.SUCCEEDED]
