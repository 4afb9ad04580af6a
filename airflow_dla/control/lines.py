"""Lines for the task log: what a job says, between it the runner's own lines, and why it waits."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_dla.specs import Reason

#: A line longer than this is passed on in pieces.
LONGEST: Final = 64 * 1024
#: Seconds between two lines about one wait: at least, and where only numbers in it differ.
_WAIT_LINE_S: Final = 10.0
_SAME_WAIT_LINE_S: Final = 300.0
_DAY_S: Final = 86_400.0
_NUMBER: Final = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of a job's log, taken apart.

    Parameters
    ----------
    lines : tuple of str
        What the program wrote.
    events : tuple of mapping
        What the runner said: ``{"kind": "metric", …}``.
    consumed : int
        Bytes; the next piece begins after them.
    errors : frozenset of int or None
        Which of the lines, from 0, came from standard error; None where nothing tells.
    """

    lines: tuple[str, ...] = ()
    events: tuple[Mapping[str, Any], ...] = field(default=())
    consumed: int = 0
    errors: frozenset[int] | None = None


def read(data: bytes, nonce: str, *, last: bool = False, errors: Sequence[tuple[int, int]] | None = None) -> Said:
    r"""Take apart a piece of a log, leaving an unfinished last line for the next time.

    Parameters
    ----------
    data : bytes
        From the offset where the last piece ended.
    nonce : str
        Tells the runner's lines from the program's.
    last : bool
        Nothing more will come: take the unfinished line, too.
    errors : sequence of (int, int), optional
        Where in `data` standard error begins and ends: its lines and those of standard output do not mix.

    Examples
    --------
    >>> read(b'epoch 1\n::dla:n::{"kind": "metric", "name": "loss", "value": 1}\nepo', "n").events
    ({'kind': 'metric', 'name': 'loss', 'value': 1},)
    >>> read(b'epoch slow!\n1\nepo', "n", errors=[(6, 12)])
    Said(lines=('slow!', 'epoch 1'), events=(), consumed=14, errors=frozenset({0}))
    """
    end = len(data) if last or (len(data) > LONGEST and b"\n" not in data) else data.rfind(b"\n") + 1
    mark = f"::dla:{nonce}::"
    lines: list[str] = []
    events: list[Mapping[str, Any]] = []
    marked: set[int] = set()
    for error, raw in _lines(data[:end], errors or ()):
        text = raw.decode("utf-8", "backslashreplace").rstrip("\r")
        before, found, said = text.partition(mark)
        event = _event(said) if found else None
        if event is not None:
            events.append(event)
        if before or event is None:
            marked.update([len(lines)] if error else ())
            lines.append(before if event is not None else text)
    return Said(tuple(lines), tuple(events), end, None if errors is None else frozenset(marked))


def _lines(data: bytes, errors: Sequence[tuple[int, int]]) -> Iterator[tuple[bool, bytes]]:
    """Yield the lines of each stream when they end, and whether it is standard error; what has no end comes last."""
    begun = {False: b"", True: b""}
    for error, run in _runs(data, errors):
        *whole, begun[error] = (begun[error] + run).split(b"\n")
        yield from ((error, line) for line in whole)
    yield from ((error, line) for error, line in begun.items() if line)


def _runs(data: bytes, errors: Sequence[tuple[int, int]]) -> Iterator[tuple[bool, bytes]]:
    at = 0
    for begin, end in errors:
        yield False, data[at:begin]
        yield True, data[begin:end]
        at = end
    yield False, data[at:]


def _event(said: str) -> Mapping[str, Any] | None:
    try:
        event = json.loads(said)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def metric_line(event: Mapping[str, Any]) -> str:
    """Write what a function measured as a line for people; empty for any other event.

    Examples
    --------
    >>> metric_line({"kind": "metric", "step": 3, "values": {"loss": 0.25, "lr": 1e-4}})
    'step 3: loss=0.25 lr=0.0001'
    """
    values = event.get("values")
    if event.get("kind") != "metric" or not isinstance(values, Mapping):
        return ""
    step = f"step {event['step']}: " if event.get("step") is not None else ""
    return step + " ".join(f"{name}={value:.6g}" for name, value in values.items() if isinstance(value, (int, float)))


def waiting_line(reason: Reason, now: float) -> str:
    """Write why a job waits, and in this host's time when it is expected to start.

    Parameters
    ----------
    reason : `Reason`
    now : float
        Seconds since the epoch.

    Examples
    --------
    >>> waiting_line(Reason(binding="cpu", text="number 2: needs 1 more cpu"), 0.0)
    'Waiting for resources: number 2: needs 1 more cpu'
    """
    line = f"Waiting for resources: {reason.text}"
    start = reason.expected_start
    if start is None or start <= now:
        return line
    form = "%H:%M %Z" if start - now < _DAY_S else "%Y-%m-%d %H:%M %Z"
    return f"{line} (expected to start about {time.strftime(form, time.localtime(start))})"


@dataclass(slots=True)
class WaitingLines:
    """Lets a line through when why a job waits has changed, not whenever a number in it has.

    Positions and forecasts move with every round.
    """

    essence: str = ""
    line: str = ""
    at: float = float("-inf")

    def admit(self, reason: Reason, now: float, monotonic: float) -> list[str]:
        """Return the line to say, if any.

        Parameters
        ----------
        reason : `Reason`
        now : float
            Seconds since the epoch.
        monotonic : float
            Seconds; the times between two lines are measured by it.
        """
        line, essence = waiting_line(reason, now), _NUMBER.sub("#", reason.text)
        pause_s = _SAME_WAIT_LINE_S if essence == self.essence else _WAIT_LINE_S
        if line == self.line or monotonic - self.at < pause_s:
            return []
        self.essence, self.line, self.at = essence, line, monotonic
        return [line]


@dataclass(slots=True)
class RateCap:
    """Lets so many bytes of log a second through, on average, and counts the rest.

    Parameters
    ----------
    rate : float
        Bytes a second.
    burst : float
        Bytes that may come at once.
    """

    rate: float = 64 * 1024
    burst: float = 1024 * 1024
    left: float = 1024 * 1024
    at: float = 0.0
    dropped: int = 0

    def admit(self, line: str, now: float) -> list[str]:
        """Return what of a line may pass at a time (monotonic seconds), after a note when some before it did not."""
        self.left = min(self.burst, self.left + self.rate * max(0.0, now - self.at))
        self.at = now
        passed: list[str] = []
        for piece in _pieces(line):
            if len(piece) > self.left:
                self.dropped += len(piece) + 1
                continue
            self._note(passed)
            self.left -= len(piece) + 1
            passed.append(piece)
        return passed

    def flush(self) -> list[str]:
        """Return the note about lines that were left out, if any were."""
        passed: list[str] = []
        self._note(passed)
        return passed

    def _note(self, passed: list[str]) -> None:
        if self.dropped:
            passed.append(
                f"[{self.dropped} bytes of log left out here: more than {self.rate / 1024:g} KiB/s; the whole log: airflow dla jobs logs]"
            )
            self.dropped = 0


def _pieces(line: str) -> list[str]:
    return [line[i : i + LONGEST] for i in range(0, len(line), LONGEST)] or [""]
