"""The contract of a runtime: where and how attempts run.

Seven methods. A place is a value that has a runtime, never a subclass of an operator;
one shared test suite (``tests/contracts/runtime.py``) runs on every implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from airflow_dla.specs import Exit, ExitReason, Grant, JobFile, Node

#: What names a launched attempt in its runtime: plain JSON, kept in the ledger. Its ``address``, if it
#: has one, is where other members of a distributed job reach what runs there.
Handle = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Launch:
    """What a runtime gets.

    Parameters
    ----------
    job : `JobFile`
        The attempt's label, entrypoint, grant and data; secret-free.
    secrets : mapping of environment variable to value
        Delivered so that nobody else can read them: never on disk or on a command line.
    image : str or None
        Container image; the place's own where None.
    volumes : mapping of folder in the container to where it comes from
        ``{"/data": "/srv/data:ro"}``, as the agent asks for and the place's policy allows.
    overrides : mapping
        What else the job's policy asks of the place's engine, by the engine's own names.
    labels : mapping of str
        For people and their tools: dag, run, task. Nothing of ours reads them.
    priority : int
        Of the job, for places where somebody else decides who goes first.
    """

    job: JobFile
    secrets: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    volumes: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """What a runtime knows of an attempt.

    Parameters
    ----------
    alive : bool
        Whether anything of it still runs.
    exit : `Exit` or None
        How it ended. Neither alive nor an exit: it was never here, or it is lost.
    note : str
        What is in force or worth saying, for the task log.
    """

    alive: bool
    exit: Exit | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class LogSlice:
    """A piece of an attempt's log.

    Parameters
    ----------
    data : bytes
        From the offset that was asked for.
    offset : int
        Where the next slice begins, in bytes.
    errors : tuple of (int, int) or None
        Where in `data` standard error begins and ends, in order; what is between is standard
        output. None where the place keeps both in one stream, or there is no data.
    """

    data: bytes
    offset: int
    errors: tuple[tuple[int, int], ...] | None = None


class Runtime(Protocol):
    """What every place can do. Calls block, for no longer than an engine takes to answer; they are made from a bounded thread pool.

    Each raises `PlaceUnavailable` when the engine does not answer, and may then be made again.
    """

    def plan(self, launch: Launch) -> Mapping[str, Any]:
        """Return the request that `submit` would send, sending nothing."""

    def submit(self, launch: Launch) -> Handle:
        """Start an attempt; a second call for the same attempt returns the first one's handle.

        An attempt that was cancelled before is not started: its status is an exit.

        Raises
        ------
        NotReady
            While an image is pulled or inputs are fetched: the caller asks again, soon.
        LaunchRefused
            If the place will not run it; says which rule, or what is missing.
        JobLost
            If its node cannot, for a fault of its own: the attempt is over, another one may do.
        """

    def status(self, attempt: str) -> Status:
        """Return what is known of an attempt, by label; also of one whose handle was never recorded."""

    def logs(self, attempt: str, offset: int, *, limit: int = 1 << 20) -> LogSlice:
        """Return the log from a byte offset, at most `limit` bytes; empty when there is no more."""

    def cancel(self, attempt: str, reason: ExitReason) -> None:
        """Ask an attempt to stop: signal, grace, kill. Returns at once; leaves a mark when it never started."""

    def resize(self, attempt: str, grant: Grant) -> bool:
        """Put another grant in force for a running attempt, all of it or nothing; repeating it changes nothing more.

        True only once it is in force, so that what a shrink frees may be granted again.
        False where that is impossible: nothing runs, a resource cannot be changed there, or
        its memory is in use; what held before holds then.
        """

    def jobs(self) -> dict[str, bool]:
        """Return every attempt found here by label, and whether it is alive."""


@runtime_checkable
class Collects(Protocol):
    """What a place can do besides that keeps something of attempts that have ended."""

    @property
    def keep_s(self) -> float:
        """Return how long what failed is kept, s."""

    def kept(self) -> dict[str, float]:
        """Return the ended attempts of which something is kept, and when each was launched, seconds since the epoch."""

    def collect(self, attempt: str) -> None:
        """Let go of it, except for its log; what runs stays."""


class Discovers(Protocol):
    """What a place can do beside running jobs: look at the machines behind it, whose capacity changes with what others do there."""

    def discover(self) -> Sequence[Node]:
        """Return its nodes as they are now; one that is missing is gone.

        Raises
        ------
        PlaceUnavailable
            If nobody answers for them.
        """

    def whole(self) -> Sequence[Node]:
        """Return its nodes as they are when nobody but us uses their machines.

        Raises
        ------
        PlaceUnavailable
            If nobody answers for them.
        """


@runtime_checkable
class Awaits(Protocol):
    """What a place can do besides whose ends are told by what runs them, sooner than by looking."""

    def await_end(self, attempt: str, timeout_s: float) -> None:
        """Return as soon as an attempt may have ended, or after so many seconds; `status` says whether it has.

        Raises
        ------
        PlaceUnavailable
            If the engine does not answer.
        """


@runtime_checkable
class Enterable(Protocol):
    """What a place can do besides where somebody may look into an attempt while it runs."""

    def enter(self, attempt: str, command: Sequence[str], *, terminal: bool) -> int:
        """Run a command beside an attempt's work: in its folder, environment and limits, without its secrets.

        It reads and writes the calling process's own streams 0, 1 and 2, and ends with the attempt.

        Parameters
        ----------
        attempt : str
        command : sequence of str
            Empty for a shell.
        terminal : bool
            Whether our standard input and output are a terminal, which the command is to have.

        Returns
        -------
        int
            Its exit status; 128 + N where signal N ended it.

        Raises
        ------
        NotFound
            If the attempt does not run, or no shell is there.
        """
