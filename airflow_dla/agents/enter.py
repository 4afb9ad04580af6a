"""A command beside the work of a running attempt.

    python FOLDER/agents enter JOBDIR [COMMAND ...]

It joins the attempt's limits, takes the environment that its work has, without secrets, and
becomes the command, in the code folder; a shell where none is given. It reads and writes
the streams of whoever started it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import List, Sequence

from . import limits
from .environment import environment
from .protocol import JobFile, JobFolder, read_json

_NOT_FOUND = 127
_NOT_RUN = 126


def main(arguments: Sequence[str]) -> int:
    """Become the command; return the exit status only where that cannot be."""
    folder = JobFolder(Path(arguments[0]))
    command = list(arguments[1:]) or shell()
    job = JobFile.read(folder.job).resized(folder)
    try:
        limits.join((read_json(folder.cgroups) or {}).get("folders", ()), lambda: job.resized(folder).cpu_ids)
    except OSError as error:
        return _said(f"the attempt ended meanwhile: {error}", _NOT_RUN)
    made = environment(job, folder, os.environ, {})
    os.chdir(str(folder.code if folder.code.is_dir() else folder.path))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored stays so
    try:
        os.execvpe(command[0], command, {**made, **_terminal()})  # noqa: S606 - the command that its user asked for
    except FileNotFoundError:
        return _said(f"{command[0]}: there is no such command on the PATH of the job", _NOT_FOUND)
    except OSError as error:
        return _said(f"{command[0]}: {error.strerror}", _NOT_RUN)


def shell() -> List[str]:
    """Return the user's shell."""
    return [os.environ.get("SHELL") or "/bin/sh"]


def _terminal() -> "dict[str, str]":
    return {name: os.environ[name] for name in ("TERM",) if name in os.environ}


def _said(message: str, status: int) -> int:
    sys.stderr.write(f"{message}\n")
    return status
