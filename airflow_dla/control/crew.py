"""Following many jobs from one thread: one read of the ledger a turn, one renewal of all leases.

The cost grows with events, not with waiting tasks. Deferred tasks (a triggerer) and
synchronous ones (a worker) are followed by the same code.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from airflow_dla.control.follow import Follow
from airflow_dla.control.nodes import refresh_nodes
from airflow_dla.control.reaper import reap
from airflow_dla.control.rounds import run_round
from airflow_dla.control.workspace import Workspace
from airflow_dla.errors import DlaError, LedgerUnavailable
from airflow_dla.specs import AttemptState, ExitReason

log = logging.getLogger(__name__)

#: Threads that talk to runtimes, at most.
_ENGINE_THREADS: Final = 8
#: Of these, those that may wait for an engine to tell the end of a job.
_AWAITED: Final = 2
#: A crew without anybody to follow ends its thread after so many seconds.
_IDLE_S: Final = 30.0
#: Longest wait between two attempts to reach a ledger that is down.
_LONGEST_WAIT_S: Final = 30.0
#: An interpreter that is ending has ended its main thread after so many seconds.
_ENDING_S: Final = 1.0
#: A job whose step fails so many times in a row, other than by the ledger, cannot be followed.
_STEPS_FAILED: Final = 10


class Crew:
    """Follows jobs in a thread of its own until they are over.

    Parameters
    ----------
    workspace : `Workspace`
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        # By identity: two tries of a task may follow one job for a moment, the first to stop it.
        self._follows: dict[Follow, None] = {}
        self._inbox: deque[tuple[str, Follow, ExitReason | threading.Event | None]] = deque()
        self._failed: dict[Follow, int] = {}
        self._saved: dict[str, int] = {}
        self._due_at: dict[Follow, float] = {}
        self._awaited: set[Follow] = set()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._engines = ThreadPoolExecutor(_ENGINE_THREADS, thread_name_prefix="dla-engine")
        self._renewed_at = float("-inf")
        self._looking: Future[None] | None = None
        self._clock = _LedgerClock(workspace)
        self._wait_s = 0.0

    def join(self, follow: Follow) -> None:
        """Begin to follow a job."""
        self._inbox.append(("join", follow, None))
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="dla-crew", daemon=True)
                self._thread.start()
        self._wake.set()

    def leave(self, follow: Follow) -> threading.Event:
        """Follow a job no more; it runs on, for somebody else to follow.

        Returns
        -------
        threading.Event
            Set once it is not followed: its listener hears nothing more, and whoever follows it next hears what comes after.
        """
        left = threading.Event()
        self._inbox.append(("leave", follow, left))
        self._wake.set()
        return left

    def stop(self, follow: Follow, reason: ExitReason) -> None:
        """Stop a job that is followed, and follow it to its end; takes no lock, so that a signal handler may call it."""
        self._inbox.append(("stop", follow, reason))

    def join_and_stop(self, follow: Follow, reason: ExitReason) -> None:
        """Begin to follow a job in order to stop it."""
        self.join(follow)
        self.stop(follow, reason)
        self._wake.set()

    def _run(self) -> None:
        idle_since = time.monotonic()
        while threading.main_thread().is_alive():  # pools take nothing more once the interpreter is ending
            pause = self.turn()
            if self._follows:
                idle_since = time.monotonic()
            with self._lock:
                if not self._inbox and not self._follows and time.monotonic() - idle_since > _IDLE_S:
                    self._thread = None
                    return
            self._wake.wait(pause)
            self._wake.clear()

    def turn(self) -> float:
        """Do what is due for everybody; return how many seconds the next turn may wait."""
        try:
            came = self._read_inbox()
            if not came:
                self._renew()
            self._step_all()
            if came:  # what was granted is launched first, and its lease renewed by that; all others' are young, or somebody else's
                self._renew()
            self._save_offsets()
        except LedgerUnavailable as error:
            self._wait_s = min(_LONGEST_WAIT_S, max(1.0, 2 * self._wait_s))
            log.warning("The ledger does not answer, trying again in %.0f s; running jobs go on: %s", self._wait_s, error)
            return self._wait_s
        except Exception:
            # Pools refuse work a moment before the main thread counts as ended.
            threading.main_thread().join(_ENDING_S)
            if not threading.main_thread().is_alive():
                return 0.0
            log.exception("A turn of the follower failed; trying again in %.0f s", _LONGEST_WAIT_S)
            return _LONGEST_WAIT_S
        self._wait_s = 0.0
        return min(map(self._pause, self._follows), default=self.workspace.timing.poll_s)

    def _pause(self, follow: Follow) -> float:
        timing = self.workspace.timing
        if follow.hasty and follow not in self._awaited:
            return timing.hasty_s
        return timing.eager_s if follow.eager else timing.poll_s

    def _read_inbox(self) -> bool:
        """Do what was asked from other threads; return whether anybody joined."""
        came = False
        while self._inbox:
            what, follow, more = self._inbox[0]
            if what == "join":
                self._follows[follow] = None
                self._renewed_at, came = float("-inf"), True
            elif isinstance(more, threading.Event):
                self._let_go(follow)
                more.set()
            elif follow in self._follows and more is not None:
                follow.stop(more)
                self._due_at.pop(follow, None)
            self._inbox.popleft()
        return came

    def _let_go(self, follow: Follow) -> None:
        if follow in self._follows:
            self._save_offsets()
            self._forget(follow)

    def _renew(self) -> None:
        """Renew the leases when it is time."""
        timing, ledger = self.workspace.timing, self.workspace.ledger
        if not self._follows or time.monotonic() - self._renewed_at < timing.renew_s:
            return
        ledger.heartbeat(self.workspace.follower, self.workspace.kind, self.workspace.host)
        ledger.renew([one for follow in self._follows for one in follow.ids], holder=self.workspace.follower, lease_s=timing.lease_s)
        self._clock.set()
        self._renewed_at = time.monotonic()
        reap(self.workspace)
        # Where nobody waits a round is worth less and comes more rarely: it gives back what was shed.
        run_round(self.workspace)
        self._look()

    def _look(self) -> None:
        """Look at the machines of engines, beside the following: one that does not answer holds nobody up."""
        if self.workspace.discovered and (self._looking is None or self._looking.done()):
            self._looking = self._engines.submit(_refreshed, self.workspace)

    def _step_all(self) -> None:
        if not self._follows:
            return
        ledger, began = self.workspace.ledger, time.monotonic()
        if any(follow.attempt.state is AttemptState.WAITING for follow in self._follows):
            run_round(self.workspace)
        follows = [follow for follow in self._follows if self._is_due(follow, began)]
        attempts = ledger.attempts([follow.attempt.id for follow in follows])
        now = self._clock.now()
        known = [(follow, attempts[follow.attempt.id]) for follow in follows if follow.attempt.id in attempts]
        for done in [self._engines.submit(self._step, follow, attempt, now) for follow, attempt in known]:
            done.result()
        self._await_ends()
        self._due_at.update({follow: began + self._pause(follow) for follow, _ in known if follow in self._follows})

    def _await_ends(self) -> None:
        """Have the ends of what was just launched told, of a few at a time; all others' are looked for."""
        launched = [follow for follow in self._follows if follow.awaitable and follow not in self._awaited]
        for follow in launched[: _AWAITED - len(self._awaited)]:
            self._awaited.add(follow)
            self._engines.submit(self._await_end, follow)

    def _await_end(self, follow: Follow) -> None:
        try:
            with contextlib.suppress(DlaError):  # whoever looks finds out what is wrong
                follow.await_end()
        finally:
            self._awaited.discard(follow)
            self._due_at.pop(follow, None)
            self._wake.set()

    def _is_due(self, follow: Follow, now: float) -> bool:
        """Whether to look at a job: what runs calmly is not looked at whenever another is in a hurry."""
        return follow.attempt.state is AttemptState.WAITING or self._due_at.get(follow, now) <= now

    def _step(self, follow: Follow, attempt: object, now: float) -> None:
        try:
            follow.step(attempt, now)  # type: ignore[arg-type]
        except LedgerUnavailable:
            raise
        except Exception as error:
            failed = self._failed[follow] = self._failed.get(follow, 0) + 1
            log.warning("Following %s failed (%d): %s", follow.attempt.id, failed, error, exc_info=not isinstance(error, DlaError))
            if failed >= _STEPS_FAILED or (isinstance(error, DlaError) and not error.retryable):
                self._forget(follow)
                follow.listener.failed(error)
            return
        self._failed.pop(follow, None)
        if follow.over:
            self._forget(follow)

    def _forget(self, follow: Follow) -> None:
        self._follows.pop(follow, None)
        self._failed.pop(follow, None)
        self._due_at.pop(follow, None)
        for attempt in follow.ids:
            self._saved.pop(attempt, None)

    def _save_offsets(self) -> None:
        offsets = {attempt: offset for follow in self._follows for attempt, offset in follow.offsets.items()}
        moved = {attempt: offset for attempt, offset in offsets.items() if self._saved.get(attempt) != offset}
        if moved:
            self.workspace.ledger.save_offsets(moved)
            self._saved.update(moved)


def _refreshed(workspace: Workspace) -> None:
    try:
        refresh_nodes(workspace)
    except LedgerUnavailable:
        log.debug("Nodes are looked at again when the ledger answers")  # the turn that renews leases says so loudly
    except Exception:
        log.exception("Nodes could not be looked at")


class _LedgerClock:
    """The ledger's time without asking it each time; a moved clock of this host changes nothing."""

    def __init__(self, workspace: Workspace) -> None:
        self._ledger = workspace.ledger
        self._ahead: float | None = None

    def set(self) -> None:
        self._ahead = self._ledger.now() - time.monotonic()

    def now(self) -> float:
        if self._ahead is None:
            self.set()
        assert self._ahead is not None
        return time.monotonic() + self._ahead
