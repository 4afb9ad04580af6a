"""``airflow dla jobs exec``: a command inside a job that runs."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import reported, speaking
from airflow_dla.errors import InvalidSpec, NotFound
from airflow_dla.runtime import Enterable


def execute(args: Namespace) -> None:
    """Run a command in a job's folder, environment and limits, on our own streams; end with its exit status."""
    with speaking():
        attempt, runtime = _found(args)
    with reported():
        words = args.command[1:] if args.command[:1] == ["--"] else args.command
        status = runtime.enter(attempt, words, terminal=os.isatty(0) and os.isatty(1))
    sys.exit(status)


def _found(args: Namespace) -> tuple[str, Enterable]:
    reach = Reach(args.conn_id)
    attempt = reach.attempt(args.job)
    runtime = reach.runtime_of(attempt, "a command can be run in it")
    if runtime is None or attempt.ended:
        raise NotFound(f"job {attempt.job} does not run: it {'has ended' if attempt.ended else 'waits'}; `jobs rerun --here` runs it again")
    if not isinstance(runtime, Enterable):
        raise InvalidSpec(f"job {attempt.job} is on a place where no command can be run in a job")
    return attempt.id, runtime
