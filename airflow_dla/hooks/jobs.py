"""One task's job, from its specification to its result, for operators and anybody else."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from airflow.sdk import BaseHook

from airflow_dla.control import AUTO, Follow, Listener, Workspace, following, foretold, keeping_place, refuse_never_grantable, run_round
from airflow_dla.errors import JobError, LedgerUnavailable
from airflow_dla.hooks.settings import Settings
from airflow_dla.hooks.workspace import DlaHook, crew_of, one_host, open_workspace, resolve_secret
from airflow_dla.ledger import Attempt
from airflow_dla.specs import AttemptState, Demand, ExitReason, JobSpec
from airflow_dla.specs.places import OF_HOST

#: Seconds a task waits for a ledger that does not answer before it leaves the rest to Airflow's retries.
_LEDGER_S: Final = 60.0
#: The kill of a try may arrive so many seconds after the next try has taken its attempt over.
_INHERITED_S: Final = 30.0
#: Airflow kills a task so many seconds after it asked it to end; our part must be done before.
_KILL_S: Final = 4.5
#: A job is followed for so many seconds at most after its follower was told to leave it to another.
_LEFT_S: Final = 10.0


class JobHook(BaseHook):
    """Runs a job for a task: opens its attempt, waits for it, stops it.

    Parameters
    ----------
    dla_conn_id : str
    """

    conn_name_attr = "dla_conn_id"
    default_conn_name = DlaHook.default_conn_name
    conn_type = "dla"
    hook_name = "Deep-learning agents: jobs"

    def __init__(self, dla_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.dla_conn_id = dla_conn_id
        self._settings: Settings | None = None
        self._workspace: Workspace | None = None
        self._follow: Follow | None = None
        self.inherited_until: float | None = None
        self._over = threading.Event()

    @property
    def settings(self) -> Settings:
        """What the connection says; it is looked up once."""
        if self._settings is None:
            self._settings = DlaHook(self.dla_conn_id).settings()
        return self._settings

    def get_conn(self) -> Workspace:
        """Return the workspace; waits a minute for a ledger that does not answer."""
        if self._workspace is None:
            settings = self.settings
            self._workspace = self.until_answered(lambda: open_workspace(settings, "worker"))
        return self._workspace

    def until_answered(self, ask: Callable[[], Any]) -> Any:
        """Ask until the ledger answers, for a minute.

        Raises
        ------
        LedgerUnavailable
            If it did not; Airflow's retries go on from there.
        """
        began, wait_s = time.monotonic(), 1.0
        while True:
            try:
                return ask()
            except LedgerUnavailable as error:
                if time.monotonic() - began > _LEDGER_S:
                    raise
                self.log.warning("The ledger does not answer, trying again in %.0f s: %s", wait_s, error)
            time.sleep(wait_s)
            wait_s = min(15.0, 2 * wait_s)

    def open(self, spec: JobSpec, *, deferred: bool) -> Attempt:
        """Return the attempt to follow: a new one, or one that a lost worker left running.

        Raises
        ------
        NeverGrantable
            If no node is large enough.
        """
        workspace = self.get_conn()
        spec = self._foretold(spec)
        policy, pinned = spec.policy, spec.lineage.get("pinned")
        demand = Demand(id=spec.key.id, request=spec.request, place=policy.place, node=pinned, team=policy.team, priority=policy.priority)
        refuse_never_grantable(workspace, demand)
        opened = self.until_answered(lambda: self._opened(spec, node=pinned, deferred=deferred))
        if opened.state is not AttemptState.WAITING:
            self.inherited_until = workspace.ledger.now() + _INHERITED_S
        run_round(workspace)
        return self.find(opened.id)

    def _foretold(self, spec: JobSpec) -> JobSpec:
        foreseen, chosen = self.until_answered(lambda: foretold(self.get_conn().ledger, spec))
        for why in chosen:
            self.log.info("request=%r: %s", AUTO, why)
        if foreseen.expected_s is not None:
            self.log.info("Expected to run for about %.0f s: half of its earlier runs took less", foreseen.expected_s)
        return foreseen  # type: ignore[no-any-return]

    def _opened(self, spec: JobSpec, *, node: str | None, deferred: bool) -> Attempt:
        ledger = self.get_conn().ledger
        return ledger.open_attempt(keeping_place(spec, ledger.last_attempt(spec.key.id)), node=node, deferred=deferred)

    def find(self, attempt: str) -> Attempt:
        """Return an attempt that exists."""
        return self.until_answered(lambda: self.get_conn().ledger.attempts([attempt])[attempt])  # type: ignore[no-any-return]

    def wait(self, attempt: Attempt, *, timeout_s: float | None = None) -> Attempt | None:
        """Follow a job here, passing its log on to the task's; None when it is not over in time.

        Raises
        ------
        JobError
            If it cannot be followed from here.
        """
        workspace, self._over = self.get_conn(), threading.Event()
        said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        secrets = {name: resolve_secret(where) for name, where in attempt.spec.agent.secrets.items()}
        follow = self._follow = following(
            workspace, attempt, _listener(said, self._over), inherited_until=self.inherited_until, secrets=secrets
        )
        crew_of(workspace).join(follow)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            over = self._hear(said, until)
            if over is None and not self._over.is_set():
                crew_of(workspace).leave(follow).wait(_LEFT_S)
            # What was said until then counts as passed on: whoever follows next goes on behind it.
            return over or self._rest(said)
        finally:
            if not self._over.is_set():
                crew_of(workspace).leave(follow)

    def _hear(self, said: queue.SimpleQueue[tuple[str, Any]], until: float | None) -> Attempt | None:
        while until is None or time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                kind, what = said.get(timeout=0.5 if until is None else max(0.0, min(0.5, until - time.monotonic())))
                if (over := self._heard(kind, what)) is not None:
                    return over
        return None

    def _rest(self, said: queue.SimpleQueue[tuple[str, Any]]) -> Attempt | None:
        over = None
        while over is None and not said.empty():
            over = self._heard(*said.get())
        return over

    def _heard(self, kind: str, what: Any) -> Attempt | None:
        """Pass a line on to the task's log; return the attempt that is over."""
        if kind == "failed":
            raise JobError(f"the job cannot be followed from here: {what}") from what
        if kind == "ended":
            return what  # type: ignore[no-any-return]
        write = self.log.warning if kind == "stderr" else self.log.info
        write("%s", what)
        return None

    def stop(self, reason: ExitReason = ExitReason.STOPPED) -> None:
        """Stop the job and wait a few seconds for its end; a signal handler may call this."""
        if self._follow is not None and not self._over.is_set():
            self.log.info("Stopping attempt %s", self._follow.attempt.id)
            crew_of(self._follow.workspace).stop(self._follow, reason)
            self._over.wait(_KILL_S)

    def cannot_defer(self, attempt: Attempt) -> str:
        """Return why this job's task cannot be deferred, or an empty string.

        A job in a local process, or in a container of an engine behind this host's socket, is
        followed only from here, so the triggerer must be here; one on an engine that every host
        reaches is followed from anywhere.
        """
        workspace = self.get_conn()
        pinned = attempt.spec.lineage.get("pinned")
        bound = (pinned is not None and workspace.name_of(pinned) not in workspace.everywhere) or OF_HOST in attempt.spec.request.labels
        near = any(kind == "triggerer" and host == workspace.host for _, kind, host in workspace.ledger.followers(within_s=300.0))
        if bound and not one_host() and not near:
            return f"the job runs on {workspace.host}, and no triggerer is known there"
        return ""


def _listener(said: queue.SimpleQueue[tuple[str, Any]], over: threading.Event) -> Listener:
    def ended(attempt: Attempt) -> None:
        over.set()
        said.put(("ended", attempt))

    def tell(kind: str) -> Callable[[Any], None]:
        return lambda what: said.put((kind, what))

    return Listener(log=tell("log"), error=tell("stderr"), ended=ended, failed=tell("failed"))
