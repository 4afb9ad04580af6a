"""How an attempt ended: what the keeper saw, as one reason and one line for a person."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from .protocol import PROTOCOL, JobError, JobFile, JobFolder, read_lines

_GIB = 2**30

#: Signals by which a program ends itself; any other comes from outside.
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


@dataclass
class Ending:
    """What the keeper saw of the work, gathered while it ran.

    Parameters
    ----------
    started_at : float
        Seconds since the epoch, 0 before the start.
    stop : str or None
        Reason of a stop that was wanted while it ran.
    own_timeout : bool
        The stop is the keeper's own: ``run_timeout_s`` passed.
    hard : bool
        It was ended by SIGKILL.
    over_memory : int or None
        Bytes it held when it was ended for that.
    code : int or None
        Status of the work, negative for a signal.
    """

    started_at: float
    stop: Optional[str] = None
    own_timeout: bool = False
    hard: bool = False
    over_memory: Optional[int] = None
    code: Optional[int] = None
    oom_kills: int = 0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    gpus: Dict[str, float] = field(default_factory=dict)
    error: Optional[Tuple[str, str]] = None

    def see_memory(self, held: int) -> None:
        """Remember the most memory held."""
        self.peak_bytes = max(self.peak_bytes, held)

    def failed(self, reason: str, message: str) -> None:
        """Remember what went wrong outside the work."""
        self.error = self.error or (reason, " ".join(message.split())[:2_000])

    @property
    def succeeded(self) -> bool:
        """Whether the work did what it was asked to, and nobody stopped it."""
        return self.code == 0 and self.stop is None and self.error is None and self.over_memory is None


def conclude(job: JobFile, folder: JobFolder, end: Ending, outputs: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what ``exit.json`` says, in the form of ``specs.Exit``."""
    lines = read_lines(folder.lines)
    errors = [line for line in lines if line.get("kind") == "error"]
    reason, message = _why(job, folder, end, errors[-1] if errors else None)
    outcome: Dict[str, Any] = {
        "protocol": PROTOCOL,
        "reason": reason,
        "message": message,
        "oom_kills": end.oom_kills,
        "started_at": end.started_at,
        "ended_at": time.time(),
        "outputs": dict(outputs) if reason == "succeeded" else {},
        "metrics": last_values(lines),
        "peaks": {"memory": round(end.peak_bytes / _GIB, 6), "cpu_s": round(end.cpu_s, 3), **end.gpus},
    }
    if end.code is not None:
        outcome["code" if end.code >= 0 else "signal"] = abs(end.code)
    return outcome


def last_values(lines: "list[Dict[str, Any]]") -> Dict[str, float]:
    """Return the last value of each metric; those that are not finite are left out.

    Examples
    --------
    >>> last_values([{"kind": "metric", "values": {"loss": 2.0}}, {"kind": "metric", "values": {"loss": 1.0, "bad": "nan"}}])
    {'loss': 1.0}
    """
    found: Dict[str, float] = {}
    for line in lines:
        if line.get("kind") == "metric":
            found.update({name: value for name, value in line.get("values", {}).items() if isinstance(value, (int, float))})
    return found


def _why(job: JobFile, folder: JobFolder, end: Ending, told: Optional[Mapping[str, Any]]) -> Tuple[str, str]:
    """Return reason and message; what was done to the work comes before what it says itself."""
    memory = _memory_text(job, end)
    if end.over_memory is not None:
        return "out_of_memory", memory
    if end.stop is not None:
        return end.stop, _stopped_text(job, end)
    if end.error is not None:
        return end.error
    if end.code == 0:
        return "succeeded", ""
    return ("out_of_memory", memory) if end.oom_kills else _said(folder, end, told)


def _memory_text(job: JobFile, end: Ending) -> str:
    limit = job.amounts.get("memory")
    what = f"the kernel killed {end.oom_kills} of its processes" if end.over_memory is None else f"it held {end.over_memory / _GIB:.2f} GiB"
    return f"{what}{f' under a limit of {limit:g} GiB' if limit else ''}; ask for more memory or make batches smaller"


def _said(folder: JobFolder, end: Ending, told: Optional[Mapping[str, Any]]) -> Tuple[str, str]:
    if told is not None:
        return str(told.get("reason", "user_error")), str(told.get("message", ""))
    return _unsaid(end, last_line(end_of(folder.log)))


def _stopped_text(job: JobFile, end: Ending) -> str:
    if end.code is None:
        return f"{end.stop} before it started"
    why = f"ran longer than its run_timeout of {job.run_timeout_s:g} s" if end.own_timeout else f"{end.stop}: it was asked to stop"
    how = f"did not end within {job.grace_s:g} s and was killed" if end.hard else "ended by itself"
    return f"{why} and {how}"


def _unsaid(end: Ending, said: str) -> Tuple[str, str]:
    """Explain an end that the runner could not explain: it was killed, or crashed."""
    code = end.code or 0
    after = f"; its log ends with: {said}" if said else ""
    if code < 0:
        name = signal.Signals(-code).name
        if -code in CRASHES:
            return "user_error", f"crashed with {name}{after}"
        return "killed", f"was killed by {name} from outside{after}"
    return "user_error", f"exited with status {code}{after}"


def end_of(path: Path, size: int = 16_384) -> bytes:
    """Return the last bytes of a file, none when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read()
    except OSError:
        return b""


def last_line(data: bytes) -> str:
    """Return the last line of a log that says something, shortened; the runner's own lines say nothing here."""
    lines = [line.strip() for line in data[-16_384:].decode("utf-8", "replace").splitlines() if "::dla:" not in line]
    return next((line[:300] for line in reversed(lines) if line), "")


def refuse_empty(name: str, path: Path, shown: str = "") -> None:
    """Refuse an output without anything in it.

    Parameters
    ----------
    name : str
    path : path
    shown : str
        The path as the job sees it, where that is another.

    Raises
    ------
    JobError
        Naming the output, its folder and how to find that.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        return
    how = f"job.outputs[{name!r}].path, or {{outputs.{name}}} in args"
    raise JobError(f"output {name!r} was never written: {shown or path} is empty; write files there ({how})")
