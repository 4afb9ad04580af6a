"""The runner as the first process of a container.

    python /opt/dla/agents inside /dla [alone]

Secrets come as ``{"env": {…}}`` through standard input, so that they are on no disk and in
nothing that the engine shows. The work is a child in a process group of its own; this
process passes on to it whatever asks it to end, takes the exit status of every orphan, which
is a first process's duty, and ends as the work ended.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from . import processes
from .gpus import GpuUsage
from .protocol import JobError, JobFile, JobFolder, Lines
from .usage import Usage, own_groups

#: Signals by which an engine, or its user, asks a container to end.
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_LARGEST = 1 << 24

#: Variable with the names of the secrets that must come, commas between: a connection that breaks at once looks like none.
EXPECTED = "DLA_SECRETS"

#: The word by which it is told that nobody outside measures the work, or ends it in time.
ALONE = "alone"
_MEASURE_S = 1.0
#: A timer of no seconds never goes off.
_SHORTEST_S = 0.01

_BROKE = "the connection to its engine broke while they were sent"


class _First:
    """Passes signals on; the kernel keeps from a first process those that it does not handle itself."""

    def __init__(self) -> None:
        self._work: Optional[int] = None
        #: Seconds from the first such signal until the work is killed; for ever where somebody outside does that.
        self.grace_s: Optional[float] = None
        for number in _STOPS:
            signal.signal(number, self._asked)
        signal.signal(signal.SIGALRM, self._late)

    def _asked(self, number: int, _: object) -> None:
        if self._work is None:
            raise SystemExit(128 + number)
        processes.send_group(self._work, signal.SIGTERM)
        if self.grace_s is not None and not signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, max(self.grace_s, _SHORTEST_S))

    def _late(self, *_: object) -> None:
        if self._work is not None:
            processes.send_group(self._work, signal.SIGKILL)

    def fork(self) -> bool:
        """Start the work; return whether this is the work."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        self._work = os.fork()
        # Both sides do it: whoever is first, nobody sends to a group that is not there yet.
        with contextlib.suppress(OSError):
            os.setpgid(self._work, self._work)
        if self._work == 0:
            for number in (*_STOPS, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        return self._work == 0

    def wait(self) -> int:
        """Wait for the work's end, and for every orphan until then; return the exit status that tells it."""
        pid, status = 0, 0
        while pid != self._work:
            pid, status = os.waitpid(-1, 0)
        assert self._work is not None
        processes.send_group(self._work, signal.SIGKILL)
        return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


class _Meter:
    """Measures the container that we are in, in a thread of the first process."""

    def __init__(self, job: JobFile, folder: JobFolder) -> None:
        self._job = job
        self._folder = folder
        # Of the devices that a container was given, all and no others are there, by number.
        count = math.ceil(sum(amount for name, amount in self._job.amounts.items() if name == "gpu" or name.startswith("mig-")))
        self._usage, self._gpus = Usage(own_groups), GpuUsage([str(number) for number in range(count)])

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._measure, daemon=True).start()

    def say(self) -> None:
        """Say the most that was used; nothing more is written after that."""
        self._usage.look()
        with contextlib.suppress(OSError):  # a full disk
            Lines(self._job.nonce, 1, self._folder.lines).say("peaks", values={**self._usage.peaks, **self._gpus.peaks})

    def _measure(self) -> None:
        while True:
            self._usage.look()
            self._gpus.look()
            time.sleep(_MEASURE_S)


def main(arguments: Sequence[str]) -> int:
    """Run the job of the mounted folder; return the exit status."""
    first = _First()
    handed = _read()
    first_pid = os.getpid()
    folder = JobFolder(Path(arguments[0]))
    job = _read_job(folder) if ALONE in arguments[1:] else None
    if job is not None:
        first.grace_s = job.grace_s  # before the first signal that the work hears of
    if not first.fork():
        return first.wait() if job is None else _measured(first, job, folder)
    from . import runner  # noqa: PLC0415 - signals are handled before anything large is imported

    processes.die_with_parent(first_pid)
    folder.scratch.mkdir(exist_ok=True)
    # The engine has set the limits, and changes them: an affinity of our own would outlast a resize.
    return runner.attempt(folder, lambda *_: os.environ.update(secrets(handed, os.environ.pop(EXPECTED, ""))))


def _read_job(folder: JobFolder) -> Optional[JobFile]:
    """Return the job; None of one that cannot be read: the work says why."""
    try:
        return JobFile.read(folder.job)
    except (JobError, OSError, TypeError, ValueError):
        return None


def _measured(first: _First, job: JobFile, folder: JobFolder) -> int:
    """Wait for the work's end, and say what it used; return its exit status."""
    meter = _Meter(job, folder)
    meter.start()
    code = first.wait()
    meter.say()
    return code


def _read() -> bytes:
    """Read standard input to its end and put nothing in its place."""
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < _LARGEST:
            piece = os.read(0, 1 << 16)
            if not piece:
                break
            data += piece
    nothing = os.open(os.devnull, os.O_RDONLY)
    if nothing != 0:
        os.dup2(nothing, 0)
        os.close(nothing)
    return data


def secrets(handed: bytes, expected: str = "") -> Dict[str, str]:
    """Return the variables that were handed over.

    Parameters
    ----------
    handed : bytes
        JSON, or nothing.
    expected : str
        Names that must be among them, commas between.

    Raises
    ------
    JobError
        If they did not come whole; no byte of them is in the message.

    Examples
    --------
    >>> secrets(b'{"env": {"TOKEN": "x"}}'), secrets(b"")
    ({'TOKEN': 'x'}, {})
    """
    try:
        raw: Any = json.loads(handed)["env"] if handed.strip() else {}
        found = {str(name): _text(value) for name, value in raw.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        what = f"came damaged: {len(handed)} bytes that are not {{'env': {{name: text}}}}"
        raise JobError(f"the job's secrets {what}; {_BROKE}", "lost") from None
    missing = [name for name in expected.split(",") if name and name not in found]
    if missing:
        raise JobError(f"the job's secrets {', '.join(missing)} did not come; {_BROKE}", "lost")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
