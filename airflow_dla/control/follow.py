"""Following one job: launch it when it is granted, pass on what it says, keep its deadlines, record its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from airflow_dla.control.again import next_spec, said_of_next
from airflow_dla.control.launch import launch
from airflow_dla.control.lines import RateCap, Said, WaitingLines, metric_line, read
from airflow_dla.control.membership import parts_of
from airflow_dla.control.naming import named
from airflow_dla.control.resizing import settle
from airflow_dla.control.silence import answered, written_off
from airflow_dla.control.workspace import Workspace
from airflow_dla.errors import Conflict, JobLost, LaunchRefused, NotReady, PlaceUnavailable
from airflow_dla.ledger import Attempt
from airflow_dla.runtime import Awaits, Runtime
from airflow_dla.specs import AttemptState, Exit, ExitReason, JobSpec, Part

#: An attempt that its runtime does not know is lost when it was not found so many times in a row.
_LOST_AFTER: Final = 3
#: Seconds between two stop signals to an attempt that does not end.
_STOP_AGAIN_S: Final = 5.0
#: Seconds after a launch in which its end is looked for without a pause to speak of.
_HASTY_S: Final = 1.0
#: Seconds that most launches take at most.
_LAUNCHES_S: Final = 60.0
#: Bytes of log read at once.
_SLICE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Listener:
    """Who wants to know: a trigger, a waiting task, or nobody.

    Parameters
    ----------
    log : callable
        Gets each line for the task log.
    error : callable, optional
        Gets those lines instead that the job wrote to standard error, where its place tells them apart.
    ended : callable
        Gets the last attempt when the job is over.
    failed : callable
        Gets an error that makes following impossible.
    """

    log: Callable[[str], None] = lambda _line: None
    ended: Callable[[Attempt], None] = lambda _attempt: None
    failed: Callable[[Exception], None] = lambda _error: None
    error: Callable[[str], None] | None = None

    def pass_on(self, line: str, *, error: bool) -> None:
        """Tell a line that the job wrote."""
        (self.error or self.log if error else self.log)(line)

    def marked(self, mark: str) -> Listener:
        """Return one that tells this one lines, with a mark before each, and nothing else."""
        return Listener(log=lambda line: self.log(mark + line), error=lambda line: self.pass_on(mark + line, error=True))


class Follow:
    """Follows the attempts of one job until it is over.

    A loss or a preemption begins another attempt inside the same Airflow try, which waits,
    within its own ``wait_timeout``, and runs, within its own ``run_timeout``, like the
    first; only `deadline` is for all of them together.

    Parameters
    ----------
    workspace : `Workspace`
    attempt : `Attempt`
        The one to begin with.
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
        self._noted = False
        self._waits = WaitingLines()
        self._cap = RateCap(at=self.began)
        self._missing = 0
        self._stopped_at = float("-inf")
        self._now = 0.0
        self._stopping = False
        self._launching = False
        self._launching_since = float("-inf")
        self._launched_at = float("-inf")
        self._told = True
        self._silent = False

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
        try:
            self._advance()
        except PlaceUnavailable as error:
            self._unanswered(error)
        else:
            self._answered()
        if self.attempt.ended:
            self._end()

    def _advance(self) -> None:
        if not self.attempt.ended and self.attempt.stop is None:
            self._keep_deadlines(self._now)
        match self.attempt.state:
            case AttemptState.WAITING:
                self._explain()
            case AttemptState.GRANTED | AttemptState.LAUNCHING:
                self._launch()
            case AttemptState.RUNNING:
                self._watch()
        if self.attempt.state is AttemptState.RUNNING:
            self.attempt = settle(self.workspace, self.attempt, self._say)

    def stop(self, reason: ExitReason) -> None:
        """Ask for the job's end; following goes on until it has come.

        The runtime is asked even when the ledger does not answer; one that is out of reach
        from here is asked by whoever follows the job there.
        """
        self._stopping = True
        try:
            self.attempt = self.workspace.ledger.want_stop(self.attempt.id, reason)
        finally:
            runtime = None if self.attempt.grant is None else self.workspace.reached(self.attempt.grant.node)
            if runtime is not None and self.attempt.state in {AttemptState.LAUNCHING, AttemptState.RUNNING}:
                self._stopped_at = time.monotonic()
                with contextlib.suppress(PlaceUnavailable):  # it is asked again while the job is followed
                    runtime.cancel(self.attempt.id, reason)

    @property
    def ids(self) -> tuple[str, ...]:
        """The attempts whose leases are renewed."""
        return (self.attempt.id,)

    @property
    def offsets(self) -> dict[str, int]:
        """How far logs have been passed on, by attempt."""
        return {self.attempt.id: self.offset}

    @property
    def eager(self) -> bool:
        """Whether something is about to happen, so that the next step should come soon."""
        young = time.monotonic() - self.began < 5.0  # noqa: PLR2004 - quick jobs end within seconds
        lease = self.attempt.lease
        wanted = self.attempt.stop is not None or (lease is not None and lease.target is not None)
        return young or wanted or self._launching_lately or self._missing > 0

    @property
    def hasty(self) -> bool:
        """Whether it may end at any moment: a job of a tenth of a second should not wait for us longer than it ran."""
        return self.attempt.state is AttemptState.RUNNING and time.monotonic() - self._launched_at < _HASTY_S

    @property
    def awaitable(self) -> bool:
        """Whether `await_end` would tell its end sooner than looking; once after each launch."""
        grant = self.attempt.grant
        return self.hasty and not self._told and grant is not None and isinstance(self.workspace.reached(grant.node), Awaits)

    def await_end(self) -> None:
        """Return as soon as what was just launched may have ended, or when it is no news any more."""
        self._told = True
        assert self.attempt.grant is not None
        runtime = self.workspace.runtime(self.attempt.grant.node)
        assert isinstance(runtime, Awaits)
        runtime.await_end(self.attempt.id, _HASTY_S)

    @property
    def _launching_lately(self) -> bool:
        """Whether its launch goes on, and not for so long that a second more does not matter: a cluster may have no room for hours."""
        going = self._launching and self.attempt.state is AttemptState.LAUNCHING
        return going and time.monotonic() - self._launching_since < _LAUNCHES_S

    def _say(self, text: str) -> None:
        if text != self._said:
            self.listener.log(named(self.workspace.ledger, text, but=self.attempt.job))
            self._said = text

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
            for line in self._waits.admit(self.attempt.reason, self._now, time.monotonic()):
                self._say(line)

    def _launch(self) -> None:
        grant = self.attempt.grant
        if self.attempt.stop is not None or grant is None:
            self._watch()
            return
        if not self._launching:
            self._launching_since = time.monotonic()
            self._say(f"Granted {grant.text()}: {grant.reason}")
        self._launching = True
        try:
            self.attempt = launch(self.workspace, self.attempt, self._secrets, self._part())
        except Conflict as conflict:
            self._say(f"Not launched: {conflict}")
            return
        except NotReady as progress:
            self._say(f"Launching: {progress}")
            return
        except LaunchRefused as refused:
            self._finish(Exit(reason=ExitReason.REFUSED, message=str(refused)))
            return
        except JobLost as lost:
            self._finish(Exit(reason=ExitReason.LOST, message=str(lost)))
            return
        self._launched_at, self._told = time.monotonic(), False
        self._say(f"Launched attempt {self.attempt.number} ({self.attempt.id}).")
        self.workspace.metrics.incr("dla.job.launched")
        if self.attempt.granted_at is not None:
            self.workspace.metrics.timing("dla.job.wait", self.attempt.granted_at - self.attempt.created_at)

    def _watch(self) -> None:
        assert self.attempt.grant is not None
        runtime = self.workspace.runtime(self.attempt.grant.node)
        self._pass_on_stop(runtime)
        status = runtime.status(self.attempt.id)
        if status.note and not self._noted:
            self._noted = True
            self._say(status.note)
        self._pass_on_log(last=not status.alive)
        self._missing = 0 if status.alive or status.exit else self._missing + 1
        if status.exit is not None:
            self._finish(status.exit)
        elif self._missing >= _LOST_AFTER:
            runtime.cancel(self.attempt.id, ExitReason.LOST)
            lost = Exit(
                reason=ExitReason.LOST, message="its process disappeared without a trace (killed with its keeper, or the host restarted)"
            )
            self._finish(lost)

    def _answered(self) -> None:
        if self._silent and self.attempt.grant is not None:
            self._silent = False
            self._say(f"Node {self.attempt.grant.node} answers again.")
            answered(self.workspace, self.attempt.grant.node)

    def _unanswered(self, error: PlaceUnavailable) -> None:
        """Wait for a place that does not answer; what ran there is lost only once it is written off."""
        self._silent = True
        self._say(str(error))
        if self.attempt.grant is not None and written_off(self.workspace, self.attempt.grant.node):
            silence = f"node {self.attempt.grant.node} has not answered for {self.workspace.timing.silent_s:g} s: {error}"
            self._finish(Exit(reason=ExitReason.LOST, message=silence))

    def _part(self) -> Part | None:
        """Return what it is of a distributed job."""
        return parts_of(self.attempt, ())[0] if self.attempt.spec.distributed else None

    def _finish(self, exit_: Exit) -> None:
        """Record the end that was found."""
        self.attempt = self.workspace.ledger.finish(self.attempt.id, exit_)

    def _next(self) -> JobSpec | None:
        """Return the job of the next attempt, None when the job is over."""
        return self._next_of(self.attempt)

    def _next_of(self, ended: Attempt) -> JobSpec | None:
        inherited = self.inherited_until is not None and self._now < self.inherited_until
        return None if self._stopping else next_spec(ended, inherited=inherited)

    def _pass_on_stop(self, runtime: Runtime) -> None:
        """Ask the runtime for the stop that is wanted, again and again while nothing comes of it."""
        stop = self.attempt.stop
        if stop is None or time.monotonic() - self._stopped_at <= _STOP_AGAIN_S:
            return
        if stop is ExitReason.PREEMPTED:
            grace_s = self.attempt.spec.policy.grace_s
            self._say(
                f"Preempted: {self.attempt.stop_why or 'its share is needed elsewhere'}; it has {grace_s:g} s to save a checkpoint and end."
            )
        self._stopped_at = time.monotonic()
        runtime.cancel(self.attempt.id, stop)

    def _pass_on_log(self, *, last: bool) -> None:
        """Pass on one slice of the log, or all that is left when nothing more will come."""
        if self.attempt.grant is None:
            return
        runtime = self.workspace.runtime(self.attempt.grant.node)
        while True:
            piece = runtime.logs(self.attempt.id, self.offset, limit=_SLICE)
            ends = last and len(piece.data) < _SLICE
            said = read(piece.data, self.workspace.nonce(self.attempt.id), last=ends, errors=piece.errors)
            self.offset += said.consumed
            self._pass_on_lines(said)
            if not last or not said.consumed:
                return

    def _pass_on_lines(self, said: Said) -> None:
        errors = said.errors or frozenset()
        now, measured = time.monotonic(), tuple(line for event in said.events if (line := metric_line(event)))
        for number, line in enumerate(said.lines + measured):
            for passed in self._cap.admit(line, now):
                self.listener.pass_on(passed, error=number in errors)

    def _end(self) -> None:
        exit_ = self.attempt.exit
        assert exit_ is not None
        with contextlib.suppress(PlaceUnavailable):
            self._pass_on_log(last=True)
        for note in self._cap.flush():
            self.listener.log(note)
        self.workspace.metrics.incr("dla.job.ended", tags={"reason": exit_.reason.value})
        if self.attempt.running_at and self.attempt.ended_at:
            self.workspace.metrics.timing("dla.job.run", self.attempt.ended_at - self.attempt.running_at)
        spec = self._next()
        if spec is not None:
            self._go_on(spec)
            return
        self.over = True
        self.listener.ended(self.attempt)

    def _go_on(self, spec: JobSpec) -> None:
        """Follow the next attempt inside the same Airflow try, beginning it unless somebody else did."""
        ledger, ended = self.workspace.ledger, self.attempt
        self._say(said_of_next(ended, spec))
        ledger.save_offsets({ended.id: self.offset})
        last = ledger.last_attempt(ended.job)
        if last is None or last.number <= ended.number:
            last = ledger.open_attempt(spec, node=spec.lineage.get("pinned"), deferred=ended.deferred)
        self.attempt = last
        self.offset, self._missing, self._stopped_at = last.log_offset, 0, float("-inf")
        self._said, self._noted, self._launching, self._waits = "", False, False, WaitingLines()
