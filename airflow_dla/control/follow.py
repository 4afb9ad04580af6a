"""Following one job: launch it when it is granted, pass on what it says, keep its deadlines, record its end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from airflow_dla.control.launch import launch
from airflow_dla.control.lines import RateCap, metric_line, read
from airflow_dla.control.workspace import Workspace
from airflow_dla.errors import Conflict
from airflow_dla.ledger import Attempt
from airflow_dla.specs import AttemptState, Exit, ExitReason

#: An attempt that its runtime does not know is lost when it was not found so many times in a row.
_LOST_AFTER: Final = 3
#: Seconds between two stop signals to an attempt that does not end.
_STOP_AGAIN_S: Final = 5.0
#: Bytes of log read at once.
_SLICE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Listener:
    """Who wants to know: a trigger, a waiting task, or nobody.

    Parameters
    ----------
    log : callable
        Gets each line for the task log.
    ended : callable
        Gets the last attempt when the job is over.
    failed : callable
        Gets an error that makes following impossible.
    """

    log: Callable[[str], None] = lambda _line: None
    ended: Callable[[Attempt], None] = lambda _attempt: None
    failed: Callable[[Exception], None] = lambda _error: None


class Follow:
    """Follows the attempts of one job until it is over.

    Parameters
    ----------
    workspace : `Workspace`
    attempt : `Attempt`
        The one to begin with; a loss that is nobody's fault begins another.
    listener : `Listener`
    deadline : float or None
        By the ledger's clock; the job is stopped when it passes (``execution_timeout``).
    inherited_until : float or None
        By the ledger's clock; the attempt was taken over from an earlier try of the task,
        and a stop that comes before this time is the kill of that try, not of this one.
    secrets : mapping of environment variable to value, optional
        Handed to the runtime at launch.
    """

    def __init__(
        self,
        workspace: Workspace,
        attempt: Attempt,
        listener: Listener,
        *,
        deadline: float | None = None,
        inherited_until: float | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.workspace = workspace
        self._secrets = secrets or {}
        self.attempt = attempt
        self.listener = listener
        self.deadline = deadline
        self.inherited_until = inherited_until
        self.offset = attempt.log_offset
        self.over = False
        self.began = time.monotonic()
        self._said = ""
        self._cap = RateCap(at=self.began)
        self._missing = 0
        self._stopped_at = float("-inf")
        self._now = 0.0
        self._stopping = False

    def step(self, attempt: Attempt, now: float) -> None:
        """Do what is due; blocks for a call or two of the runtime and the ledger.

        Parameters
        ----------
        attempt : `Attempt`
            As the ledger has it.
        now : float
            Seconds since the epoch, the ledger's.
        """
        self.attempt, self._now = attempt, now
        if not attempt.ended and attempt.stop is None:
            self._keep_deadlines(now)
        match self.attempt.state:
            case AttemptState.WAITING:
                self._explain()
            case AttemptState.GRANTED | AttemptState.LAUNCHING:
                self._launch()
            case AttemptState.RUNNING:
                self._watch()
        if self.attempt.ended:
            self._end()

    def stop(self, reason: ExitReason) -> None:
        """Ask for the job's end; following goes on until it has come.

        The runtime is asked even when the ledger does not answer.
        """
        self._stopping = True
        try:
            self.attempt = self.workspace.ledger.want_stop(self.attempt.id, reason)
        finally:
            if self.attempt.grant is not None and self.attempt.state in {AttemptState.LAUNCHING, AttemptState.RUNNING}:
                self._stopped_at = time.monotonic()
                self.workspace.runtime(self.attempt.grant.node).cancel(self.attempt.id, reason)

    @property
    def eager(self) -> bool:
        """Whether something is about to happen, so that the next step should come soon."""
        young = time.monotonic() - self.began < 5.0  # noqa: PLR2004 - quick jobs end within seconds
        return young or self.attempt.stop is not None or self._missing > 0

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.listener.log(text)

    def _keep_deadlines(self, now: float) -> None:
        policy, attempt = self.attempt.spec.policy, self.attempt
        waited = attempt.state is AttemptState.WAITING and policy.wait_timeout_s is not None
        if waited and now > attempt.created_at + (policy.wait_timeout_s or 0.0):
            self._say(
                f"No grant within wait_timeout ({policy.wait_timeout_s:g} s): giving up. {attempt.reason.text if attempt.reason else ''}"
            )
            self.stop(ExitReason.TIMED_OUT)
        elif self.deadline is not None and now > self.deadline:
            self._say("The task's execution_timeout has passed: stopping the job.")
            self.stop(ExitReason.TIMED_OUT)

    def _explain(self) -> None:
        if self.attempt.reason is not None:
            self._say(f"Waiting for resources: {self.attempt.reason.text}")

    def _launch(self) -> None:
        grant = self.attempt.grant
        if self.attempt.stop is not None or grant is None:
            self._watch()
            return
        self._say(f"Granted {grant.text()}: {grant.reason}")
        try:
            self.attempt = launch(self.workspace, self.attempt, self._secrets)
        except Conflict as conflict:
            self._say(f"Not launched: {conflict}")
            return
        self._say(f"Launched attempt {self.attempt.number} ({self.attempt.id}).")
        self.workspace.metrics.incr("dla.job.launched")
        if self.attempt.granted_at is not None:
            self.workspace.metrics.timing("dla.job.wait", self.attempt.granted_at - self.attempt.created_at)

    def _watch(self) -> None:
        assert self.attempt.grant is not None
        runtime = self.workspace.runtime(self.attempt.grant.node)
        if self.attempt.stop is not None and time.monotonic() - self._stopped_at > _STOP_AGAIN_S:
            self._stopped_at = time.monotonic()
            runtime.cancel(self.attempt.id, self.attempt.stop)
        status = runtime.status(self.attempt.id)
        if status.note:
            self._say(status.note)
        self._pass_on_log(last=not status.alive)
        self._missing = 0 if status.alive or status.exit else self._missing + 1
        if status.exit is not None:
            self.attempt = self.workspace.ledger.finish(self.attempt.id, status.exit)
        elif self._missing >= _LOST_AFTER:
            runtime.cancel(self.attempt.id, ExitReason.LOST)
            lost = Exit(
                reason=ExitReason.LOST, message="its process disappeared without a trace (killed with its keeper, or the host restarted)"
            )
            self.attempt = self.workspace.ledger.finish(self.attempt.id, lost)

    def _pass_on_log(self, *, last: bool) -> None:
        """Pass on one slice of the log, or all that is left when nothing more will come."""
        if self.attempt.grant is None:
            return
        runtime = self.workspace.runtime(self.attempt.grant.node)
        while True:
            piece = runtime.logs(self.attempt.id, self.offset, limit=_SLICE)
            said = read(piece.data, self.workspace.nonce(self.attempt.id), last=last and len(piece.data) < _SLICE)
            self.offset += said.consumed
            measured = tuple(line for event in said.events if (line := metric_line(event)))
            for line in self._cap.admit(said.lines + measured, time.monotonic()):
                self.listener.log(line)
            if not last or not said.consumed:
                return

    def _end(self) -> None:
        exit_ = self.attempt.exit
        assert exit_ is not None
        self._pass_on_log(last=True)
        for note in self._cap.flush():
            self.listener.log(note)
        self.workspace.metrics.incr("dla.job.ended", tags={"reason": exit_.reason.value})
        if self.attempt.running_at and self.attempt.ended_at:
            self.workspace.metrics.timing("dla.job.run", self.attempt.ended_at - self.attempt.running_at)
        already = int(self.attempt.spec.lineage.get("infra_retry", 0))
        if self._due_again(exit_, already):
            self._try_again(exit_, already + 1)
            return
        self.over = True
        self.listener.ended(self.attempt)

    def _due_again(self, exit_: Exit, already: int) -> bool:
        """Whether another attempt is due: nobody's fault, or stopped by the kill of the try before this one."""
        if self._stopping or already >= self.attempt.spec.policy.infra_retries:
            return False
        if exit_.reason is ExitReason.STOPPED:
            return self.inherited_until is not None and self._now < self.inherited_until
        return exit_.reason.infrastructure

    def _try_again(self, exit_: Exit, count: int) -> None:
        """Begin another attempt inside the same Airflow try."""
        spec = self.attempt.spec
        self._say(
            f"Attempt {self.attempt.number} ended: {exit_.message or exit_.reason.value}; "
            f"trying again ({count} of {spec.policy.infra_retries})."
        )
        again = dataclasses.replace(spec, lineage={**spec.lineage, "infra_retry": count})
        self.attempt = self.workspace.ledger.open_attempt(again, node=spec.lineage.get("pinned"), deferred=self.attempt.deferred)
        self.offset, self._missing, self._stopped_at = self.attempt.log_offset, 0, float("-inf")
