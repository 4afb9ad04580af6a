"""How every command runs: one answer on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import TextIO

from airflow_dla.cli.answer import Answer
from airflow_dla.errors import DlaError

Command = Callable[[Namespace], Answer]


def command(function: Command) -> Callable[[Namespace], None]:
    """Make a command of a function: print its answer, or its error, and end with the status that says which."""

    @functools.wraps(function)
    def run(args: Namespace) -> None:
        with speaking() as output:
            answer = function(args)
            output.write(f"{json.dumps(answer.document) if args.json else answer.text}\n")
        if not answer.ok:
            sys.exit(1)

    return run


@contextlib.contextmanager
def speaking() -> Iterator[TextIO]:
    """Give out the standard output to a command, and report its error.

    Connections are looked up as the API server does, so that those saved in the web UI are found.
    """
    # Airflow chooses its secrets backends at the first lookup in a process.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    with reported(), answers_only() as output:
        yield output


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn an error into one message on standard error and exit status 1."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)  # who read our answer has gone, and needs no message
    except (DlaError, OSError) as error:
        sys.stderr.write(f"airflow dla: {_said(error)}\n")
        sys.exit(1)


def _said(error: Exception) -> str:
    """Write an error; the system's own with its file first."""
    if isinstance(error, OSError) and not isinstance(error, DlaError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


@contextlib.contextmanager
def answers_only() -> Iterator[TextIO]:
    """Give out the standard output; whatever else is printed to it meanwhile goes to standard error.

    Airflow logs to the standard output, through handlers and loggers that keep hold of it, so
    not only the name is redirected but the file descriptor.
    """
    printed = sys.stdout
    printed.flush()
    encoding = getattr(printed, "encoding", None) or "utf-8"
    with os.fdopen(os.dup(1), "w", encoding=encoding, errors="replace") as answers, contextlib.redirect_stdout(sys.stderr):
        os.dup2(2, 1)
        try:
            yield answers
        finally:
            printed.flush()
            os.dup2(answers.fileno(), 1)
