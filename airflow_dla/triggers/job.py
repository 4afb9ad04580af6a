"""The trigger that follows a job: the only hop a task makes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from airflow.sdk import BaseHook, Variable
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_dla.control import Follow, Listener, Workspace, following
from airflow_dla.errors import LedgerUnavailable, NotFound
from airflow_dla.hooks.workspace import DlaHook, crew_of, open_workspace, resolve_secret
from airflow_dla.ledger import Attempt
from airflow_dla.specs import ExitReason
from airflow_dla.specs.places import OF_HOST
from airflow_dla.triggers.settling import in_ledger_pool, settled


class JobTrigger(BaseTrigger):
    """Waits for a job's grant, launches it, follows it to its end, stops it when a person kills the task.

    Parameters
    ----------
    dla_conn_id : str
    fingerprint : str
        Of the workspace the job began in; another one here is refused.
    attempt : str
        The attempt to begin with.
    deadline : float or None
        Ledger time when the task's ``execution_timeout`` ends.
    inherited_until : float or None
        As of `Follow`.
    task_process : dict or None
        The process that deferred, as `settling.this_process` tells; no event is fired while it lives.
    **_later
        What a newer version may have added; ignored.
    """

    def __init__(
        self,
        *,
        dla_conn_id: str,
        fingerprint: str,
        attempt: str,
        deadline: float | None = None,
        inherited_until: float | None = None,
        task_process: dict[str, Any] | None = None,
        **_later: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's base class has no types
        self.dla_conn_id = dla_conn_id
        self.fingerprint = fingerprint
        self.attempt = attempt
        self.deadline = deadline
        self.inherited_until = inherited_until
        self.task_process = task_process
        self._following: Follow | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere; holds no secret."""
        return "airflow_dla.triggers.job.JobTrigger", {
            "dla_conn_id": self.dla_conn_id,
            "fingerprint": self.fingerprint,
            "attempt": self.attempt,
            "deadline": self.deadline,
            "inherited_until": self.inherited_until,
            "task_process": self.task_process,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the job and fire one event when it is over."""
        waiting = asyncio.create_task(settled(self.task_process, seen=self.task_instance is not None))
        try:
            event = await self._over()
            await waiting
        finally:
            waiting.cancel()
        yield event

    async def _over(self) -> TriggerEvent:
        workspace = await self._until_answered(self._workspace)
        attempt = await self._until_answered(lambda: in_ledger_pool(find_attempt, workspace, self.attempt))
        if out_of_reach(workspace, attempt):
            return elsewhere(attempt)
        return await self._follow(workspace, attempt)

    async def _workspace(self) -> Workspace:
        settings = await DlaHook(self.dla_conn_id).asettings()
        workspace = await in_ledger_pool(open_workspace, settings, "triggerer")
        await in_ledger_pool(workspace.check_fingerprint, self.fingerprint)
        return workspace

    async def _until_answered(self, ask: Callable[[], Any]) -> Any:
        """Ask until the ledger answers: a task that waits does not fail because the ledger is down."""
        wait_s = 1.0
        while True:
            try:
                return await ask()
            except LedgerUnavailable as error:
                self.log.warning("The ledger does not answer, trying again in %.0f s: %s", wait_s, error)
                await asyncio.sleep(wait_s)
                wait_s = min(30.0, 2 * wait_s)

    async def _follow(self, workspace: Workspace, attempt: Attempt) -> TriggerEvent:
        said: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        secrets = {name: await _asecret(where) for name, where in attempt.spec.agent.secrets.items()}
        follow = self._following = following(
            workspace, attempt, _listener(said), deadline=self.deadline, inherited_until=self.inherited_until, secrets=secrets
        )
        crew = crew_of(workspace)
        crew.join(follow)
        try:
            while True:
                kind, what = await said.get()
                if kind == "ended":
                    return TriggerEvent({"attempt": what.id})
                if kind == "failed":
                    now = await in_ledger_pool(find_attempt, workspace, follow.attempt.id)
                    return elsewhere(now) if out_of_reach(workspace, now) else TriggerEvent({"attempt": self.attempt, "error": str(what)})
                write = self.log.warning if kind == "stderr" else self.log.info
                write("%s", what)
        finally:
            crew.leave(follow)

    async def on_kill(self) -> None:
        """Stop the job: a person marked the deferred task, or cleared it.

        The crew's thread does it: Airflow 3.3 cancels this coroutine after a second.
        """
        follow = self._following
        if follow is None:
            workspace = await self._workspace()
            follow = following(workspace, await in_ledger_pool(find_attempt, workspace, self.attempt), Listener())
        crew_of(follow.workspace).join_and_stop(follow, ExitReason.STOPPED)


def out_of_reach(workspace: Workspace, attempt: Attempt) -> bool:
    """Whether an attempt is bound to nodes that this process cannot reach: those of another host.

    Before it is granted that shows by the node or the host that it asks for. A job that
    asks for neither may be granted a node out of reach while it is followed here.
    """
    bound = attempt.grant.node if attempt.grant else attempt.spec.lineage.get("pinned")
    if bound is not None:
        return workspace.reached(bound) is None
    host = attempt.spec.request.labels.get(OF_HOST)
    return host is not None and host != workspace.hostname


def elsewhere(attempt: Attempt) -> TriggerEvent:
    """Return the event that sends a task back to its worker, to follow its job there."""
    return TriggerEvent({"attempt": attempt.id, "elsewhere": True})


def find_attempt(workspace: Workspace, attempt: str) -> Attempt:
    """Return an attempt that must exist.

    Raises
    ------
    NotFound
        If the ledger does not know it.
    """
    found = workspace.ledger.attempts([attempt])
    if attempt not in found:
        raise NotFound(f"attempt {attempt} is not in the ledger of workspace {workspace.name!r}; was the ledger replaced?")
    return found[attempt]


def _listener(said: asyncio.Queue[tuple[str, Any]]) -> Listener:
    """Return a listener whose words come out of a queue in this event loop; a loop that is closed hears nothing."""
    loop = asyncio.get_running_loop()

    def tell(kind: str) -> Callable[[Any], None]:
        def put(what: Any) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(said.put_nowait, (kind, what))

        return put

    return Listener(log=tell("log"), error=tell("stderr"), ended=tell("ended"), failed=tell("failed"))


async def _asecret(where: str) -> str:
    """Return a secret without blocking the event loop where Airflow must be asked."""
    kind, _, name = where.partition(":")
    if kind == "conn":
        return str((await BaseHook.aget_connection(name)).get_uri())
    if kind == "var":
        return str(await in_ledger_pool(Variable.get, name))
    return resolve_secret(where)
