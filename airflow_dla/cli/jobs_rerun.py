"""``airflow dla jobs rerun JOB --here``: what a recorded attempt ran, once more, for whoever wants to know why."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TextIO

import airflow_dla
from airflow_dla.cli.answer import listing, metrics
from airflow_dla.cli.reach import Reach
from airflow_dla.cli.reruns import Rerun, prepared
from airflow_dla.cli.running import reported, speaking
from airflow_dla.control.lines import Said, metric_line
from airflow_dla.errors import JobFailed
from airflow_dla.runtime.files import write_whole
from airflow_dla.specs import Exit
from airflow_dla.specs.agents import Entrypoint

_READY: Final = "ready"
#: What waits where a job would run, for a shell beside it.
_WAITER: Final = ("sh", "-c", f"echo {_READY}; exec sleep 2147483647")


def rerun(args: Namespace) -> None:
    """Run an attempt once more on this machine; end with its exit status."""
    with speaking() as output:
        again = prepared(args, Reach(args.conn_id), _say)
        if not args.shell:
            sys.exit(_run(again, args, output))
        _wait_within(again, in_image=args.in_image)
    with reported(), _stopped_with_us(again):
        status = again.enter(terminal=os.isatty(0) and os.isatty(1))
        again.stop()
        again.done()
    sys.exit(status)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _run(again: Rerun, args: Namespace, output: TextIO) -> int:
    with _stopped_with_us(again):
        again.start(again.launch, _say)
        _print(again.said(), sys.stderr if args.json else output)
    end = again.ended()
    assert end is not None
    again.done()
    if end.succeeded and not args.keep:
        _tidy(again.folder)
    if args.json:
        output.write(f"{json.dumps(_document(again, end))}\n")
    else:
        _say(_text(again, end))
    return _status(end)


def _print(said: Iterator[Said], output: TextIO) -> None:
    for piece in said:
        output.writelines(f"{line}\n" for line in (*piece.lines, *filter(None, map(metric_line, piece.events))))
        output.flush()


@contextlib.contextmanager
def _stopped_with_us(again: Rerun) -> Iterator[None]:
    """Stop the job when we are: what keeps it outlives us."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except BaseException:
        _say(f"stopping; it has {again.launch.job.grace_s:g} s to end")
        again.stop()
        again.done()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_within(again: Rerun, *, in_image: bool) -> None:
    """Put all in place, with a process that waits where the job would run.

    Raises
    ------
    JobFailed
        If it cannot be put in place; says why.
    """
    job = again.launch.job
    waiter = replace(job, entrypoint=Entrypoint(command=_WAITER), args={}, metrics={}, grace_s=1.0, run_timeout_s=None)
    with _stopped_with_us(again):
        again.start(replace(again.launch, job=waiter), _say)
        if not any(_READY in piece.lines for piece in again.said()):
            end = again.ended()
            raise JobFailed(f"{again.recorded.id} cannot be put in place here: {end.message if end else 'nothing waits'}")
        write_whole(again.folder / "job.json", job.to_mapping())
    python, agents = ("python3", "/opt/dla/agents") if in_image else (sys.executable, Path(airflow_dla.__file__).parent / "agents")
    _say(f"{again.folder} is as the job finds it; this runs it:\n  {python} {agents} run {again.seen}")


# --- what came of it -----------------------------------------------------------------


def _tidy(folder: Path) -> None:
    for name in ("in", "tmp", "code", ".checkpoint"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _same(again: Rerun, end: Exit) -> dict[str, bool]:
    """Say of each output and metric that was recorded whether it is the same."""
    recorded = again.recorded.exit
    if recorded is None or not recorded.succeeded:
        return {}
    outputs = {name: name in end.outputs and end.outputs[name].digest == ref.digest for name, ref in recorded.outputs.items()}
    return {**outputs, **{name: end.metrics.get(name) == value for name, value in recorded.metrics.items()}}


def _document(again: Rerun, end: Exit) -> dict[str, Any]:
    return {
        "attempt": again.recorded.id,
        "folder": str(again.folder),
        "exit": end.to_mapping(),
        "same": _same(again, end),
    }


def _text(again: Rerun, end: Exit) -> str:
    same = _same(again, end)
    other = ", ".join(name for name, equal in same.items() if not equal)
    return listing(
        {
            "rerun of": again.recorded.id,
            "ended": end.reason.value,
            "message": end.message or None,
            "metrics": metrics(end.metrics),
            "outputs": ", ".join(f"{name} {ref.digest}" for name, ref in end.outputs.items()) or None,
            "as recorded": None if not same else f"all but {other}" if other else "all of it",
            "folder": again.folder,
        }
    )


def _status(end: Exit) -> int:
    if end.succeeded:
        return 0
    return end.code or (128 + end.signal if end.signal else 1)
