"""How an attempt ended: what the engine, the job and the helper beside it said, as one reason and one line.

The order is that of the local place (``airflow_dla.agents.ending``): what was done to the
work comes before what it says itself.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from airflow_dla.runtime.facts import Staged, Stop, seconds
from airflow_dla.runtime.starting import why_not_started
from airflow_dla.specs import Exit, ExitReason, JobFile
from airflow_dla.specs.values import remark

#: What a program prints when it could not get memory; as ``airflow_dla.agents.runner`` has it.
OUT_OF_MEMORY: Final = (b"CUDA out of memory", b"DefaultCPUAllocator: can't allocate memory", b"MemoryError", b"std::bad_alloc")
#: Signals by which a program ends itself; any other comes from outside.
CRASHES: Final = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
#: Bytes of the end of a log in which the reason of a failure is looked for.
TAIL: Final = 16_384
GONE: Final = "its container is gone and left no word: somebody removed it, or the engine lost its data"

_SIGNALLED: Final = 128
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
#: What an engine says of a container whose end it did not see.
_UNSEEN: Final = 255
#: How the init that an engine puts before a program says that it could not start it.
_INIT: Final = "[FATAL tini"
_SHOWN: Final = 300
_MORE_MEMORY: Final = "ask for more memory or make batches smaller"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """What is known of an end."""

    job: JobFile
    image: str
    started_at: float
    ended_at: float
    code: int
    failed: str
    stop: Stop | None
    hard: bool
    oom_kills: int
    told: Mapping[str, Any] | None
    tail: bytes
    staged: Staged | None

    @property
    def what(self) -> str:
        return str(self.job.entrypoint)

    @property
    def inside(self) -> str:
        return f" in image {self.image}" if self.image else " in its image"

    @property
    def after(self) -> str:
        """How its log ends, to follow a message."""
        said = last_line(self.tail)
        return f"; its log ends with: {said}" if said else ""

    @property
    def signal(self) -> signal.Signals | None:
        """The signal that ended it, as far as an engine tells."""
        number = self.code - _SIGNALLED
        known = number in {found.value for found in signal.Signals}
        return signal.Signals(number) if known else None


def conclude(
    job: JobFile,
    state: Mapping[str, Any],
    *,
    stop: Stop | None,
    hard: bool,
    said: Sequence[Mapping[str, Any]],
    tail: bytes,
    metrics: Mapping[str, float],
    staged: Staged | None,
    oom_kills: int = 0,
    image: str = "",
) -> Exit:
    """Say how an attempt ended.

    Parameters
    ----------
    job : `JobFile`
    state : mapping
        ``State`` of a container that ended; empty where there is none.
    stop : `Stop` or None
        The stop that was wanted while it ran.
    hard : bool
        Whether we killed it, its grace being over.
    said : sequence of mapping
        Lines of ``metrics.jsonl``.
    tail : bytes
        The end of its log.
    metrics : mapping of metric to float
        Read from the log by the agent's patterns.
    staged : `Staged` or None
        What the helper beside it said; None before it was asked to publish, or if there is none.
    oom_kills : int
        Processes that the kernel killed for memory, as its control group counted.
    image : str
        Named in messages.

    Returns
    -------
    `Exit`
        With outputs only if it succeeded.
    """
    errors = [line for line in said if line.get("kind") == "error"]
    started_at = seconds(state.get("StartedAt"))
    # Of a container that ends at once engines may write the end before the start.
    ended_at = max(started_at, seconds(state.get("FinishedAt")))
    end = _Ending(
        job=job,
        image=image,
        started_at=started_at,
        ended_at=ended_at,
        code=int(state.get("ExitCode") or 0),
        failed=str(state.get("Error") or ""),
        stop=stop,
        hard=hard,
        oom_kills=max(oom_kills, 1 if state.get("OOMKilled") else 0),
        told=errors[-1] if errors else None,
        tail=tail,
        staged=staged,
    )
    reason, message = _why(end)
    succeeded = reason is ExitReason.SUCCEEDED
    by_signal = end.signal if started_at else None
    return Exit(
        reason=reason,
        message=remark(" ".join(message.split())[:2_000], "message"),
        code=end.code if started_at and by_signal is None else None,
        signal=by_signal.value if by_signal is not None else None,
        oom_kills=end.oom_kills,
        started_at=started_at,
        ended_at=ended_at,
        outputs=dict(staged.outputs) if succeeded and staged is not None else {},
        metrics={**finite(metrics), **last_values(said)},
        peaks=finite(staged.peaks) if staged is not None else {},
    )


def _why(end: _Ending) -> tuple[ExitReason, str]:
    """Return reason and message; what was done to the work comes before what it says itself."""
    if end.stop is not None:
        return end.stop.reason, _stopped(end, end.stop)
    if end.staged is not None and end.staged.error is not None:
        return _reason(end.staged.error[0]), end.staged.error[1]
    if not end.started_at:
        return _unstarted(end)
    if end.code == 0:
        return _well(end)
    return (ExitReason.OUT_OF_MEMORY, _memory(end)) if end.oom_kills else _said(end)


def _stopped(end: _Ending, stop: Stop) -> str:
    if not end.started_at:
        return f"{stop.reason} before it started"
    if stop.why:
        return stop.why
    limit = end.job.run_timeout_s
    if stop.reason is ExitReason.TIMED_OUT and limit is not None and (not end.ended_at or end.ended_at - end.started_at >= limit):
        why = f"ran longer than its run_timeout of {limit:g} s"
    else:
        why = f"{stop.reason}: it was asked to stop"
    how = f"did not end within {end.job.grace_s:g} s and was killed" if end.hard else "ended by itself"
    return f"{why} and {how}"


def _well(end: _Ending) -> tuple[ExitReason, str]:
    missing = [name for name in end.job.published if end.staged is not None and name not in end.staged.outputs]
    if not missing:
        return ExitReason.SUCCEEDED, ""
    what = f"it ended well, but its outputs {', '.join(missing)} were not published: the helper beside it is gone"
    return ExitReason.LOST, f"{what}; look into its mate.log, a new attempt makes them again"


def _memory(end: _Ending) -> str:
    limit = end.job.grant.amounts.get("memory")
    under = f" under a limit of {limit:g} GiB" if limit else ""
    return f"the kernel killed {end.oom_kills} of its processes{under}; {_MORE_MEMORY}"


# --- what never started --------------------------------------------------------------


def _unstarted(end: _Ending) -> tuple[ExitReason, str]:
    if not end.failed:
        return ExitReason.LOST, GONE
    return _refused(end, end.failed)


def _refused(end: _Ending, words: str) -> tuple[ExitReason, str]:
    program = (end.job.entrypoint.command or ("python3",))[0]
    reason, message = why_not_started(words, program)
    return reason, f"could not start{end.inside}: {message}"


# --- what ended badly ----------------------------------------------------------------


def _said(end: _Ending) -> tuple[ExitReason, str]:
    if end.told is not None:
        return _reason(str(end.told.get("reason", ""))), str(end.told.get("message") or _unsaid(end)[1])
    if any(mark in end.tail for mark in OUT_OF_MEMORY):
        return ExitReason.OUT_OF_MEMORY, f"{end.what} ran out of memory: {last_line(end.tail)}; {_MORE_MEMORY}"
    line = last_line(end.tail)
    return _refused(end, line) if line.startswith(_INIT) else _unsaid(end)


def _reason(word: str) -> ExitReason:
    """Return a reason that was told; what the job says may be anything."""
    try:
        found = ExitReason(word)
    except ValueError:
        return ExitReason.USER_ERROR
    return ExitReason.USER_ERROR if found is ExitReason.SUCCEEDED else found


def _unsaid(end: _Ending) -> tuple[ExitReason, str]:
    """Explain an end that nothing inside explained: it was killed, crashed, or is a foreign command."""
    ended_by = end.signal
    if ended_by is not None and ended_by in CRASHES:
        return ExitReason.USER_ERROR, f"{end.what} crashed with {ended_by.name}{end.after}"
    if ended_by is not None:
        by = f"was ended from outside by {ended_by.name}: somebody stopped its container, or its engine"
        return ExitReason.KILLED, f"{end.what} {by}{end.after}"
    return ExitReason.USER_ERROR, f"{end.what} exited with status {end.code}{_hint(end)}{end.after}"


def _hint(end: _Ending) -> str:
    """Return what a status means by convention."""
    if b"exec format error" in end.tail.lower():
        return f": what it runs{end.inside} is for another processor, or a script without #!"
    if b"No space left on device" in end.tail:
        return ": a disk is full; /tmp lies in the job's memory, larger files belong into $TMPDIR"
    hints = {
        _NOT_EXECUTABLE: f": a command{end.inside} may not be executed; chmod +x it, or name its interpreter first",
        _NOT_FOUND: f": a command was not found{end.inside}; install it there, or name its full path",
        _UNSEEN: ", which an engine also says of a container that ended while it was away",
    }
    return hints.get(end.code, "")


# --- words and numbers ---------------------------------------------------------------


def last_line(tail: bytes) -> str:
    r"""Return the last line of a log that says something, shortened; the runner's own lines say nothing here.

    Examples
    --------
    >>> last_line(b"Traceback\nValueError: no\n::dla:n0nce::{}\n\n")
    'ValueError: no'
    """
    lines = [line.strip() for line in tail[-TAIL:].decode("utf-8", "replace").splitlines() if "::dla:" not in line]
    return next((line[:_SHOWN] for line in reversed(lines) if line), "")


def last_values(said: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the last finite value of each metric that the runner said."""
    found: dict[str, float] = {}
    for line in said:
        values = line.get("values")
        if line.get("kind") == "metric" and isinstance(values, Mapping):
            found.update(finite(values))
    return found


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a mapping that a job or its helper said; what is none is left out."""
    return {name: float(value) for name, value in values.items() if isinstance(value, (int, float)) and math.isfinite(value)}
