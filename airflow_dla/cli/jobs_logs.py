"""``airflow dla jobs logs``: what a job wrote, a slice at a time, however much it is."""

from __future__ import annotations

import itertools
import json
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Final, TextIO

from airflow_dla.cli.reach import Reach
from airflow_dla.cli.running import speaking
from airflow_dla.control.lines import Said, read
from airflow_dla.errors import InvalidSpec
from airflow_dla.ledger import Attempt
from airflow_dla.runtime import LogSlice, Runtime

#: Seconds between two looks at a job that is waited for.
_LOOK_S: Final = 0.2
#: Seconds without a word after which what a running job has written so far is taken for complete.
_QUIET_S: Final = 0.6
_BOTH: Final = "both"
_STDERR: Final = "stderr"


def logs(args: Namespace) -> None:
    """Print a job's log as it comes, with ``--json`` as one document."""
    with speaking() as output:
        lines = _lines(args)
        if args.json:
            _write_document(output, args.job, lines)
            return
        for line in lines:
            output.write(f"{line}\n")
            output.flush()


def _write_document(output: TextIO, job: str, lines: Iterator[str]) -> None:
    """Write one document without holding it; nothing where the first line cannot be had."""
    found = itertools.chain([first] if (first := next(lines, None)) is not None else [], lines)
    output.write(f'{{"job": {json.dumps(job)}, "lines": [')
    output.writelines(f"{', ' if number else ''}{json.dumps(line)}" for number, line in enumerate(found))
    output.write("]}\n")


def _lines(args: Namespace) -> Iterator[str]:
    """Yield the lines that a program wrote, without the runner's own."""
    reach = Reach(args.conn_id)
    attempt = reach.attempt(args.job)
    while args.follow and not attempt.ended and attempt.grant is None:
        time.sleep(_LOOK_S)
        attempt = reach.attempt(attempt.id)
    runtime = reach.runtime_of(attempt, "its log is")
    if runtime is None:
        return
    nonce = reach.workspace().nonce(attempt.id)
    for said in follow(runtime, attempt.id, nonce, _more(reach, runtime, attempt, follow=args.follow)):
        yield from said.lines if args.stream == _BOTH else _of(args.stream, said, attempt)


def _of(stream: str, said: Said, attempt: Attempt) -> Iterator[str]:
    """Yield the lines that were written to one stream."""
    if said.errors is None:
        where = attempt.grant.node if attempt.grant is not None else "its node"
        raise InvalidSpec(
            f"--stream {stream}: the log of {attempt.id} is one stream, since {where} does not tell standard error from standard output; "
            "leave --stream out, or run the job in a container (image=)"
        )
    yield from (line for number, line in enumerate(said.lines) if (number in said.errors) == (stream == _STDERR))


def _more(reach: Reach, runtime: Runtime, attempt: Attempt, *, follow: bool) -> Callable[[], bool]:
    """Return what tells whether to wait for more of a log that has no more just now."""
    until = time.monotonic() + _QUIET_S

    def more() -> bool:
        if not follow and time.monotonic() >= until:
            return False
        return not reach.attempt(attempt.id).ended and runtime.status(attempt.id).exit is None

    return more


def follow(runtime: Runtime, attempt: str, nonce: str, more: Callable[[], bool]) -> Iterator[Said]:
    """Yield a log in pieces; every byte is asked for once, since a place may have to begin anew for one that it gave before.

    Parameters
    ----------
    runtime : `Runtime`
    attempt : str
    nonce : str
        Tells the runner's lines from the program's.
    more : callable
        Asked whenever there is nothing: whether there may be more later.
    """
    rest, offset, last = LogSlice(b"", 0), 0, False
    while True:
        piece = runtime.logs(attempt, offset)
        offset = piece.offset
        rest = _joined(rest, piece)
        said = read(rest.data, nonce, last=last and not piece.data, errors=rest.errors)
        rest = _after(rest, said.consumed)
        if said.consumed:
            yield said
        if piece.data:
            continue
        if last:
            return
        # What it wrote between our look at the log and its end is still to be read.
        last = not more()
        if not last:
            time.sleep(_LOOK_S)


def _joined(rest: LogSlice, piece: LogSlice) -> LogSlice:
    """Put a piece behind what is left of those before it."""
    if not rest.data or not piece.data:
        return piece if piece.data else rest
    errors = [(begin + len(rest.data), end + len(rest.data)) for begin, end in piece.errors or ()]
    return LogSlice(rest.data + piece.data, piece.offset, None if piece.errors is None else (*(rest.errors or ()), *errors))


def _after(piece: LogSlice, size: int) -> LogSlice:
    """Leave out the beginning of a piece."""
    left = None if piece.errors is None else tuple((max(begin - size, 0), end - size) for begin, end in piece.errors if end > size)
    return LogSlice(piece.data[size:], piece.offset, left)
