"""Commands that know nothing of us: arguments become flags, metrics are read from what they print."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from .processes import die_with_parent
from .protocol import JobError, JobFile, JobFolder

_PLACE = re.compile(r"\{(inputs|outputs)\.([A-Za-z0-9._-]+)\}|\{(checkpoint|seed|threads)\}")
_CHUNK = 65_536


def flags(args: Mapping[str, Any], places: Mapping[str, str]) -> list[str]:
    """Write arguments as flags.

    Parameters
    ----------
    args : mapping
        True is a flag alone; False and None leave it out; a list repeats values after it.
    places : mapping
        What ``{inputs.train}``, ``{outputs.model}`` and ``{checkpoint}`` stand for.

    Examples
    --------
    >>> flags({"lr": 3e-4, "amp": True, "cpu": False, "layers": [64, 10], "data": "{inputs.train}"}, {"inputs.train": "/in/train"})
    ['--lr', '0.0003', '--amp', '--layers', '64', '10', '--data', '/in/train']
    """
    written: List[str] = []
    for name, value in args.items():
        if value is None or value is False:
            continue
        values = [] if value is True else value if isinstance(value, (list, tuple)) else [value]
        written += [f"--{name}", *(_word(item, places) for item in values)]
    return written


def _word(value: Any, places: Mapping[str, str]) -> str:
    if isinstance(value, str):
        return fill(value, places)
    return json.dumps(value)


def fill(text: str, places: Mapping[str, str]) -> str:
    """Put paths where a text names an input, an output or the checkpoint.

    Raises
    ------
    JobError
        If it names one that the job does not have; lists those it has.
    """

    def place(match: re.Match[str]) -> str:
        name = match[3] or f"{match[1]}.{match[2]}"
        if name not in places:
            raise JobError(f"args: {{{name}}} names nothing of this job; it has {', '.join(f'{{{known}}}' for known in places)}")
        return places[name]

    return _PLACE.sub(place, text)


def places_of(job: JobFile, folder: JobFolder) -> dict[str, str]:
    """Return what the placeholders of a job stand for: a path, or the address of what is streamed."""
    found: Dict[str, str] = {}
    for name, ref in job.inputs.items():
        found[f"inputs.{name}"] = str(folder.input(name)) if folder.input(name).exists() else str(ref.get("uri", ""))
    found.update({f"outputs.{name}": str(folder.output(name)) for name in job.outputs})
    return {**found, "checkpoint": str(folder.checkpoint), "seed": str(job.seed), "threads": str(job.threads)}


def argv(job: JobFile, folder: JobFolder) -> list[str]:
    """Return the whole command line; ``python`` is the Python that runs us.

    Raises
    ------
    JobError
        If the script it names is not in the code folder.
    """
    places = places_of(job, folder)
    words = [fill(word, places) for word in job.entrypoint]
    if words[0] in ("python", "python3"):
        words[0] = sys.executable
        _refuse_missing(words, folder.code)
    return [*words, *flags(job.args, places)]


def _refuse_missing(words: Sequence[str], code: Path) -> None:
    script = words[1] if len(words) > 1 and words[1].endswith(".py") else None
    if script is not None and not (code / script).exists():
        there = ", ".join(sorted(path.name for path in code.iterdir())[:20]) or "nothing"
        raise JobError(f"the script {script!r} is not in the job's code folder, which holds {there}; check code= and entrypoint=")


class Readings:
    """Reads metrics from bytes as they pass by.

    Parameters
    ----------
    patterns : mapping of metric to regular expression
        With one group, the number.
    found : callable
        Called with the metrics of each line that has any.
    """

    def __init__(self, patterns: Mapping[str, str], found: Callable[[Dict[str, float]], None]) -> None:
        self._patterns = {name: re.compile(pattern) for name, pattern in patterns.items()}
        self._found = found
        self._rest: Dict[int, bytes] = {}

    def feed(self, data: bytes, stream: int = 1) -> None:
        """Take the next bytes of a stream; a progress bar's carriage return ends a line, too."""
        *lines, rest = (self._rest.get(stream, b"") + data).replace(b"\r", b"\n").split(b"\n")
        # A line without an end must not grow for ever: numbers stand near the beginning or the end.
        self._rest[stream] = rest[-_CHUNK:]
        for line in lines:
            self._read(line[-_CHUNK:])

    def close(self) -> None:
        """Read the last line of each stream, which may lack its end."""
        for rest in self._rest.values():
            self._read(rest)

    def _read(self, line: bytes) -> None:
        if not line:
            return
        text = line.decode("utf-8", "replace")
        matches = [(name, pattern.search(text)) for name, pattern in self._patterns.items()]
        values = dict(_number(name, match[1]) for name, match in matches if match)
        values.pop("", None)
        if values:
            self._found(values)


def _number(name: str, text: str) -> tuple[str, float]:
    try:
        return name, float(text.strip().rstrip(",;%"))
    except ValueError:
        return "", 0.0


def run(words: Sequence[str], cwd: Path, readings: Readings | None) -> Tuple[int, bytes]:
    """Run a command in this process's group; return its status and the end of what it printed.

    Its output is read only when there are metrics to find in it: else it goes
    straight to the log, and a job that prints much costs us nothing. Where our streams
    are one file, one pipe keeps the order of what is printed; else they stay apart.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)  # the command has the same signal; we wait for what it does
    keeper = os.getpid()
    pipe = subprocess.PIPE if readings else None
    errors = subprocess.STDOUT if readings and os.path.sameopenfile(1, 2) else pipe
    try:
        child = subprocess.Popen(  # noqa: S603 - running the author's program is what we are for
            list(words), cwd=str(cwd), stdin=subprocess.DEVNULL, stdout=pipe, stderr=errors,
            preexec_fn=lambda: die_with_parent(keeper),  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip
    except (FileNotFoundError, PermissionError) as error:
        where = f"the code folder and PATH={os.environ.get('PATH', '')}"
        raise JobError(f"cannot run {words[0]!r}: {error.strerror}; it is looked for in {where}") from None
    tail = _passed_on(child, readings) if readings else b""
    return child.wait(), tail


def _passed_on(child: subprocess.Popen[bytes], readings: Readings) -> bytes:
    pipes = {1: child.stdout, 2: child.stderr}
    streams = {pipe.fileno(): stream for stream, pipe in pipes.items() if pipe is not None}
    tail = b""
    while streams:
        ready, _, _ = select.select(list(streams), [], [], 0.2)
        if not ready and child.poll() is not None:
            break  # a daemon that it left behind may hold a pipe open for ever
        for source in ready:
            data = os.read(source, _CHUNK)
            stream = streams[source] if data else streams.pop(source)
            _write_all(stream, data)
            readings.feed(data, stream)
            tail = (tail + data)[-_CHUNK:]
    readings.close()
    for pipe in pipes.values():
        if pipe is not None:
            pipe.close()
    return tail


def _write_all(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]
