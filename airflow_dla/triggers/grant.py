"""Triggers for operators that are not ours: one waits for their grant, one holds it while they are deferred themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_dla.control import Workspace
from airflow_dla.errors import LedgerUnavailable
from airflow_dla.hooks.workspace import DlaHook, open_workspace
from airflow_dla.ledger import Lease
from airflow_dla.specs import Reason
from airflow_dla.triggers.desk import GONE, desk_of
from airflow_dla.triggers.settling import in_ledger_pool, settled


class GrantTrigger(BaseTrigger):
    """Waits until a demand that belongs to no job is granted.

    Parameters
    ----------
    dla_conn_id : str
    fingerprint : str
        Of the workspace the demand is in.
    demand : str
    deadline : float or None
        Ledger time when ``wait_timeout`` ends.
    task_process : dict or None
        The process that deferred; no event is fired while it lives.
    **_later
        What a newer version may have added; ignored.
    """

    def __init__(
        self,
        *,
        dla_conn_id: str,
        fingerprint: str,
        demand: str,
        deadline: float | None = None,
        task_process: dict[str, Any] | None = None,
        **_later: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's base class has no types
        self.dla_conn_id = dla_conn_id
        self.fingerprint = fingerprint
        self.demand = demand
        self.deadline = deadline
        self.task_process = task_process

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
        names = ("dla_conn_id", "fingerprint", "demand", "deadline", "task_process")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Run allocation rounds until the demand is granted, gone, or too late."""
        waiting = asyncio.create_task(settled(self.task_process, seen=self.task_instance is not None))
        try:
            event = await self._answered()
            await waiting
        finally:
            waiting.cancel()
        yield TriggerEvent(event)

    async def _answered(self) -> dict[str, Any]:
        workspace, said = await _workspace(self.dla_conn_id, self.fingerprint), ""
        with desk_of(workspace).waiting(self.demand) as answers:
            while True:
                answer, now = await answers.get()
                if answer is GONE:
                    return {"gone": True}
                if isinstance(answer, Lease):
                    return {"granted": True}
                if self.deadline is not None and now > self.deadline:
                    return {"timed_out": True}
                if isinstance(answer, Reason) and answer.text != said:
                    said = answer.text
                    self.log.info("Waiting for resources: %s", said)

    async def on_kill(self) -> None:
        """Withdraw the demand: a person marked the waiting task, or cleared it."""
        workspace = await _workspace(self.dla_conn_id, self.fingerprint)
        with contextlib.suppress(LedgerUnavailable):
            await in_ledger_pool(workspace.ledger.release, [self.demand])


class HoldingTrigger(BaseTrigger):
    """Runs an operator's own trigger, and renews the operator's grant meanwhile.

    Parameters
    ----------
    dla_conn_id, fingerprint, demand : str
        As of `GrantTrigger`.
    classpath : str
        Of the operator's own trigger.
    kwargs : dict
        Of the operator's own trigger; kept as it was given.
    **_later
        What a newer version may have added; ignored.
    """

    def __init__(self, *, dla_conn_id: str, fingerprint: str, demand: str, classpath: str, kwargs: dict[str, Any], **_later: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's base class has no types
        self.dla_conn_id = dla_conn_id
        self.fingerprint = fingerprint
        self.demand = demand
        self.classpath = classpath
        self.kwargs = kwargs
        self._inner: BaseTrigger | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
        names = ("dla_conn_id", "fingerprint", "demand", "classpath", "kwargs")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Pass on the events of the operator's own trigger."""
        inner = self._own()
        workspace = await _workspace(self.dla_conn_id, self.fingerprint)
        with desk_of(workspace).holding(self.demand):
            async for event in inner.run():
                yield event

    def _own(self) -> BaseTrigger:
        module, _, name = self.classpath.rpartition(".")
        inner: BaseTrigger = getattr(import_module(module), name)(**self.kwargs)
        for field in ("task_instance", "trigger_id", "timeout_after"):
            with contextlib.suppress(AttributeError):
                setattr(inner, field, getattr(self, field))
        self._inner = inner
        return inner

    async def on_kill(self) -> None:
        """Let the operator's own trigger stop what it started, then free the grant."""
        if self._inner is not None and hasattr(self._inner, "on_kill"):
            await self._inner.on_kill()
        workspace = await _workspace(self.dla_conn_id, self.fingerprint)
        with contextlib.suppress(LedgerUnavailable):
            await in_ledger_pool(workspace.ledger.release, [self.demand])

    async def cleanup(self) -> None:
        """Let the operator's own trigger clean up."""
        if self._inner is not None:
            await self._inner.cleanup()


async def _workspace(dla_conn_id: str, fingerprint: str) -> Workspace:
    settings = await DlaHook(dla_conn_id).asettings()
    workspace = await in_ledger_pool(open_workspace, settings, "triggerer")
    await in_ledger_pool(workspace.check_fingerprint, fingerprint)
    return workspace
